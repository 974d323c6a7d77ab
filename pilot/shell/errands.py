"""What is said to the queue: claims, reports and returns by the batch, heartbeats, looks."""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pilot.model.capability import Offer
from pilot.model.facts import Acknowledged, Fact, Granted, Nothing, Returned
from pilot.model.faults import Code, fault
from pilot.model.orders import Kind
from pilot.model.report import Report
from pilot.ports import Beat, BeatReply, ClaimRequest, PortError, Server, Unclaim
from pilot.shell.crew import Task
from pilot.shell.doors import granted

LOOK_EVERY = 0.33  # seconds between two looks at an empty queue: a third of a second costs under 0.1 % of a core
LOOK_FOR = 10.0  # seconds after which a look ends, changed or not
LONG_LOOK = 25.0  # seconds that a queue at a distance may wait with its answer: what proxies and load balancers bear


@dataclass(frozen=True, slots=True)
class Beaten:
    """The answer to a heartbeat that was asked at `asked` (boot clock); no replies and a reason if it failed."""

    asked: float
    replies: tuple[BeatReply, ...] = ()
    problem: str = ""
    code: Code = Code.SERVER_UNREACHABLE


@dataclass(frozen=True, slots=True)
class Looked:
    """Whether asking for work again may help; the reason if that could not be seen."""

    changed: bool
    problem: str = ""
    code: Code = Code.SERVER_UNREACHABLE


class Errands:
    """Runs between the loop and the queue; heartbeats have a connection of their own, `pulse`.

    Three connections in all: claims, reports and returns; heartbeats; looks, which the queue may answer late. `poll` is
    how often a queue at hand is looked at within one look; 0 asks a queue at a distance once, and lets it wait.
    """

    def __init__(self, server: Server, pulse: Server, offer: Callable[[], Offer], poll: float = LOOK_EVERY) -> None:
        self._server = server
        self._pulse = pulse
        self._poll = poll
        self._stir = threading.Event()
        self._over = False
        self._offer = offer

    def serve(self, tasks: list[Task]) -> list[Fact]:
        """One call for all of a kind."""
        return {Kind.CLAIM: self._claim, Kind.REPORT: self._report, Kind.RETURN: self._return}[tasks[0].order.kind](
            tasks
        )

    def _claim(self, tasks: list[Task]) -> list[Fact]:
        offer = self._offer()
        grants = self._server.claim([ClaimRequest(each.order.key, offer) for each in tasks])
        return [
            Granted(task.order.key, task.order.ticket, grant) if grant else Nothing(task.order.key, task.order.ticket)
            for task, grant in zip(tasks, grants, strict=True)
        ]

    def _report(self, tasks: list[Task]) -> list[Fact]:
        reports = [_report_of(each) for each in tasks]
        accepted = self._server.report(reports)
        self._stir.set()
        return [
            Acknowledged(task.order.key, task.order.ticket, ours) for task, ours in zip(tasks, accepted, strict=True)
        ]

    def _return(self, tasks: list[Task]) -> list[Fact]:
        self._server.give_back([_unclaim(each) for each in tasks])
        self._stir.set()
        return [Returned(each.order.key, each.order.ticket) for each in tasks]

    def beat(self, beats: Sequence[Beat], asked: float) -> Beaten:
        """One heartbeat for all attempts."""
        try:
            return Beaten(asked, tuple(self._pulse.renew(beats)))
        except PortError as problem:
            return Beaten(asked, problem=problem.fault.detail or problem.fault.message, code=problem.fault.code)

    def adopt(self, beats: Sequence[Beat], asked: float) -> Beaten:
        """Asks for attempts of an earlier pilot of this state directory again."""
        try:
            return Beaten(asked, tuple(self._pulse.adopt(self._offer().pilot_id, beats)))
        except PortError as problem:
            return Beaten(asked, problem=problem.fault.detail or problem.fault.message, code=problem.fault.code)

    def look(self) -> Looked:
        """Watches an empty queue until it changes, for a while; costs the deciding thread nothing meanwhile."""
        try:
            return Looked(self._watched() if self._poll else self._server.changed(LONG_LOOK))
        except PortError as problem:
            return Looked(False, problem.fault.detail or problem.fault.message, problem.fault.code)

    def _watched(self) -> bool:
        until = time.monotonic() + LOOK_FOR
        while not self._over and time.monotonic() < until:
            self._stir.clear()
            if self._server.changed():
                return True
            self._stir.wait(self._poll)
        return False

    def close(self) -> None:
        """Ends a look that is under way, but for a queue that waits with its answer: nobody waits for that one."""
        self._over = True
        self._stir.set()


def _unclaim(task: Task) -> Unclaim:
    grant = task.job.grant
    if grant is None:
        return Unclaim(task.order.key)
    return Unclaim(task.order.key, grant.job_id, grant.attempt, grant.receipt)


def _report_of(task: Task) -> Report:
    if task.report is None:
        raise LookupError(f"{granted(task.job).job_id}: no report was drawn")
    return task.report


NOT_OURS = fault(Code.SERVER_REFUSED, "the attempt is no longer ours")
LEASE_LOST = fault(Code.SERVER_UNREACHABLE, "the lease was lost: the queue did not answer for too long")
