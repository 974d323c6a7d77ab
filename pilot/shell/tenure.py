"""Heartbeats: the attempts in hand stay ours until the queue says that they are not.

A queue that is silent has not said so. What can no longer be trusted writes nothing outside and runs on, and heartbeats
go on being tried; only a very long silence (`core/timing`) ends it.

A heartbeat carries what was last seen of each payload, and the answers to what the queue asked. What is to be seen is
looked for a moment before, in a lane of its own, so no file system can delay a heartbeat. The answer to a new question
brings the next heartbeat forward; a question that is only repeated is answered with the next regular one.
"""

from collections.abc import Callable, Iterable

from pilot.model.facts import End, Fact
from pilot.model.faults import Code, Fault, fault
from pilot.model.job import Cause, Job
from pilot.ports import Beat, BeatReply, Vitals
from pilot.shell.crew import Crew
from pilot.shell.desk import Desk
from pilot.shell.errands import LEASE_LOST, NOT_OURS, Beaten
from pilot.shell.eyes import Seen, later
from pilot.shell.leases import Leases
from pilot.shell.timers import Timers

Apply = Callable[[Fact], None]
Post = Callable[[Beaten | Seen], None]
LOOK_BEFORE = 1.0  # seconds before a heartbeat; what cannot be seen in that time goes with the next one
_OURS = frozenset({Code.CREDENTIAL_EXPIRED, Code.CREDENTIAL_REFUSED})  # the queue did answer, but not to us
HURRY_SECONDS = 1.0  # between heartbeats, however many questions the queue has


class Tenure:
    """Renews every lease in the crew's own lane, one heartbeat at a time; ends what is lost."""

    def __init__(
        self, desk: Desk, timers: Timers, now: Callable[[], float], apply: Apply, phase_pause: float = 0.0
    ) -> None:
        self.leases = Leases()
        self._desk = desk
        self._timers = timers
        self._now = now
        self._apply = apply
        self._beating = False
        self._failures = 0
        self._why = LEASE_LOST  # what the last heartbeat failed of
        self._phase_pause = phase_pause  # 0 = phases are told with the regular heartbeats
        self._moved = False  # a job is in another phase than the queue was told
        self._adopting = False  # until the queue has heard that this pilot took over from an earlier one
        self._looking = False
        self._asked = 0.0
        self._vitals: dict[str, Vitals] = {}
        self._questions: dict[str, str] = {}  # the last one of each attempt
        self._answers: dict[str, str] = {}  # not heard by the queue yet
        self._told: dict[str, str] = {}  # answers on their way
        self._urgent: set[str] = set()

    def plan(self, beat: Callable[[], None], look: Callable[[], None]) -> None:
        """Sets the alarms for the next heartbeat, the look before it, and the first attempt given up without it."""
        due, loss = self.leases.next_beat(), self.leases.next_loss()
        if due is not None and not self._beating and "beat" not in self._timers:
            self._timers.set("beat", due, beat)
            self._timers.set("eyes", due - LOOK_BEFORE, look)
        if self._moved and not self._beating and not self._failures:
            soon = max(self._now(), self._asked + self._phase_pause)
            self._timers.set("beat", soon if due is None else min(soon, due), beat)
        if loss is not None:
            self._timers.set("loss", loss, lambda: self._end_lost(beat))

    def moved(self) -> None:
        """A job is in another phase: a queue that wants to know is told once the facts behind it are on disk."""
        self._moved = self._phase_pause > 0

    def forget(self, key: str) -> None:
        """The attempt is over."""
        self.leases.drop(key)
        self._urgent.discard(key)
        for each in (self._vitals, self._questions, self._answers):
            each.pop(key, None)

    # --- heartbeats ----------------------------------------------------------------------------------------

    def beat(self, jobs: Iterable[Job], crew: Crew, post: Post, adopting: bool = False) -> None:
        """Asks for all attempts at once; `adopting` asks for those of an earlier pilot again."""
        self._adopting = self._adopting or adopting
        beats = [self._beat_of(each) for each in jobs if each.grant is not None]
        if self._beating or not beats:
            return
        self._beating, self._moved = True, False
        self._told = dict(self._answers)
        self._timers.cancel("beat")
        asked = self._asked = self._now()
        ask = self._desk.errands.adopt if self._adopting else self._desk.errands.beat
        crew.beat(lambda: post(ask(beats, asked)), lambda why: post(_lost(asked, why)))

    def unheard(self) -> bool:
        """Whether the last heartbeat failed: the next one waits for its time, however much it is wanted."""
        return self._failures > 0

    def heard(self, beaten: Beaten, again: Callable[[], None]) -> bool:
        """Whether the queue answered; if not, it is tried again after growing delays."""
        self._beating = False
        if beaten.problem:
            chance = self._desk.unit_random()
            self._timers.set("beat", self.leases.beat_again(self._failures, self._now(), chance), again)
            self._failures += 1
            self._why = fault(beaten.code, f"the lease was lost: {beaten.problem}")
            return False
        self._failures = 0
        self._adopting = False
        self._heard_answers(again)
        return True

    def settle(self, key: str, reply: BeatReply, asked: float) -> bool:
        """Whether that attempt is still ours; carries out what the reply commands."""
        if not reply.ours:
            self.leases.drop(key)
            self._apply(End(key, Cause.FENCED, NOT_OURS))
            return False
        self.leases.take(key, asked, reply.lease_seconds)
        return True

    def _end_lost(self, beat: Callable[[], None]) -> None:
        """Gives up what nobody renewed for so long; after a suspension the queue is asked first."""
        if self.leases.overslept(self._now()):
            self.leases.doubt(self._now())
            beat()
            return
        for key in self.leases.lost(self._now()):
            self.leases.drop(key)
            self._apply(End(key, Cause.FENCED, self._why if self._failures and self._why.code in _OURS else LEASE_LOST))

    def _beat_of(self, job: Job) -> Beat:
        if job.grant is None:
            raise LookupError(f"{job.key}: not granted")
        seen = self._vitals.get(job.key, Vitals())
        grant, answer = job.grant, self._answers.get(job.key, "")
        return Beat(grant.job_id, grant.attempt, job.phase.value, seen.progress, grant.receipt, seen.usage, answer)

    # --- what the queue is told beside ---------------------------------------------------------------------

    def look(self, jobs: Iterable[Job], crew: Crew, post: Post) -> None:
        """Looks how the payloads get on, unless the last look still hangs."""
        known = tuple(jobs)
        if not self._looking and known:
            self._looking = True
            crew.see(lambda: post(self._desk.eyes.vitals(known)), lambda _: post(Seen()))

    def ask(self, job: Job, question: str, crew: Crew, post: Post) -> None:
        """The queue wants to see something of that job, or nothing (any more)."""
        if question and question != self._questions.get(job.key):
            self._urgent.add(job.key)
        self._questions[job.key] = question
        if question:
            crew.see(lambda: post(self._desk.eyes.answer(job, question)), lambda why: post(_unseen(job, why)))

    def seen(self, seen: Seen, beat: Callable[[], None]) -> None:
        """Keeps what was seen for the next heartbeat."""
        if not seen.answers:
            self._looking = False
        for key, vitals in seen.vitals.items():
            self._vitals[key] = later(self._vitals.get(key), vitals)
        self._answers.update(seen.answers)
        self._hurry(beat)

    def _heard_answers(self, beat: Callable[[], None]) -> None:
        for key, answer in self._told.items():
            if self._answers.get(key) == answer:
                del self._answers[key]
                self._urgent.discard(key)
        self._hurry(beat)

    def _hurry(self, beat: Callable[[], None]) -> None:
        if not self._urgent.isdisjoint(self._answers) and not self._beating:
            self._timers.set("beat", max(self._now(), self._asked + HURRY_SECONDS), beat)


def _lost(asked: float, why: Fault) -> Beaten:
    return Beaten(asked, problem=why.detail or why.message, code=why.code)


def _unseen(job: Job, why: Fault) -> Seen:
    return Seen(answers={job.key: f"{why.message}: {why.detail}"[:200]})
