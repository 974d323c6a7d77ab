"""Threads do, one thread decides: this is the one.

A turn: take all that is in the inbox, ask the pure core what follows, put the facts on disk in one sync, and only
then hand the orders to the crew. The loop sleeps between turns until something arrives or an alarm is due.
"""

from collections.abc import Callable
from dataclasses import replace
from queue import Empty, SimpleQueue

from pilot.core import hearing
from pilot.core import ledger as books
from pilot.core.reporting import Dossier, draw_report
from pilot.core.steward import Stage, Steward, decide
from pilot.core.tally import tally
from pilot.core.timing import LAST_REPORT
from pilot.core.wishes import Claim, Drop, EndAll, Leave, Look, Wish
from pilot.model import facts
from pilot.model.capability import View
from pilot.model.facts import Fact
from pilot.model.faults import Code, fault
from pilot.model.job import Cause, Grant, Job, Phase, Verdict
from pilot.model.orders import GiveBack, Kind, Order
from pilot.model.report import Report
from pilot.model.visit import Notice, Summary
from pilot.ports import BeatReply, Line
from pilot.shell.alarms import Alarms
from pilot.shell.contact import Contact
from pilot.shell.crew import Crew
from pilot.shell.desk import Desk
from pilot.shell.doors import sound
from pilot.shell.errands import NOT_OURS, Beaten, Looked
from pilot.shell.eyes import Seen
from pilot.shell.outgoing import Outgoing
from pilot.shell.story import Held, fold, is_over, line_of, snapshot, step
from pilot.shell.tenure import Tenure
from pilot.shell.timers import Timers

Message = Fact | Beaten | Looked | Seen | Notice | Callable[[], None]


class Loop:
    """The deciding thread."""

    def __init__(self, desk: Desk, steward: Steward, ledger: books.Ledger) -> None:
        self._desk = desk
        self._steward = steward
        self._ledger = ledger
        self._inbox: SimpleQueue[Message] = SimpleQueue()
        self._held: dict[str, Held] = {}
        self._refused: dict[str, books.Ledger] = {}  # who waits for a share need not ask the same ledger twice
        self._timers = Timers()
        self._alarms = Alarms(self._timers, self._now, self._apply, desk.unit_random, desk.deadlines)
        self._outgoing = Outgoing(self._held, self._alarms, self._apply, desk.grace)
        self._tenure = Tenure(desk, self._timers, self._now, self._apply, steward.rules.phase_pause)
        self._contact = Contact(desk.ears.on_event, self._now)
        self._lines: list[Line] = []
        self._verdicts: dict[str, int] = {}
        self._wake: float | None = None
        self._last_moment = 0.0
        self._born = desk.clock.monotonic()
        self.crew: Crew | None = None

    def post(self, message: Message) -> None:
        """Any thread, any signal handler: something happened."""
        self._inbox.put(message)

    def offer_free(self) -> View:
        """What may be offered now."""
        return books.free(self._ledger)

    def checkpoint_all(self) -> None:
        """Every payload that can is to write a checkpoint."""
        for key in list(self._held):
            self._apply(facts.CheckpointDue(key))

    def tell_state(self) -> None:
        """Writes where every job stands into the log."""
        for key, held in self._held.items():
            self._desk.ears.on_event("state", {"claim": key, "phase": held.job.phase.value})

    def revalidate(self) -> None:
        """After a gap: nothing is written outside before the queue has said that the attempts are still ours."""
        self._tenure.leases.doubt(self._now())
        self._beat()

    def run(self) -> Summary:
        """Works until the steward has left."""
        self._recover()
        self._steward = hearing.probed(self._steward)
        while not self._done():
            self._turn()
            if not self._done():
                self._take(block=True)
        self._turn()
        parked = sum(each.job.phase is Phase.PARKED for each in self._held.values())
        unsent = sum(each.job.ticket(Kind.REPORT) is not None for each in self._held.values())
        lived = self._desk.clock.monotonic() - self._born
        told, why = tuple(self._verdicts.items()), self._steward.why
        return Summary(self._desk.pilot_id, why, lived, told, parked, unsent, self._contact.trouble)

    def _done(self) -> bool:
        if self._steward.stage is not Stage.LEFT:
            return False
        busy = any(each.job.phase is not Phase.PARKED for each in self._held.values())
        return not (busy and self._now() < self._last_moment)

    # --- one turn ------------------------------------------------------------------------------------------

    def _turn(self) -> None:
        self._take(block=False)
        self._timers.ring(self._now())
        self._grant_ready()
        self._decide()
        self._commit()
        self._hand_out()
        self._tenure.plan(self._beat, self._see)

    def _take(self, block: bool) -> None:
        """Hears all that is in the inbox, after waiting for the first if told to."""
        try:
            if block:
                self._hear(self._inbox.get(timeout=self._patience()))
            while True:
                self._hear(self._inbox.get_nowait())
        except Empty:
            return

    def _patience(self) -> float | None:
        moments = [each for each in (self._timers.next(), self._wake) if each is not None]
        return max(0.0, min(moments) - self._now()) if moments else None

    def _now(self) -> float:
        return self._desk.clock.boot()

    def _hear(self, message: Message) -> None:
        if isinstance(message, facts.Granted):
            message = replace(message, grant=sound(message.grant))
        match message:
            case Notice():
                self._desk.ears.on_event("notice", {"notice": message.value})
                self._steward = hearing.notice(self._steward, message)
            case Looked():
                self._looked(message)
            case Beaten():
                self._beaten(message)
            case Seen():
                self._tenure.seen(message, self._beat)
            case facts.Granted(grant=grant) if self._has(grant, message.key):
                self._apply(facts.Nothing(message.key, message.ticket))
            case facts.Answer() | facts.News():
                self._apply(message)
            case _:
                message()

    def _has(self, grant: Grant, key: str) -> bool:
        """An attempt that is in hand is not taken twice, whatever a queue says: both would have one sandbox."""
        held = (each.job.grant for name, each in self._held.items() if name != key)
        twice = any(each and (each.job_id, each.attempt) == (grant.job_id, grant.attempt) for each in held)
        if twice:
            self._desk.ears.on_event("given twice", {"job": grant.job_id, "attempt": grant.attempt})
        return twice

    def _decide(self) -> None:
        jobs = (each.job for each in self._held.values())
        seen = tally(jobs, len(self._ledger.cpus))
        self._steward, wishes, self._wake = decide(self._steward, seen, self._now())
        for wish in wishes:
            self._heed(wish)

    def _heed(self, wish: Wish) -> None:
        match wish:
            case Claim(claim_id=key):
                self._held.setdefault(key, Held(Job(key), Dossier(since=self._desk.clock.monotonic())))
                self._apply(facts.Claiming(key))
            case Drop(claim_id=key):
                self._apply(facts.End(key, Cause.PREEMPTED))
            case Look():
                self._look()
            case EndAll(cause=cause, code=code):
                for key in list(self._held):
                    self._apply(facts.End(key, cause, fault(code)))
            case Leave(at_once=True):
                self._leave_at_once()

    def _leave_at_once(self) -> None:
        """Told twice: no more grace for payloads, and only a moment for the last reports."""
        self._desk.ears.on_event("leaving at once", {})
        self._last_moment = self._now() + LAST_REPORT
        self._timers.set("last moment", self._last_moment, lambda: None)
        for held in self._held.values():
            self._desk.hurry(held.job)

    def _look(self) -> None:
        self._crew().look(
            lambda: self.post(self._desk.errands.look()), lambda why: self.post(Looked(False, why.detail, why.code))
        )

    def _looked(self, looked: Looked) -> None:
        now, chance = self._now(), self._desk.unit_random()
        if looked.problem:
            self._contact.failed("look failed", looked.problem, looked.code)
            self._steward = hearing.unseen(self._steward, now, chance)
        else:
            self._contact.answered()
            self._steward = hearing.looked(self._steward, looked.changed, now, chance)

    # --- facts ---------------------------------------------------------------------------------------------

    def _apply(self, fact: Fact) -> None:
        """One fact: the job goes on, its orders are kept until the fact is on disk."""
        held = self._held.get(fact.key)
        if held is None:
            return
        wall, mono = self._desk.clock.wall(), self._desk.clock.monotonic()
        after, orders = step(held, fact, wall, mono)
        if after.job is held.job and not orders:
            return
        self._lines.append(line_of(fact, wall, mono))
        self._held[fact.key] = after
        self._desk.ears.on_fact(held.job, after.job, fact)
        self._aside(held.job, after.job, fact)
        self._orders_of(after, orders)

    def _orders_of(self, held: Held, orders: tuple[object, ...]) -> None:
        for order in orders:
            if isinstance(order, GiveBack):
                self._ledger = books.give_back(self._ledger, order.key, order.retire)
            elif isinstance(order, Order):
                self._outgoing.add(order)

    def _aside(self, before: Job, after: Job, fact: Fact) -> None:
        """What the loop itself keeps in step with the job: leases, alarms, claims, the summary."""
        key = after.key
        if isinstance(fact, facts.Answer):
            self._alarms.answered(key, fact.ticket)
        self._contacted(fact)
        match fact:
            case facts.Claiming():
                self._tenure.leases.ask(key, self._now())
            case facts.Granted(grant=grant):
                self._tenure.leases.grant(key, self._now(), grant.lease_seconds)
                self._steward = hearing.granted(self._steward, key, grant.spec.needs[0].cpus)
            case facts.Nothing():
                self._steward = hearing.nothing(self._steward, key, self._now(), self._desk.unit_random())
            case facts.Broke(kind=Kind.CLAIM):
                self._steward = hearing.broke(self._steward, key, self._now(), self._desk.unit_random())
            case facts.Go():
                self._desk.ears.on_go(after, fact)
            case facts.Acknowledged(accepted=accepted):
                self._acknowledged(after, accepted)
        if after.phase is not before.phase:
            self._entered(after)
        if is_over(after):
            self._over(after)

    def _contacted(self, fact: Fact) -> None:
        if isinstance(fact, facts.Granted | facts.Nothing | facts.Acknowledged):  # to give back heals no claim
            self._contact.answered()
        elif isinstance(fact, facts.Broke) and fact.kind in (Kind.CLAIM, Kind.REPORT, Kind.RETURN):
            why = fact.fault.detail or fact.fault.message
            self._contact.failed(f"{fact.kind.value} broke", why, fact.fault.code)

    def _entered(self, job: Job, spent: float = 0.0) -> None:
        """Sets the alarms of a job's phase; `spent` seconds of it passed under an earlier pilot."""
        share = self._ledger.share(job.key)
        walltime = share.walltime_seconds if share else 0
        self._alarms.entered(job, max(0.001, walltime - spent) if walltime else 0.0)
        if job.phase is not Phase.CLOSED:
            self._tenure.moved()

    def _acknowledged(self, job: Job, accepted: bool) -> None:
        report = self._report(job)
        reporting = self._desk.clock.monotonic() - self._held[job.key].dossier.since
        timed = replace(report, seconds=replace(report.seconds, reporting=round(reporting, 6)))
        self._tell(timed if accepted else replace(timed, fault=timed.fault or NOT_OURS), accepted)

    def _tell(self, report: Report, accepted: bool) -> None:
        verdict = report.verdict.value if accepted else "fenced"
        self._verdicts[verdict] = self._verdicts.get(verdict, 0) + 1
        self._desk.ears.on_report(report, accepted)

    def _over(self, job: Job) -> None:
        if job.cause is Cause.FENCED and job.grant is not None:  # not for the queue's ears, but for the user's
            self._tell(self._report(replace(job, verdict=Verdict.INTERRUPTED)), accepted=False)
        self._tenure.forget(job.key)
        self._alarms.over(job.key)
        self._outgoing.dropped(job.key)
        self._refused.pop(job.key, None)
        del self._held[job.key]
        self._desk.ears.on_over(job)

    def _grant_ready(self) -> None:
        """Gives shares to the jobs that wait for theirs, in the order in which they came."""
        for key, held in list(self._held.items()):
            if held.job.phase is Phase.READY and self._refused.get(key) is not self._ledger:
                self._grant(key, held.job)

    def _grant(self, key: str, job: Job) -> None:
        if not books.can_ever(self._ledger, job.spec.needs):
            why = books.why_never(self._ledger, job.spec.needs)
            self._apply(facts.Unfit(key, fault(Code.SLOT_UNFIT, why)))
            return
        self._ledger, share = books.grant(self._ledger, key, job.spec.needs)
        if share is None:
            self._refused[key] = self._ledger
        else:
            self._apply(facts.Go(key, share))

    # --- orders --------------------------------------------------------------------------------------------

    def _commit(self) -> None:
        """On disk before the orders go out; facts that nothing follows from need no sync of their own."""
        if not self._lines:
            return
        lines, self._lines = self._lines, []
        self._desk.journal.write(lines, lasting=self._outgoing.pending())
        if self._desk.journal.full():
            self._desk.journal.begin(self._snapshots())

    def _snapshots(self) -> list[Line]:
        wall, mono = self._desk.clock.wall(), self._desk.clock.monotonic()
        return [snapshot(each, wall, mono) for each in self._held.values()]

    def _hand_out(self) -> None:
        unsure = self._outgoing.hand_out(self._crew(), self._report, self._certain)
        if unsure and not self._tenure.unheard():
            self._beat()

    def _certain(self, key: str) -> bool:
        return self._tenure.leases.trusted(key, self._now())

    def _report(self, job: Job) -> Report:
        dossier = self._held[job.key].dossier
        return draw_report(job, dossier, self._desk.isolation(job), self._desk.pilot_id, self._desk.clock.wall())

    def _crew(self) -> Crew:
        if self.crew is None:
            raise RuntimeError("the loop has no crew yet")
        return self.crew

    # --- leases --------------------------------------------------------------------------------------------

    def _beat(self, adopting: bool = False) -> None:
        self._tenure.beat((each.job for each in self._held.values()), self._crew(), self.post, adopting)

    def _see(self) -> None:
        self._tenure.look((each.job for each in self._held.values()), self._crew(), self.post)

    def _beaten(self, beaten: Beaten) -> None:
        if not self._tenure.heard(beaten, self._beat):
            self._contact.failed("heartbeat failed", beaten.problem, beaten.code)
            return
        self._contact.answered()
        grants = ((key, each.job.grant) for key, each in self._held.items())
        keys = {(grant.job_id, grant.attempt): key for key, grant in grants if grant is not None}
        for reply in beaten.replies:
            key = keys.get((reply.job_id, reply.attempt))
            if key is not None:
                self._renewed(key, reply, beaten.asked)

    def _renewed(self, key: str, reply: BeatReply, asked: float) -> None:
        if not self._tenure.settle(key, reply, asked):
            return
        self._outgoing.renewed(key)
        self._tenure.ask(self._held[key].job, reply.question, self._crew(), self.post)
        match reply.command:
            case "cancel":
                self._apply(facts.End(key, Cause.CANCELLED, fault(Code.JOB_CANCELLED)))
            case "checkpoint":
                self._apply(facts.CheckpointDue(key))
            case "stop":
                why = fault(Code.BATCH_PREEMPTED, "the queue wants the job back")
                self._apply(facts.End(key, Cause.PREEMPTED, why))

    # --- recovery ------------------------------------------------------------------------------------------

    def _recover(self) -> None:
        """Takes up what an earlier pilot of this state directory left."""
        self._held.update(fold(self._desk.journal.replay()))
        self._desk.journal.begin(self._snapshots())
        for key, held in list(self._held.items()):
            self._hold_again(key, held)
        if self._held:
            self._desk.ears.on_event("recovering", {"jobs": len(self._held)})
            self._steward = hearing.recovered(
                self._steward, sum(each.job.grant is not None for each in self._held.values())
            )
            self._beat(adopting=True)

    def _hold_again(self, key: str, held: Held) -> None:
        if held.job.holds_share:
            self._ledger = books.hold(self._ledger, key, held.dossier.share)
            self._desk.ears.on_go(held.job, facts.Go(key, held.dossier.share))
        if held.job.grant is not None:
            self._tenure.leases.take(key, self._now(), held.job.grant.lease_seconds, certain=False)
        self._apply(facts.Recovered(key))
        if key in self._held:
            spent = self._desk.clock.monotonic() - held.dossier.since
            self._entered(self._held[key].job, max(0.0, spent))
