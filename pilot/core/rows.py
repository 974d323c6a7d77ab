"""The rows of the life cycle's table, in the order of the phases: what each fact makes of a job."""

from pilot.core.outcome import Judgement, Outcome, judge
from pilot.core.steps import (
    EARLY,
    Step,
    after,
    end_unsuccessful,
    forgotten,
    free_share,
    give_up,
    move,
    order,
    report,
    store,
    then,
    vanish,
    without_success,
)
from pilot.model import facts
from pilot.model.copies import replace
from pilot.model.facts import Broke, Fact
from pilot.model.faults import Code, Fault, fault
from pilot.model.files import What
from pilot.model.job import Cause, Job, Phase, Verdict
from pilot.model.orders import GiveBack, Kind

# --- claiming --------------------------------------------------------------------------------------------------


def ask(job: Job, fact: facts.Claiming) -> Step:
    """Asks the queue, for the first time or again under the same claim id."""
    return (job, ()) if job.open else order(job, Kind.CLAIM)


def fetch(job: Job, fact: facts.Granted) -> Step:
    """Ours: the files are fetched; what could not be made a job of is declined, so that its report is never lost."""
    ours = replace(job, grant=fact.grant)
    if fact.grant.refusal is not None:
        return _declined(ours, fact.grant.refusal)
    return order(move(ours, Phase.STAGING_IN), Kind.FETCH)


def close_empty(job: Job, fact: facts.Nothing) -> Step:
    """There was nothing for us."""
    return move(job, Phase.CLOSED), ()


def stay(job: Job, fact: Fact) -> Step:
    """Nothing changes, but that the order has been answered."""
    return job, ()


def return_claim(job: Job, fact: facts.End) -> Step:
    """The claim is returned by its id: a grant that is on its way falls back to the queue."""
    return order(move(replace(job, cause=fact.cause), Phase.CLOSED), Kind.RETURN)


def ask_again(job: Job, fact: facts.Recovered) -> Step:
    """The same claim id gives the same grant."""
    return order(forgotten(job), Kind.CLAIM)


# --- staging in, ready -----------------------------------------------------------------------------------------


def become_ready(job: Job, fact: facts.Arrived) -> Step:
    """Everything is here; the job waits for its share."""
    return move(job, Phase.READY), ()


def fail_early(job: Job, fact: Broke) -> Step:
    """Failed before any payload ran: there are only logs to keep."""
    return store(job, What.LOGS, Verdict.FAILED, fact.fault)


def decline(job: Job, fact: facts.Unfit) -> Step:
    """This slot can never hold the job: no failure of the job's."""
    return _declined(job, fact.fault)


def _declined(job: Job, why: Fault) -> Step:
    """Told at once; a queue that waits for an archive of logs gets one, or it would add a complaint of its own."""
    if job.spec.log_archive is None:
        return report(move(job, Phase.CLOSED, Verdict.DECLINED, why))
    return store(job, What.LOGS, Verdict.DECLINED, why)


def end_early(job: Job, fact: facts.End) -> Step:
    """Before the payload started, time and site give the job back; any other cause is told, or vanishes."""
    noted = replace(job, cause=fact.cause)
    if fact.cause in EARLY:
        return give_up(noted)
    return end_unsuccessful(noted, What.LOGS, fact.fault or fault(Code.JOB_CANCELLED))


def fetch_again(job: Job, fact: facts.Recovered) -> Step:
    """Verified files are kept by the fetch itself."""
    return order(forgotten(job), Kind.FETCH)


def start(job: Job, fact: facts.Go) -> Step:
    """The share is cut: the payload starts."""
    return order(move(replace(job, holds_share=True), Phase.RUNNING), Kind.START)


def refuse_share(job: Job, fact: facts.Go) -> Step:
    """The share was cut while the job ended: it goes back unused."""
    return job, (GiveBack(job.key),)


# --- running, stopping -----------------------------------------------------------------------------------------


def judge_exit(job: Job, fact: facts.Exited) -> Step:
    """The payload's end is judged; the validate step runs on the payload's share, so the share is kept for it."""
    judgement = judge(fact.ending, job.cause, job.fault)
    if judgement.outcome is Outcome.DONE and fact.ending.gone and _may_validate(job):
        return order(move(replace(job, cause=None, fault=None), Phase.VALIDATING), Kind.VALIDATE)
    freed, orders = free_share(job, fact.ending.gone)
    return after(orders, _by_outcome(freed, judgement))


def _may_validate(job: Job) -> bool:
    """A limit that a payload met as it ended well is spent; time, site, owner and queue are not."""
    return bool(job.spec.validate) and not job.tainted and job.cause in (None, Cause.LIMIT)


def _by_outcome(job: Job, judgement: Judgement) -> Step:
    """Success is told only of what has been validated, where the job has a validate step."""
    if job.cause is Cause.FENCED:
        return vanish(job, job.fault)
    if judgement.outcome is Outcome.RESUMABLE:
        return store(job, What.CHECKPOINT, Verdict.INTERRUPTED, judgement.fault)
    if judgement.outcome is Outcome.FAILED:
        return store(job, What.LOGS, without_success(job), judgement.fault)
    if not job.spec.validate:
        return store(replace(job, fault=None), What.ALL, Verdict.SUCCEEDED)
    return end_unsuccessful(job, What.ALL, job.fault or fault(Code.STOP_FAILED if job.tainted else UNVALIDATED))


UNVALIDATED = Code.BATCH_PREEMPTED  # the payload ended well, but there was no time for its validate step


def lose_payload(job: Job, fact: Broke) -> Step:
    """The payload could not be started, or is lost: what we asked for explains it, if we asked."""
    freed, orders = free_share(job, fact.gone)
    return after(orders, end_unsuccessful(freed, What.CHECKPOINT, job.fault or fact.fault))


def stop(job: Job, fact: facts.End) -> Step:
    """Asked to end: a checkpoint first where time or site ask, then the stop ladder."""
    stopping = move(replace(job, cause=fact.cause, fault=fact.fault), Phase.STOPPING)
    if fact.cause in EARLY:
        return then(order(stopping, Kind.CHECKPOINT), Kind.STOP)
    return order(stopping, Kind.STOP)


def stop_again(job: Job, fact: facts.End) -> Step:
    """The first cause stands, but the loss of the lease outranks it; a stop that has been answered is repeated."""
    outranks = job.cause is None or fact.cause is Cause.FENCED
    noted = replace(job, cause=fact.cause, fault=fact.fault) if outranks else job
    return (noted, ()) if noted.ticket(Kind.STOP) else order(noted, Kind.STOP)


def note_stop_broke(job: Job, fact: Broke) -> Step:
    """The end of the process is still awaited; what may be left of it spoils the share."""
    return replace(job, tainted=job.tainted or not fact.gone), ()


def checkpoint(job: Job, fact: facts.CheckpointDue) -> Step:
    """One checkpoint at a time, stored before the next is asked for."""
    busy = job.ticket(Kind.CHECKPOINT) or job.ticket(Kind.STORE_CHECKPOINT)
    return (job, ()) if busy else order(job, Kind.CHECKPOINT)


def store_checkpoint(job: Job, fact: facts.Saved) -> Step:
    """A new generation is stored while the payload goes on."""
    return order(job, Kind.STORE_CHECKPOINT, What.CHECKPOINT) if fact.fresh else (job, ())


def adopt(job: Job, fact: facts.Recovered) -> Step:
    """The supervisor still holds the payload, or its exit status; one that was never started is started."""
    return order(forgotten(job), Kind.ADOPT)


def adopt_and_stop(job: Job, fact: facts.Recovered) -> Step:
    """As above, but the payload is to end."""
    return then(order(forgotten(job), Kind.ADOPT), Kind.STOP)


# --- validating ------------------------------------------------------------------------------------------------


def judge_validation(job: Job, fact: facts.Validated) -> Step:
    """Valid is a success, whatever we had asked meanwhile; else the cause explains it, or the step's own words."""
    freed, orders = free_share(job, fact.gone)
    if fact.valid and job.cause is not Cause.FENCED:
        return after(orders, store(replace(freed, fault=None), What.ALL, Verdict.SUCCEEDED))
    stopped = job.fault or fault(UNVALIDATED if job.cause in EARLY else Code.JOB_CANCELLED)
    why = stopped if job.cause else fault(Code.PAYLOAD_INVALID, fact.detail)
    return after(orders, end_unsuccessful(freed, What.ALL, why))


def lose_validation(job: Job, fact: Broke) -> Step:
    """The validate step could not be run."""
    freed, orders = free_share(job, fact.gone)
    return after(orders, end_unsuccessful(freed, What.ALL, job.fault or fact.fault))


def validate_again(job: Job, fact: facts.Recovered) -> Step:
    """Validating twice does no harm; one that is still running is taken over."""
    again = order(forgotten(job), Kind.VALIDATE)
    return again if job.cause is None else then(again, Kind.STOP)


# --- staging out, parked, closed ---------------------------------------------------------------------------------

# Outputs that are not there, or not allowed, will not be there later either.
NEVER_STORABLE = frozenset(
    {
        Code.OUTPUT_MISSING,
        Code.OUTPUT_ESCAPE,
        Code.OUTPUT_NAME,
        Code.STORAGE_EXISTS,
        Code.STORAGE_UNKNOWN,
        Code.PILOT_BUG,
        Code.JOB_INVALID,  # no storage of this pilot knows that place, or there is none
    }
)


def close_stored(job: Job, fact: facts.Stored) -> Step:
    """Everything is in its place."""
    return report(replace(job, fault=None) if job.verdict is Verdict.SUCCEEDED else job)


def park_or_lose(job: Job, fact: Broke) -> Step:
    """Good files that have no second copy are parked beside their manifest; what can never be stored is lost."""
    if job.keeps is What.LOGS:
        return report(job)
    if fact.fault.code not in NEVER_STORABLE:
        return replace(job, phase=Phase.PARKED, fault=job.fault or fact.fault), ()
    lost = replace(job, keeps=What.LOGS)
    if job.verdict is Verdict.SUCCEEDED:
        lost = replace(lost, verdict=Verdict.FAILED, fault=fact.fault)
    return order(lost, Kind.STORE, What.LOGS)


def end_storing(job: Job, fact: facts.End) -> Step:
    """Only the end of all time ends the storing; a store that is answered after all still counts."""
    if fact.cause is Cause.FENCED:
        return vanish(job, fact.fault)
    if fact.cause is not Cause.TIME_UP:
        return job, ()
    return (replace(job, phase=Phase.PARKED), ()) if job.keeps is What.ALL else report(job)


def end_parked(job: Job, fact: facts.End) -> Step:
    """Parked outputs are given up to the attempt's new owner, and where nobody wants them any more."""
    if fact.cause is Cause.FENCED:
        return vanish(job, fact.fault)
    if fact.cause is not Cause.CANCELLED:
        return job, ()
    lost = replace(job, keeps=What.LOGS)
    if job.verdict is Verdict.SUCCEEDED:
        lost = replace(lost, verdict=Verdict.FAILED, fault=fact.fault or fault(Code.JOB_CANCELLED))
    return report(lost)


def store_again(job: Job, fact: facts.Recovered) -> Step:
    """The same order: create-only and checked, so twice is once."""
    return order(forgotten(job), Kind.STORE, job.keeps)


def retry_parked(job: Job, fact: facts.RetryDue) -> Step:
    """Parked outputs try again."""
    return (job, ()) if job.ticket(Kind.STORE) else order(job, Kind.STORE, job.keeps)


def repeat_last_words(job: Job, fact: facts.Recovered) -> Step:
    """What was still open when the pilot died is ordered again: reports, returns and sweeps are idempotent."""
    step: Step = (forgotten(job), ())
    for kind in (Kind.REPORT, Kind.RETURN, Kind.SWEEP):
        step = then(step, kind) if job.ticket(kind) else step
    return step


def report_again(job: Job, fact: Broke) -> Step:
    """A report is repeated until it is acknowledged; a return is not, since the lease ends by itself."""
    return order(job, Kind.REPORT)
