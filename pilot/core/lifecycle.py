"""The life of a job: one table, and the theory it stands on.

A job is a value; a fact comes in; `advance` returns the next value and the orders that follow. Nothing else in
the program decides what happens to a job. The same function tells the story again from the journal after a
crash, so it knows no clock, no file and no chance.

Two fields, not one. The *phase* says where a job stands and only ever moves forward, in the order of `Phase`.
The *verdict* says how it ended; the first verdict stands, but for one change: a success whose outputs are lost
becomes a failure. Between the two stands the *cause*: why we asked a job to end early. A cause is no verdict,
because a payload that ends well while it is being stopped has succeeded.

Tickets. Every order carries a number; the job remembers its open orders by kind. An answer whose ticket is not
the open one is dropped: it answers something that we gave up (`abandons`), or a pilot that has died. *stop* is
answered `Stopped`; `Exited` only ever answers *start* or *adopt*. So a stop that is late, or a payload that
ends by itself in that moment, cannot be taken for one another.

Waiting for the end. While a process of the job may run (running, stopping, validating) nothing but that
process's own end moves the job on: a cause is noted, the stop is ordered, and the answer of the order that
started the process is awaited. Only then, when the process tree is proven gone, is the share given back, once.
If it cannot be proven gone, the job is *tainted*: its devices are retired and not offered again.

Fenced. A job whose lease is lost belongs to somebody else. It orders no external write any more: no store, no
report, no return; it is swept and closed.

Recovery. A pilot that died leaves a journal of facts. Folding them gives the job as it stood; the fact
`Recovered` voids the open orders and gives them again: claims with the same claim id, fetches that keep
verified files, the adoption of a payload that the supervisor still holds, the same store order (create-only and
checked, so twice is once).

Every order is answered, so no phase needs a watchdog of its own: the loop answers `Broke` for an order whose
deadline has passed.
"""

from collections.abc import Callable
from dataclasses import replace

from pilot.core.outcome import Judgement, Outcome, judge
from pilot.model import facts
from pilot.model.facts import Answer, Fact
from pilot.model.faults import Code, Fault, fault
from pilot.model.files import What
from pilot.model.job import Cause, Job, Phase, Verdict
from pilot.model.orders import GiveBack, Kind, Order

Orders = tuple[Order | GiveBack, ...]
Step = tuple[Job, Orders]
Row = Callable[[Job, Fact], Step]


def advance(job: Job, fact: Fact) -> Step:
    """The job after that fact, and the orders that follow; a fact without a row changes nothing."""
    kind = _answered(job, fact)
    if isinstance(fact, Answer) and kind is None:
        return job, ()
    row = TABLE.get((job.phase, type(fact)))
    closed = replace(job, open=tuple(each for each in job.open if each[0] is not kind)) if kind else job
    return row(closed, fact) if row else (closed, ())


def _answered(job: Job, fact: Fact) -> Kind | None:
    """The kind of the open order that this fact answers, if it answers one."""
    if not isinstance(fact, Answer):
        return None
    return next((kind for kind, ticket in job.open if ticket == fact.ticket), None)


# --- small builders ------------------------------------------------------------------------------------------


def _order(job: Job, kind: Kind, what: What = What.ALL, abandons: Kind | None = None) -> Step:
    """Opens one more order; an abandoned kind is forgotten, so that its late answer is dropped."""
    ticket = job.tickets + 1
    kept = tuple(each for each in job.open if each[0] is not abandons)
    return replace(job, tickets=ticket, open=(*kept, (kind, ticket))), (Order(job.key, kind, ticket, what, abandons),)


def _then(step: Step, kind: Kind, what: What = What.ALL, abandons: Kind | None = None) -> Step:
    """The step, and one more order after it."""
    job, orders = step
    job, more = _order(job, kind, what, abandons)
    return job, (*orders, *more)


def _to(job: Job, phase: Phase, verdict: Verdict | None = None, why: Fault | None = None) -> Job:
    """The job in its next phase; the first verdict and its fault stand."""
    if job.verdict is not None or verdict is None:
        return replace(job, phase=phase)
    return replace(job, phase=phase, verdict=verdict, fault=why)


def _freed(job: Job, gone: bool) -> Step:
    """The process tree has ended: the share goes back, once; what could not be ended taints the job."""
    if not job.holds_share:
        return replace(job, tainted=job.tainted or not gone), ()
    return replace(job, holds_share=False, tainted=job.tainted or not gone), (GiveBack(job.key, retire=not gone),)


def _after(orders: Orders, step: Step) -> Step:
    return step[0], (*orders, *step[1])


def _abandonable(job: Job, kind: Kind) -> Kind | None:
    return kind if job.ticket(kind) is not None else None


def _store(job: Job, what: What, verdict: Verdict, why: Fault | None = None, abandons: Kind | None = None) -> Step:
    closing = _to(replace(job, keeps=what), Phase.STAGING_OUT, verdict, why)
    return _order(closing, Kind.STORE, what, abandons)


def _store_logs(job: Job, verdict: Verdict, why: Fault | None, abandons: Kind | None = None) -> Step:
    return _store(job, What.LOGS, verdict, why, abandons)


def _report(job: Job) -> Step:
    return _then(_order(_to(job, Phase.CLOSED), Kind.REPORT), Kind.SWEEP)


def _give_up(job: Job, abandons: Kind | None = None) -> Step:
    """Back to the queue with no failure charged, and nothing left here."""
    return _then(_order(_to(job, Phase.CLOSED), Kind.RETURN, abandons=abandons), Kind.SWEEP)


def _vanish(job: Job, abandons: Kind | None = None) -> Step:
    """Fenced: nothing outside any more; what is here is swept."""
    job = replace(job, cause=Cause.FENCED)
    return _order(_to(job, Phase.CLOSED), Kind.SWEEP, abandons=abandons)


# --- claiming --------------------------------------------------------------------------------------------------


def _born(job: Job, fact: Fact) -> Step:
    return _order(job, Kind.CLAIM)


def _granted(job: Job, fact: Fact) -> Step:
    assert isinstance(fact, facts.Granted)
    return _order(_to(replace(job, grant=fact.grant), Phase.STAGING_IN), Kind.FETCH)


def _nothing(job: Job, fact: Fact) -> Step:
    return _to(job, Phase.CLOSED), ()


def _claim_ended(job: Job, fact: Fact) -> Step:
    """The claim is returned by its id: a grant that is on its way falls back to the queue."""
    assert isinstance(fact, facts.End)
    return _order(_to(replace(job, cause=fact.cause), Phase.CLOSED), Kind.RETURN, abandons=Kind.CLAIM)


def _claim_again(job: Job, fact: Fact) -> Step:
    return _order(replace(job, open=()), Kind.CLAIM)


# --- staging in, ready -----------------------------------------------------------------------------------------


def _arrived(job: Job, fact: Fact) -> Step:
    return _to(job, Phase.READY), ()


def _failed_early(job: Job, fact: Fact) -> Step:
    """Failed before any payload ran: there are only logs to keep."""
    assert isinstance(fact, facts.Broke | facts.Unfit)
    return _store_logs(job, Verdict.FAILED, fact.fault)


def _ended_early(job: Job, fact: Fact) -> Step:
    """Ended before the payload started: cancelled is reported, preempted goes back, fenced vanishes."""
    assert isinstance(fact, facts.End)
    abandons = _abandonable(job, Kind.FETCH)
    job = replace(job, cause=fact.cause)
    if fact.cause is Cause.FENCED:
        return _vanish(job, abandons)
    if fact.cause is Cause.CANCELLED:
        return _store_logs(job, Verdict.CANCELLED, fact.fault or fault(Code.JOB_CANCELLED), abandons)
    return _give_up(job, abandons)


def _fetch_again(job: Job, fact: Fact) -> Step:
    return _order(replace(job, open=()), Kind.FETCH)


def _go(job: Job, fact: Fact) -> Step:
    return _order(_to(replace(job, holds_share=True), Phase.RUNNING), Kind.START)


def _stay(job: Job, fact: Fact) -> Step:
    return replace(job, open=()), ()


# --- running, stopping -----------------------------------------------------------------------------------------


def _exited(job: Job, fact: Fact) -> Step:
    assert isinstance(fact, facts.Exited)
    job, freed = _freed_unless_validating(job, fact)
    return _after(freed, _by_outcome(job, judge(fact.ending, job.cause, job.fault)))


def _freed_unless_validating(job: Job, fact: facts.Exited) -> Step:
    """The validate step runs on the payload's share, so the share is kept for it."""
    verdict = judge(fact.ending, job.cause, job.fault)
    if verdict.outcome is Outcome.DONE and _may_validate(job) and fact.ending.gone:
        return job, ()
    return _freed(job, fact.ending.gone)


def _may_validate(job: Job) -> bool:
    return bool(job.spec.validate) and job.cause is None


def _by_outcome(job: Job, judgement: Judgement) -> Step:
    if job.cause is Cause.FENCED:
        return _vanish(job)
    if judgement.outcome is Outcome.DONE:
        return _done(replace(job, fault=None))
    verdict = Verdict.CANCELLED if job.cause is Cause.CANCELLED else Verdict.FAILED
    if judgement.outcome is Outcome.RESUMABLE:
        return _store(job, What.CHECKPOINT, Verdict.INTERRUPTED, judgement.fault)
    return _store_logs(job, verdict, judgement.fault)


def _done(job: Job) -> Step:
    """Success is told only after validation; a job stopped by the clock stores its outputs unvalidated."""
    if _may_validate(job) and job.holds_share:
        return _order(_to(job, Phase.VALIDATING), Kind.VALIDATE)
    if job.spec.validate:
        return _store(job, What.ALL, Verdict.INTERRUPTED, _UNVALIDATED)
    return _store(job, What.ALL, Verdict.SUCCEEDED)


_UNVALIDATED = fault(Code.BATCH_PREEMPTED, "the payload ended well, but there was no time for its validate step")


def _start_broke(job: Job, fact: Fact) -> Step:
    """The payload could not be started, or is lost: what we asked for explains it, if we asked."""
    assert isinstance(fact, facts.Broke)
    if fact.kind in (Kind.CHECKPOINT, Kind.STORE_CHECKPOINT):
        return job, ()
    if fact.kind is Kind.STOP:
        return replace(job, tainted=True), ()
    job, freed = _freed(job, fact.gone)
    if job.cause is Cause.FENCED:
        return _after(freed, _vanish(job))
    if job.cause in (Cause.TIME_UP, Cause.PREEMPTED):
        return _after(freed, _store(job, What.CHECKPOINT, Verdict.INTERRUPTED, job.fault or fact.fault))
    verdict = Verdict.CANCELLED if job.cause is Cause.CANCELLED else Verdict.FAILED
    return _after(freed, _store_logs(job, verdict, job.fault or fact.fault))


def _end_running(job: Job, fact: Fact) -> Step:
    """Asked to end: a checkpoint first where time or site ask, then the stop ladder."""
    assert isinstance(fact, facts.End)
    stopping = _to(replace(job, cause=fact.cause, fault=fact.fault), Phase.STOPPING)
    if fact.cause in (Cause.TIME_UP, Cause.PREEMPTED):
        return _then(_order(stopping, Kind.CHECKPOINT), Kind.STOP)
    return _order(stopping, Kind.STOP)


def _end_stopping(job: Job, fact: Fact) -> Step:
    """Already stopping: only the loss of the lease changes why, since nothing may be written then."""
    assert isinstance(fact, facts.End)
    return (replace(job, cause=Cause.FENCED), ()) if fact.cause is Cause.FENCED else (job, ())


def _checkpoint(job: Job, fact: Fact) -> Step:
    busy = job.ticket(Kind.CHECKPOINT) or job.ticket(Kind.STORE_CHECKPOINT)
    return (job, ()) if busy else _order(job, Kind.CHECKPOINT)


def _saved(job: Job, fact: Fact) -> Step:
    assert isinstance(fact, facts.Saved)
    return _order(job, Kind.STORE_CHECKPOINT, What.CHECKPOINT) if fact.fresh else (job, ())


def _adopt(job: Job, fact: Fact) -> Step:
    return _order(replace(job, open=()), Kind.ADOPT)


def _adopt_and_stop(job: Job, fact: Fact) -> Step:
    return _then(_adopt(job, fact), Kind.STOP)


# --- validating ------------------------------------------------------------------------------------------------


def _validated(job: Job, fact: Fact) -> Step:
    assert isinstance(fact, facts.Validated)
    job, freed = _freed(job, fact.gone)
    return _after(freed, _by_validation(job, fact))


def _by_validation(job: Job, fact: facts.Validated) -> Step:
    if job.cause is Cause.FENCED:
        return _vanish(job)
    if fact.valid:
        return _store(replace(job, fault=None), What.ALL, Verdict.SUCCEEDED)
    if job.cause in (Cause.TIME_UP, Cause.PREEMPTED):
        return _store(job, What.ALL, Verdict.INTERRUPTED, _UNVALIDATED)
    if job.cause is not None:
        verdict = Verdict.CANCELLED if job.cause is Cause.CANCELLED else Verdict.FAILED
        return _store_logs(job, verdict, job.fault or fault(Code.JOB_CANCELLED))
    return _store_logs(job, Verdict.FAILED, fault(Code.PAYLOAD_INVALID, fact.detail))


def _validate_broke(job: Job, fact: Fact) -> Step:
    assert isinstance(fact, facts.Broke)
    if fact.kind is not Kind.VALIDATE:
        return replace(job, tainted=True), ()
    job, freed = _freed(job, fact.gone)
    if job.cause is Cause.FENCED:
        return _after(freed, _vanish(job))
    verdict = Verdict.CANCELLED if job.cause is Cause.CANCELLED else Verdict.FAILED
    return _after(freed, _store_logs(job, verdict, job.fault or fact.fault))


def _end_validating(job: Job, fact: Fact) -> Step:
    """The first cause stands, but the loss of the lease outranks it; the step is stopped once."""
    assert isinstance(fact, facts.End)
    if job.cause is not None and fact.cause is not Cause.FENCED:
        return job, ()
    noted = replace(job, cause=fact.cause, fault=fact.fault)
    return _order(noted, Kind.STOP) if noted.ticket(Kind.STOP) is None else (noted, ())


def _validate_again(job: Job, fact: Fact) -> Step:
    again = _order(replace(job, open=()), Kind.VALIDATE)
    return again if job.cause is None else _then(again, Kind.STOP)


# --- staging out, parked, closed ---------------------------------------------------------------------------------


def _stored(job: Job, fact: Fact) -> Step:
    return _report(job)


def _store_broke(job: Job, fact: Fact) -> Step:
    """Good outputs that have no second copy are parked beside their manifest; anything else is reported as lost."""
    assert isinstance(fact, facts.Broke)
    if fact.kind is not Kind.STORE:
        return job, ()
    if job.keeps is What.LOGS:
        return _report(job)
    if fact.fault.code in _NEVER_STORABLE:
        lost = replace(job, verdict=Verdict.FAILED, fault=fact.fault, keeps=What.LOGS)
        return _order(lost, Kind.STORE, What.LOGS)
    return replace(job, phase=Phase.PARKED, fault=job.fault or fact.fault), ()


# Outputs that are not there, or not allowed, will not be there later either.
_NEVER_STORABLE = frozenset(
    {Code.OUTPUT_MISSING, Code.OUTPUT_ESCAPE, Code.OUTPUT_NAME, Code.STORAGE_EXISTS, Code.PILOT_BUG}
)


def _park(job: Job, fact: Fact) -> Step:
    """Time is up while storing: the outputs stay here, with their manifest, for the next pilot."""
    assert isinstance(fact, facts.End)
    if fact.cause is Cause.FENCED:
        return _vanish(job, _abandonable(job, Kind.STORE))
    if fact.cause is Cause.CANCELLED or job.keeps is What.LOGS:
        return job, ()
    kept = tuple(each for each in job.open if each[0] is not Kind.STORE)
    return replace(job, phase=Phase.PARKED, open=kept), ()


def _store_again(job: Job, fact: Fact) -> Step:
    return _order(replace(job, open=()), Kind.STORE, job.keeps)


def _retry_parked(job: Job, fact: Fact) -> Step:
    return (job, ()) if job.ticket(Kind.STORE) else _order(job, Kind.STORE, job.keeps)


def _unpark(job: Job, fact: Fact) -> Step:
    stored = replace(job, fault=None) if job.verdict is Verdict.SUCCEEDED else job
    return _report(stored)


def _fence_parked(job: Job, fact: Fact) -> Step:
    assert isinstance(fact, facts.End)
    return _vanish(job, _abandonable(job, Kind.STORE)) if fact.cause is Cause.FENCED else (job, ())


def _again_at_the_end(job: Job, fact: Fact) -> Step:
    """What was still open when the pilot died is ordered again: reports and returns are idempotent."""
    kinds = [kind for kind, _ in job.open]
    step: Step = (replace(job, open=()), ())
    for kind in kinds:
        step = _then(step, kind)
    return step


def _report_broke(job: Job, fact: Fact) -> Step:
    """The outbox repeats a report until it is acknowledged; a broken sweep or return is not repeated here."""
    assert isinstance(fact, facts.Broke)
    return _order(job, Kind.REPORT) if fact.kind is Kind.REPORT else (job, ())


TABLE: dict[tuple[Phase, type], Row] = {
    (Phase.CLAIMING, facts.Claiming): _born,
    (Phase.CLAIMING, facts.Granted): _granted,
    (Phase.CLAIMING, facts.Nothing): _nothing,
    (Phase.CLAIMING, facts.Broke): _nothing,
    (Phase.CLAIMING, facts.End): _claim_ended,
    (Phase.CLAIMING, facts.Recovered): _claim_again,
    (Phase.STAGING_IN, facts.Arrived): _arrived,
    (Phase.STAGING_IN, facts.Broke): _failed_early,
    (Phase.STAGING_IN, facts.End): _ended_early,
    (Phase.STAGING_IN, facts.Recovered): _fetch_again,
    (Phase.READY, facts.Go): _go,
    (Phase.READY, facts.Unfit): _failed_early,
    (Phase.READY, facts.End): _ended_early,
    (Phase.READY, facts.Recovered): _stay,
    (Phase.RUNNING, facts.Exited): _exited,
    (Phase.RUNNING, facts.Broke): _start_broke,
    (Phase.RUNNING, facts.End): _end_running,
    (Phase.RUNNING, facts.CheckpointDue): _checkpoint,
    (Phase.RUNNING, facts.Saved): _saved,
    (Phase.RUNNING, facts.Recovered): _adopt,
    (Phase.STOPPING, facts.Exited): _exited,
    (Phase.STOPPING, facts.Broke): _start_broke,
    (Phase.STOPPING, facts.End): _end_stopping,
    (Phase.STOPPING, facts.Recovered): _adopt_and_stop,
    (Phase.VALIDATING, facts.Validated): _validated,
    (Phase.VALIDATING, facts.Broke): _validate_broke,
    (Phase.VALIDATING, facts.End): _end_validating,
    (Phase.VALIDATING, facts.Recovered): _validate_again,
    (Phase.STAGING_OUT, facts.Stored): _stored,
    (Phase.STAGING_OUT, facts.Broke): _store_broke,
    (Phase.STAGING_OUT, facts.End): _park,
    (Phase.STAGING_OUT, facts.Recovered): _store_again,
    (Phase.PARKED, facts.Stored): _unpark,
    (Phase.PARKED, facts.RetryDue): _retry_parked,
    (Phase.PARKED, facts.End): _fence_parked,
    (Phase.PARKED, facts.Recovered): _store_again,
    (Phase.CLOSED, facts.Broke): _report_broke,
    (Phase.CLOSED, facts.Recovered): _again_at_the_end,
}
