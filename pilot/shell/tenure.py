"""Heartbeats: the attempts in hand stay ours as long as the queue says so, and no longer."""

from collections.abc import Callable, Iterable

from pilot.model.facts import End, Fact
from pilot.model.faults import Code, fault
from pilot.model.job import Cause, Job
from pilot.ports import Beat, BeatReply
from pilot.shell.crew import Crew
from pilot.shell.errands import LEASE_LOST, Beaten, Errands
from pilot.shell.leases import Leases
from pilot.shell.timers import Timers

Apply = Callable[[Fact], None]


class Tenure:
    """Renews every lease in the crew's own lane, one heartbeat at a time; ends what is lost."""

    def __init__(self, errands: Errands, timers: Timers, now: Callable[[], float], apply: Apply) -> None:
        self.leases = Leases()
        self._errands = errands
        self._timers = timers
        self._now = now
        self._apply = apply
        self._beating = False

    def plan(self, beat: Callable[[], None]) -> None:
        """Sets the alarms for the next heartbeat and for the first lease that would be lost without it."""
        due, loss = self.leases.next_beat(), self.leases.next_loss()
        if due is not None and not self._beating and "beat" not in self._timers:
            self._timers.set("beat", due, beat)
        if loss is not None:
            self._timers.set("loss", loss, lambda: self._end_lost(beat))

    def beat(self, jobs: Iterable[Job], crew: Crew, post: Callable[[Beaten], None], adopting: bool = False) -> None:
        """Asks for all attempts at once; `adopting` asks for those of an earlier pilot again."""
        beats = [_beat_of(each) for each in jobs if each.grant is not None]
        if self._beating or not beats:
            return
        self._beating = True
        self._timers.cancel("beat")
        asked = self._now()
        ask = self._errands.adopt if adopting else self._errands.beat
        crew.beat(lambda: post(ask(beats, asked)))

    def heard(self, beaten: Beaten, again: Callable[[], None]) -> bool:
        """Whether the queue answered; if not, the next try is not far."""
        self._beating = False
        if beaten.problem:
            self._timers.set("beat", self._now() + self.leases.patience(), again)
        return not beaten.problem

    def settle(self, key: str, reply: BeatReply, asked: float) -> bool:
        """Whether that attempt is still ours; carries out what the reply commands."""
        if not reply.ours:
            self.leases.drop(key)
            self._apply(End(key, Cause.FENCED, fault(Code.SERVER_REFUSED, "the attempt is no longer ours")))
            return False
        self.leases.take(key, asked, reply.lease_seconds)
        return True

    def _end_lost(self, beat: Callable[[], None]) -> None:
        """What was lost while the pilot was suspended may still be ours: the queue is asked first, once."""
        if self.leases.overslept(self._now()):
            self.leases.doubt(self._now())
            beat()
            return
        for key in self.leases.lost(self._now()):
            self.leases.drop(key)
            self._apply(End(key, Cause.FENCED, LEASE_LOST))


def _beat_of(job: Job) -> Beat:
    if job.grant is None:
        raise LookupError(f"{job.key}: not granted")
    return Beat(job.grant.job_id, job.grant.attempt, job.phase.value, receipt=job.grant.receipt)
