"""An attempt as server and user are told."""

from dataclasses import dataclass, field

from pilot.model.facts import Usage
from pilot.model.faults import Fault
from pilot.model.files import FileRecord, ImageUsed, Resume
from pilot.model.job import Share, Verdict


@dataclass(frozen=True, slots=True)
class Seconds:
    """How long the attempt stood in each phase."""

    claiming: float = 0.0
    staging_in: float = 0.0
    ready: float = 0.0
    running: float = 0.0
    stopping: float = 0.0
    validating: float = 0.0
    staging_out: float = 0.0
    reporting: float = 0.0


@dataclass(frozen=True, slots=True)
class Isolation:
    """How far the payload was kept apart: container, devices, control group, network."""

    container: str = "none"
    devices: str = "none"
    cgroup: str = "none"
    network: str = "host"
    binds: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Logs:
    """Where the payload's output and the job's part of the pilot's log are."""

    stdout: str = ""
    stderr: str = ""
    pilot: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """The outcome of one attempt; times are UTC, ISO 8601.

    `archive` is the stored archive of all logs, where the job asked for one; `receipt` goes back unread, see `Grant`.
    `message` is what the payload said of its end in result.json.
    """

    job_id: str
    attempt: int
    name: str
    verdict: Verdict
    started: str
    ended: str
    exit_code: int | None = None
    signal: int | None = None
    fault: Fault | None = None
    seconds: Seconds = field(default_factory=Seconds)
    usage: Usage = field(default_factory=Usage)
    image: ImageUsed | None = None
    share: Share = field(default_factory=Share)
    isolation: Isolation = field(default_factory=Isolation)
    outputs: tuple[FileRecord, ...] = ()
    logs: Logs = field(default_factory=Logs)
    validated: bool | None = None
    resume: Resume | None = None
    pilot_id: str = ""
    archive: FileRecord | None = None
    receipt: str = ""
    message: str = ""
