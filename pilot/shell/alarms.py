"""What is due in a job's phases: walltime, checkpoints, retries, and the deadlines of its orders."""

from collections.abc import Callable, Mapping

from pilot.core.timing import RETRY_CAP, delay
from pilot.model.facts import CheckpointDue, End, Fact, RetryDue
from pilot.model.faults import Code, fault
from pilot.model.job import Cause, Job, Phase
from pilot.model.orders import Kind, Order
from pilot.shell.timers import Timers

VALIDATE_SECONDS = 3600.0  # a validate step has no walltime of its own
RETRY_PARKED = (2.0, 60.0)
RETRY_REPORT = (0.2, RETRY_CAP)
STOP_MARGIN = 30.0  # beyond the grace: KILL, sweep, and ten seconds for what does not die
# Seconds after which the loop itself answers an order; *start* and *adopt* last as long as their payload.
DEADLINES = {
    Kind.CLAIM: 60.0,
    Kind.FETCH: 7200.0,
    Kind.STORE: 7200.0,
    Kind.STORE_CHECKPOINT: 1800.0,
    Kind.CHECKPOINT: 120.0,
    Kind.REPORT: 60.0,
    Kind.RETURN: 60.0,
    Kind.SWEEP: 600.0,
}


class Alarms:
    """Sets and drops the alarms of jobs; what is due is applied as a fact."""

    def __init__(
        self,
        timers: Timers,
        now: Callable[[], float],
        apply: Callable[[Fact], None],
        unit_random: Callable[[], float],
        deadlines: Mapping[Kind, float],
    ) -> None:
        self._deadlines = {**DEADLINES, **deadlines}
        self._timers = timers
        self._now = now
        self._apply = apply
        self._unit_random = unit_random
        self._tries: dict[tuple[str, str], int] = {}

    def entered(self, job: Job, walltime: float) -> None:
        """A job entered a phase; `walltime` in seconds, 0 = none."""
        match job.phase:
            case Phase.RUNNING:
                self._walltime(job.key, walltime, Cause.TIME_UP)
                self._checkpoints(job)
            case Phase.VALIDATING:
                self._walltime(job.key, VALIDATE_SECONDS, Cause.LIMIT)
            case Phase.STOPPING | Phase.STAGING_OUT:
                self._timers.cancel(f"{job.key}:walltime")
            case Phase.PARKED:
                self._parked(job.key)
            case Phase.CLOSED:
                self._timers.cancel_all(f"{job.key}:")

    def over(self, key: str) -> None:
        """The job is no more."""
        self._timers.cancel_all(f"{key}:")
        for each in [each for each in self._tries if each[0] == key]:
            del self._tries[each]

    def answered(self, key: str, ticket: int) -> None:
        """That order needs no deadline any more."""
        self._timers.cancel(f"{key}:order:{ticket}")

    def deadline(self, order: Order, grace: float, passed: Callable[[], None]) -> None:
        """After its time the loop answers the order itself."""
        seconds = grace + STOP_MARGIN if order.kind is Kind.STOP else self._deadlines.get(order.kind)
        if seconds is not None:
            self._timers.set(f"{order.key}:order:{order.ticket}", self._now() + seconds, passed)

    def report_pause(self, key: str, submit: Callable[[], None]) -> None:
        """The first report goes at once; each repeat waits longer."""
        pause = self._pause(key, "report", RETRY_REPORT)
        if pause is None:
            submit()
        else:
            self._timers.set(f"{key}:report", self._now() + pause, submit)

    def _walltime(self, key: str, seconds: float, cause: Cause) -> None:
        if seconds:
            end = End(key, cause, fault(Code.PAYLOAD_WALLTIME, f"{seconds:g} s"))
            self._timers.set(f"{key}:walltime", self._now() + seconds, lambda: self._apply(end))

    def _checkpoints(self, job: Job) -> None:
        if job.spec.checkpoint_interval:
            due = self._now() + job.spec.checkpoint_interval
            self._timers.set(f"{job.key}:checkpoint", due, lambda: self._checkpoint(job))

    def _checkpoint(self, job: Job) -> None:
        self._apply(CheckpointDue(job.key))
        self._checkpoints(job)

    def _parked(self, key: str) -> None:
        pause = self._pause(key, "parked", RETRY_PARKED) or RETRY_PARKED[0]
        self._timers.set(f"{key}:parked", self._now() + pause, lambda: self._retry(key))

    def _retry(self, key: str) -> None:
        self._apply(RetryDue(key))
        self._parked(key)

    def _pause(self, key: str, what: str, bounds: tuple[float, float]) -> float | None:
        """None the first time, then growing seconds."""
        tries = self._tries[key, what] = self._tries.get((key, what), -1) + 1
        return delay(tries - 1, *bounds, self._unit_random()) if tries else None
