"""What must hold of every step of a job, of every state, and at its end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pilot.core import lifecycle
from pilot.model import facts
from pilot.model.facts import Answer, Ending, Fact
from pilot.model.faults import Code, fault
from pilot.model.files import What
from pilot.model.job import Cause, Grant, Job, JobSpec, Phase, Verdict
from pilot.model.orders import GiveBack, Kind, Order

if TYPE_CHECKING:
    from tests.unit.core.explorer import Seat

PHASES = list(Phase)
EXTERNAL = frozenset({Kind.STORE, Kind.STORE_CHECKPOINT, Kind.REPORT, Kind.RETURN})
STALE = 10**9  # a ticket that is never open


class Broken(Exception):
    """A law does not hold."""


def demand(holds: object, law: str) -> None:
    if not holds:
        raise Broken(law)


def of_a_step(seat: Seat, holds: bool, fact: Fact, after: Job, orders: Sequence[Order | GiveBack]) -> None:
    """`seat` is the world's truth as the fact comes in, its job still as before; `holds`: the share is cut for it."""
    before = seat.job
    demand(PHASES.index(after.phase) >= PHASES.index(before.phase), "phases never go back")
    allowed = (before.verdict, (before.verdict, after.verdict) == (Verdict.SUCCEEDED, Verdict.FAILED) and after.verdict)
    demand(before.verdict is None or after.verdict in allowed, "the first verdict stands")
    _tickets(before, fact, after, [each for each in orders if isinstance(each, Order)])
    _processes(seat, holds, after, orders)
    _words(seat, before, after, [each for each in orders if isinstance(each, Order)])


def _tickets(before: Job, fact: Fact, after: Job, orders: list[Order]) -> None:
    kinds = [kind for kind, _ in after.open]
    demand(len(kinds) == len(set(kinds)), "one open order of a kind")
    demand(all(before.tickets < each.ticket <= after.tickets for each in orders), "tickets are fresh")
    demand(len({each.ticket for each in orders}) == len(orders), "tickets are unique")
    demand(all((each.kind, each.ticket) in after.open for each in orders), "every order is remembered")
    known = {*before.open, *((each.kind, each.ticket) for each in orders)}
    demand(set(after.open) <= known, "nothing is awaited that was not ordered")
    if isinstance(fact, facts.Recovered):
        return
    answered = fact.ticket if isinstance(fact, Answer) else None
    dropped = [kind for kind, ticket in set(before.open) - set(after.open) if ticket != answered]
    demand(set(dropped) == {each.abandons for each in orders if each.abandons}, "what is given up is abandoned by name")


def _processes(seat: Seat, holds: bool, after: Job, orders: Sequence[Order | GiveBack]) -> None:
    runs = "runs" in (seat.payload, seat.check)
    left = "left" in seat.payload + seat.check
    back = [each for each in orders if isinstance(each, GiveBack)]
    demand(len(back) <= 1, "a share comes back once")
    if back:
        demand(holds, "only a held share comes back")
        demand(not runs, "no share comes back while a process may run")
        demand(back[0].retire or not left, "what may still be used is retired")
        demand(back[0].retire or not after.tainted, "a tainted job retires its share")
        demand(not after.holds_share, "what came back is not held")
    kinds = {each.kind for each in orders if isinstance(each, Order)}
    if kinds & {Kind.START, Kind.ADOPT, Kind.VALIDATE}:
        demand(holds and after.holds_share, "what runs holds a share")
    if after.phase in (Phase.STAGING_OUT, Phase.PARKED, Phase.CLOSED):
        demand(not after.holds_share, "a job past its payload holds no share")
        demand(not runs, "no job is past its payload while a process runs")


def _words(seat: Seat, before: Job, after: Job, orders: list[Order]) -> None:
    """What is told to the world outside."""
    kinds = {each.kind for each in orders}
    if after.grant and after.cause is Cause.FENCED:
        demand(not kinds & EXTERNAL, "a fenced job orders no external write")
        demand(
            not {kind for kind, _ in after.open} & {Kind.STORE, Kind.STORE_CHECKPOINT}, "fenced: writes are abandoned"
        )
    if after.verdict is Verdict.SUCCEEDED:
        demand(seat.payload.startswith("well"), "no success of a payload that did not end well")
        demand(not after.spec.validate or seat.check.startswith("valid"), "no success without validation")
        demand(after.keeps is What.ALL, "a success keeps all outputs")
    if Kind.REPORT in kinds:
        demand(after.verdict is not None, "a report has a verdict")
        demand(after.verdict is not Verdict.SUCCEEDED or seat.stored == What.ALL, "no success without stored outputs")
        demand(after.fault is not None or after.verdict is Verdict.SUCCEEDED, "what did not succeed has a fault")
    if after.phase is Phase.CLOSED is not before.phase and after.grant:
        told = kinds & {Kind.REPORT, Kind.RETURN} or after.cause is Cause.FENCED
        demand(told, "a granted job is reported, returned or fenced")
        demand(Kind.SWEEP in kinds, "a granted job is swept")


def of_stale_answers(job: Job) -> None:
    """An answer to what was given up, or to a dead pilot, changes nothing."""
    for fact in STALE_ANSWERS:
        demand(lifecycle.advance(job, fact) == (job, ()), f"a stale {type(fact).__name__} is dropped")


def at_the_end(seats: Sequence[Seat], share_is_back: bool) -> None:
    """Every job is closed and nothing is on its way."""
    demand(share_is_back, "at the end the share is back")
    for seat in seats:
        demand(seat.job.grant is None or seat.queue != "granted", "the queue knows what became of a granted job")
        demand(seat.queue != "granted", "a claim that was granted unheard is given back")
        demand(seat.job.verdict is not Verdict.SUCCEEDED or seat.queue in ("reported", "lost"), "a success is told")


STALE_ANSWERS: tuple[Fact, ...] = (
    facts.Granted("0", STALE, Grant("1", 1, JobSpec("n", ("true",)), 60.0)),
    facts.Nothing("0", STALE),
    facts.Arrived("0", STALE),
    facts.Exited("0", STALE, Ending("started", exit_code=0)),
    facts.Stopped("0", STALE),
    facts.Saved("0", STALE, True),
    facts.Validated("0", STALE, True),
    facts.Stored("0", STALE),
    facts.Acknowledged("0", STALE),
    facts.Returned("0", STALE),
    facts.Swept("0", STALE),
    *(facts.Broke("0", STALE, kind, fault(Code.PILOT_DEADLINE), False) for kind in Kind),
)
