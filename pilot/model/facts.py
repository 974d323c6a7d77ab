"""What the deciding loop is told: answers, which carry the ticket of their order, and news."""

from dataclasses import dataclass

from pilot.model.faults import Fault
from pilot.model.files import FileRecord, ImageUsed, Resume
from pilot.model.job import Cause, Grant, Share
from pilot.model.orders import Kind


@dataclass(frozen=True, slots=True)
class GpuUsage:
    """What a payload used of one device; `method` and `quality` say how far the figures can be trusted."""

    uuid: str
    model: str
    utilisation: float
    memory_peak_bytes: int
    energy_joules: float
    method: str
    quality: str


@dataclass(frozen=True, slots=True)
class Usage:
    """What a payload used; `gpus` is empty for one that had no device."""

    cpu_seconds: float = 0.0
    memory_peak_bytes: int = 0
    io_wait_seconds: float = 0.0
    scratch_peak_bytes: int = 0
    gpus: tuple[GpuUsage, ...] = ()


WAITING = "waiting"  # what the marker's file says until the entry script is reached


@dataclass(frozen=True, slots=True)
class Ending:
    """The evidence a payload leaves: what `core/outcome` judges.

    `marker` is what the entry script left: "" (never reached), "missing" (no such command) or "started".
    `result_status` is the status in result.json, "" without one, "invalid" if it breaks the contract.
    `fresh_checkpoint` says that a complete checkpoint generation was written in this attempt. `orphaned` says that
    the payload was ended because the pilot, or what stands between pilot and payload, had died. `over_scratch` is
    what its sandbox held beyond its share, in bytes, 0 if it kept within.
    """

    marker: str = ""
    exit_code: int | None = None
    signal: int | None = None
    gone: bool = True
    out_of_memory: bool = False
    over_scratch: int = 0
    result_status: str = ""
    result_message: str = ""
    fresh_checkpoint: bool = False
    orphaned: bool = False
    stderr_tail: str = ""
    usage: Usage = Usage()


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to the order with that ticket."""

    key: str
    ticket: int


@dataclass(frozen=True, slots=True)
class Granted(Answer):
    """The queue gave an attempt."""

    grant: Grant


@dataclass(frozen=True, slots=True)
class Nothing(Answer):
    """The queue has nothing that fits; `left` counts waiting jobs that do not."""

    left: int = 0


@dataclass(frozen=True, slots=True)
class Arrived(Answer):
    """Image, code and inputs are on the node, verified."""

    image: ImageUsed | None = None
    inputs: tuple[FileRecord, ...] = ()


@dataclass(frozen=True, slots=True)
class Exited(Answer):
    """The payload ended: the answer to *start* and *adopt*, and to nothing else."""

    ending: Ending


@dataclass(frozen=True, slots=True)
class Stopped(Answer):
    """The stop ladder has been climbed; the payload's own end comes as `Exited`."""


@dataclass(frozen=True, slots=True)
class Saved(Answer):
    """The payload was told to write a checkpoint (and, where it says so, has written one)."""

    fresh: bool = False


@dataclass(frozen=True, slots=True)
class Validated(Answer):
    """The validate step ran to its end."""

    valid: bool
    detail: str = ""
    gone: bool = True


@dataclass(frozen=True, slots=True)
class Stored(Answer):
    """Everything the order named is stored and verified."""

    outputs: tuple[FileRecord, ...] = ()
    logs: tuple[FileRecord, ...] = ()
    resume: Resume | None = None
    archive: FileRecord | None = None


@dataclass(frozen=True, slots=True)
class Acknowledged(Answer):
    """The queue has the report (`accepted`), or refuses it because the attempt is no longer ours."""

    accepted: bool = True


@dataclass(frozen=True, slots=True)
class Returned(Answer):
    """The attempt was given back to the queue, unharmed."""


@dataclass(frozen=True, slots=True)
class Swept(Answer):
    """Processes, mounts and scratch of the attempt are gone (`gone`), or could not be removed."""

    gone: bool = True


@dataclass(frozen=True, slots=True)
class Broke(Answer):
    """The order could not be carried out. `gone` is false where processes may be left."""

    kind: Kind
    fault: Fault
    gone: bool = True


@dataclass(frozen=True, slots=True)
class News:
    """Something that happened to a job without having been asked for."""

    key: str


@dataclass(frozen=True, slots=True)
class Claiming(News):
    """The steward wants a job: the birth of a Job value."""


@dataclass(frozen=True, slots=True)
class Go(News):
    """The ledger gave the job its share."""

    share: Share


@dataclass(frozen=True, slots=True)
class End(News):
    """The job is to end early, for that cause; `fault` says more where there is more to say."""

    cause: Cause
    fault: Fault | None = None


@dataclass(frozen=True, slots=True)
class CheckpointDue(News):
    """It is time for a checkpoint."""


@dataclass(frozen=True, slots=True)
class RetryDue(News):
    """A parked job may try to store its outputs again."""


@dataclass(frozen=True, slots=True)
class Unfit(News):
    """The share that the job needs can never be given here."""

    fault: Fault


@dataclass(frozen=True, slots=True)
class Recovered(News):
    """The pilot restarted; orders open at its death are void."""


Fact = (
    Granted
    | Nothing
    | Arrived
    | Exited
    | Stopped
    | Saved
    | Validated
    | Stored
    | Acknowledged
    | Returned
    | Swept
    | Broke
    | Claiming
    | Go
    | End
    | CheckpointDue
    | RetryDue
    | Unfit
    | Recovered
)
