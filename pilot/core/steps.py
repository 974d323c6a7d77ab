"""What the rows of the life cycle are made of: a step is the next job and the orders that follow."""

from pilot.model.copies import replace
from pilot.model.faults import Fault
from pilot.model.files import What
from pilot.model.job import Cause, Job, Phase, Verdict
from pilot.model.orders import GiveBack, Kind, Order

Orders = tuple[Order | GiveBack, ...]
Step = tuple[Job, Orders]

EARLY = frozenset({Cause.TIME_UP, Cause.PREEMPTED})

# An order makes others pointless: what is still open of these is abandoned with it, and a late answer is dropped.
SUPERSEDES: dict[Kind, frozenset[Kind]] = {
    Kind.RETURN: frozenset({Kind.CLAIM, Kind.FETCH}),
    Kind.CHECKPOINT: frozenset({Kind.CHECKPOINT, Kind.STORE_CHECKPOINT}),
    Kind.STOP: frozenset({Kind.STORE_CHECKPOINT}),
    Kind.VALIDATE: frozenset({Kind.STOP, Kind.STORE_CHECKPOINT}),
    Kind.STORE: frozenset({Kind.FETCH, Kind.STORE_CHECKPOINT}),
    Kind.REPORT: frozenset({Kind.FETCH, Kind.STORE}),
    Kind.SWEEP: frozenset({Kind.FETCH, Kind.STORE, Kind.STORE_CHECKPOINT}),
}


def order(job: Job, kind: Kind, what: What = What.ALL) -> Step:
    """Opens one order, and abandons what it supersedes; in no phase are two of these open at once."""
    pointless = SUPERSEDES.get(kind, frozenset())
    abandons = next((each for each, _ in job.open if each in pointless), None)
    kept = tuple(each for each in job.open if each[0] is not abandons)
    ticket = job.tickets + 1
    opened = replace(job, tickets=ticket, open=(*kept, (kind, ticket)))
    return opened, (Order(job.key, kind, ticket, what, abandons),)


def then(step: Step, kind: Kind) -> Step:
    """The step, and one more order after it."""
    job, orders = step
    job, more = order(job, kind)
    return job, (*orders, *more)


def after(orders: Orders, step: Step) -> Step:
    """The step, with those orders before its own."""
    return step[0], (*orders, *step[1])


def forgotten(job: Job) -> Job:
    """The job with its open orders void: the pilot that gave them is dead."""
    return replace(job, open=())


def move(job: Job, phase: Phase, verdict: Verdict | None = None, why: Fault | None = None) -> Job:
    """The job in its next phase; the first verdict and its fault stand."""
    if job.verdict is not None or verdict is None:
        return replace(job, phase=phase)
    return replace(job, phase=phase, verdict=verdict, fault=why)


def free_share(job: Job, gone: bool) -> Step:
    """The process has ended: the share goes back, once, and is retired where the tree is not proven gone."""
    tainted = job.tainted or not gone
    return replace(job, holds_share=False, tainted=tainted), (GiveBack(job.key, retire=tainted),)


def store(job: Job, what: What, verdict: Verdict, why: Fault | None = None) -> Step:
    """To staging-out with that verdict, storing that much."""
    return order(move(replace(job, keeps=what), Phase.STAGING_OUT, verdict, why), Kind.STORE, what)


def end_unsuccessful(job: Job, worth: What, why: Fault | None) -> Step:
    """No success: the cause, if there is one, gives the verdict; `worth` is stored where time or site ended the job."""
    if job.cause is Cause.FENCED:
        return vanish(job, why)
    if job.cause in EARLY:
        return store(job, worth, Verdict.INTERRUPTED, why)
    return store(job, What.LOGS, without_success(job), why)


def without_success(job: Job) -> Verdict:
    """The verdict of a job that ended neither well nor for another attempt to go on."""
    return Verdict.CANCELLED if job.cause is Cause.CANCELLED else Verdict.FAILED


def report(job: Job) -> Step:
    """Closed: told to the queue, and swept."""
    return then(order(replace(job, phase=Phase.CLOSED), Kind.REPORT), Kind.SWEEP)


def give_up(job: Job) -> Step:
    """Closed: back to the queue with no failure charged, and nothing left here."""
    return then(order(replace(job, phase=Phase.CLOSED), Kind.RETURN), Kind.SWEEP)


def vanish(job: Job, why: Fault | None) -> Step:
    """Closed because fenced: nothing is said or written outside any more; what is here is swept."""
    return order(replace(job, phase=Phase.CLOSED, cause=Cause.FENCED, fault=why), Kind.SWEEP)
