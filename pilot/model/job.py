"""What is asked for, and where one attempt at it stands."""

from dataclasses import dataclass, field
from enum import StrEnum

from pilot.model.faults import Fault
from pilot.model.files import CodePack, Input, Output, Resume, What
from pilot.model.orders import Kind

VARIANTS_CAP = 32  # of needs in one job: each is matched with every offer


class Phase(StrEnum):
    """Where a job stands. Phases never go back."""

    CLAIMING = "claiming"
    STAGING_IN = "staging_in"
    READY = "ready"
    RUNNING = "running"
    STOPPING = "stopping"
    VALIDATING = "validating"
    STAGING_OUT = "staging_out"
    PARKED = "parked"
    CLOSED = "closed"


class Verdict(StrEnum):
    """How a job ended."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    CANCELLED = "cancelled"
    DECLINED = "declined"


class Cause(StrEnum):
    """Why a job is being ended before its own end; not yet a verdict."""

    CANCELLED = "cancelled"
    TIME_UP = "time-up"
    PREEMPTED = "preempted"
    LIMIT = "limit"
    FENCED = "fenced"


@dataclass(frozen=True, slots=True)
class GpuNeeds:
    """Accelerators wanted: how many, device memory in bytes each, and version conditions such as ">=8.0"."""

    count: int = 0
    memory_bytes: int = 0
    capability: str = ""
    cuda: str = ""


@dataclass(frozen=True, slots=True)
class Needs:
    """One variant of what a payload needs; sizes in bytes, walltime in seconds, 0 = no limit asked."""

    cpus: int = 1
    memory_bytes: int = 0
    scratch_bytes: int = 0
    walltime_seconds: int = 0
    gpus: GpuNeeds = field(default_factory=GpuNeeds)


@dataclass(frozen=True, slots=True)
class JobSpec:
    """What is wanted, as checked at `add`; every path absolute, every local file packed or pinned.

    `checkpoint_interval` is in seconds, 0 = only when told. `code` is null when the job brings none. `log_archive`
    asks for all logs as one gzipped tar archive, stored whatever the verdict. `contract` "" = the payload knows none.
    """

    name: str
    command: tuple[str, ...]
    image: str = ""
    image_sha256: str = ""
    code: CodePack | None = None
    environment: tuple[tuple[str, str], ...] = ()
    needs: tuple[Needs, ...] = (Needs(),)
    requirements: str = ""
    inputs: tuple[Input, ...] = ()
    outputs: tuple[Output, ...] = ()
    validate: tuple[str, ...] = ()
    checkpoint_interval: int = 0
    network: str = "none"
    kind: str = "batch"
    attempts: int = 3
    max_interruptions: int = 100
    priority: int = 0
    after: tuple[str, ...] = ()
    contract: str = "1.0"
    log_archive: Output | None = None


@dataclass(frozen=True, slots=True)
class Share:
    """The very cores and devices granted to one job; memory and scratch in bytes."""

    cpus: tuple[int, ...] = ()
    memory_bytes: int = 0
    scratch_bytes: int = 0
    devices: tuple[str, ...] = ()
    walltime_seconds: int = 0


@dataclass(frozen=True, slots=True)
class Grant:
    """One attempt given to this pilot: the lease lasts `lease_seconds` from now unless renewed.

    `receipt` is the server's own note about it, unread here, handed back with every word about the attempt. `refusal`
    says why the adapter could not make a job of what the server gave: the pilot declines it, like any job.
    """

    job_id: str
    attempt: int
    spec: JobSpec
    lease_seconds: float
    owner: str = ""
    resume: Resume | None = None
    destination: str = ""
    receipt: str = ""
    refusal: Fault | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """One attempt in the pilot's hands.

    `key` is the claim id: it names the attempt in this pilot from before the queue has answered. `open` holds the
    orders not yet answered, kind -> ticket; `cause` says why the job is being ended early; `keeps` what is to be
    stored of it; `tickets` counts the tickets given out so far.
    """

    key: str
    phase: Phase = Phase.CLAIMING
    grant: Grant | None = None
    verdict: Verdict | None = None
    fault: Fault | None = None
    cause: Cause | None = None
    keeps: What = What.LOGS
    open: tuple[tuple[Kind, int], ...] = ()
    tickets: int = 0
    holds_share: bool = False
    tainted: bool = False

    @property
    def spec(self) -> JobSpec:
        """The job's description; only a granted job has one."""
        if self.grant is None:
            raise LookupError(f"{self.key}: not granted yet")
        return self.grant.spec

    def ticket(self, kind: Kind) -> int | None:
        """The ticket of the open order of that kind, if there is one."""
        return next((number for each, number in self.open if each is kind), None)
