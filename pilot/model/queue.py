"""The queue as its users see it: what they hand in, what they are shown."""

from dataclasses import dataclass
from enum import StrEnum

from pilot.model.faults import Fault
from pilot.model.job import JobSpec
from pilot.model.report import Report


class QueueState(StrEnum):
    """Online gives jobs out; test gives out the queue owner's alone; drain and offline give none.

    In every state running jobs go on, and reports and new jobs are taken. Drain tells pilots to finish what they
    have and wait; offline tells them that waiting is no use.
    """

    ONLINE = "online"
    TEST = "test"
    DRAIN = "drain"
    OFFLINE = "offline"


class JobState(StrEnum):
    """Where a job stands in the queue."""

    WAITING = "waiting"
    HELD = "held"
    GRANTED = "granted"
    DONE = "done"


@dataclass(frozen=True, slots=True)
class QueueSettings:
    """One named queue of a file; `destination` is the base URL for outputs that name none."""

    name: str
    owner: str
    state: QueueState = QueueState.ONLINE
    destination: str = ""
    lease_seconds: float = 60.0
    poll_seconds: float = 0.25


@dataclass(frozen=True, slots=True)
class Submission:
    """One job handed in, with an id of the user's own and the archive of its code where it has them."""

    spec: JobSpec
    job_id: str = ""
    code: bytes = b""


@dataclass(frozen=True, slots=True)
class JobRow:
    """One job in a listing; `verdict` is empty until it is done."""

    job_id: str
    attempt: int
    name: str
    owner: str
    state: JobState
    verdict: str = ""


@dataclass(frozen=True, slots=True)
class Sweep:
    """Jobs that were added together from one description: how many, and the ids of the first and the last."""

    name: str
    jobs: int
    first: str
    last: str


@dataclass(frozen=True, slots=True)
class JobView:
    """One job in full: how it stands, what it asks, what it waits for, and every attempt's report."""

    job: JobRow
    queue: str
    spec: JobSpec
    priority: int
    failures: int
    interruptions: int
    added: str
    ended: str = ""
    pilot: str = ""
    phase: str = ""
    progress: str = ""
    lease_until: str = ""
    told: str = ""
    fault: Fault | None = None
    waits_for: tuple[str, ...] = ()
    reports: tuple[Report, ...] = ()


@dataclass(frozen=True, slots=True)
class Nearest:
    """The offer that came nearest, and when it was last seen (UTC, ISO 8601)."""

    offer: str
    seen_at: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a job stands where it stands: the first clause that refuses, what it wanted and what was offered."""

    job_id: str
    clause: str
    attribute: str
    wanted: str
    offered: str
    nearest: Nearest | None = None


@dataclass(frozen=True, slots=True)
class MatchMiss:
    """The first part of an expression that is not true, the attribute it turns on, and what was found there."""

    clause: str
    attribute: str
    offered: str
