"""Every door to the outside world.

An adapter speaks model types only, translates foreign words in one visible map, raises only `PortError` leaves, holds
no job state, takes its time limits as arguments and never logs a secret.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from pilot.model.capability import HostFinding, ImageAtHand, Offer, RuntimeFinding
from pilot.model.facts import Usage
from pilot.model.faults import Code, Fault, fault
from pilot.model.files import CodePack, FileRecord, ImageUsed, Output
from pilot.model.job import Grant, JobSpec, Share
from pilot.model.queue import Explanation, JobRow, JobState, JobView, MatchMiss, QueueSettings, Submission, Sweep
from pilot.model.report import Isolation, Report

# --- what may go wrong at a door -----------------------------------------------------------------------------------


class PortError(Exception):
    """Something foreign did not do what was asked; carries the fault. Only its leaves are raised."""

    def __init__(self, code: Code, detail: str = "") -> None:
        super().__init__(detail)
        self.fault: Fault = fault(code, detail)


class Passing(PortError):
    """It may work later, unchanged: worth another try."""


class Final(PortError):
    """It will not work later either, unless something else is changed."""


class Unknown(Final):
    """Something was named that is not there; whoever named it is to look again."""


class Abandoned(PortError):
    """We gave it up ourselves; nobody is to blame."""


Abandon = Callable[[], bool]  # asked between blocks and steps; True = give up

# --- the queue, seen by a pilot ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Registration:
    """The queue knows this pilot; leases last `lease_seconds`.

    An empty queue is asked again after `poll_seconds`, and then at growing intervals up to `poll_cap_seconds`
    (0 = they do not grow). Further jobs are wanted only while the pilot is younger than `timefloor_seconds`, and it
    leaves in good order after `lifetime_seconds` (0 = no such limit). A queue that is `offline` gives nothing out, and
    waiting is no use. It wants to hear of changes of phase at once, at most every `phase_pause_seconds` (0 = no).
    `notes` are for the operator: what of the queue's own data was not understood.
    """

    lease_seconds: float
    poll_seconds: float
    queue_state: str = "online"
    poll_cap_seconds: float = 0.0
    timefloor_seconds: float = 0.0
    lifetime_seconds: float = 0.0
    phase_pause_seconds: float = 0.0
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ClaimRequest:
    """One job wanted. Asking again with the same `claim_id` gives the same grant."""

    claim_id: str
    offer: Offer


@dataclass(frozen=True, slots=True)
class Unclaim:
    """A claim that is not wanted any more; with the attempt that it was answered with, if the answer arrived."""

    claim_id: str
    job_id: str = ""
    attempt: int = 0
    receipt: str = ""


@dataclass(frozen=True, slots=True)
class Beat:
    """A sign of life of one attempt; `progress` is the payload's last progress record, JSON.

    `answer` is what the last `question` of the queue brought to light: text for people to read.
    """

    job_id: str
    attempt: int
    phase: str
    progress: str = ""
    receipt: str = ""
    usage: Usage = field(default_factory=Usage)
    answer: str = ""


@dataclass(frozen=True, slots=True)
class BeatReply:
    """The lease goes on (`ours`), or the attempt is somebody else's now.

    `command` is "", cancel, checkpoint or stop (save what can be saved and leave the job to others); `question` asks
    for a look into the job's own directory: `tail FILE`, `ls [FOLDER]` or `ps`, answered with the next beat.
    """

    job_id: str
    attempt: int
    ours: bool
    lease_seconds: float = 0.0
    command: str = ""
    question: str = ""


class Server(Protocol):
    """The queue as a pilot uses it. Lists throughout: one commit, one request, for many."""

    def register(self, offer: Offer) -> Registration:
        """Makes the pilot known, with what it offers."""

    def claim(self, requests: Sequence[ClaimRequest]) -> Sequence[Grant | None]:
        """One answer per request, in order; None = nothing that fits."""

    def changed(self, patience: float = 0.0) -> bool:
        """Whether asking again may give another answer than last time; True where it cannot be known.

        May wait up to `patience` seconds for it where that is cheaper than to ask often. Asked from a thread of its
        own, while others claim and report: it needs a connection of its own, and nobody waits for it at the end.
        """

    def renew(self, beats: Sequence[Beat]) -> Sequence[BeatReply]:
        """Renews leases and brings commands."""

    def report(self, reports: Sequence[Report]) -> Sequence[bool]:
        """True = recorded (or was already); False = refused, the attempt is no longer ours."""

    def give_back(self, claims: Sequence[Unclaim]) -> None:
        """Returns claims, unharmed; a claim id given back is never granted again."""

    def adopt(self, pilot_id: str, attempts: Sequence[Beat]) -> Sequence[BeatReply]:
        """That pilot takes over what an earlier one of its state directory left: ours again, or fenced."""

    def code(self, pack: CodePack) -> bytes:
        """The archive of a job's own code; the caller verifies it."""

    def close(self) -> None:
        """Lets go of connections and files."""


class Credentials(Protocol):
    """Who we are to a server: files that somebody keeps fresh, read when they are needed."""

    def headers(self) -> Mapping[str, str]:
        """The header lines that say so; none for a certificate. Raises PortError where they cannot be read."""

    def certificate(self) -> str:
        """The file of a TLS client certificate with its key; "" for a token."""

    def reread(self) -> bool:
        """Reads again, after a refusal; whether there is something new to try."""

    def ends(self) -> float:
        """When it runs out, seconds since the epoch; infinite where it does not say."""

    def hide(self, text: str) -> str:
        """The text without anything secret of ours in it."""


# --- the queue, seen by its users ------------------------------------------------------------------------------------


class Queue(Protocol):
    """The queue as its users use it; `job` is an id, or a name that one job alone has."""

    def add(self, jobs: Sequence[Submission]) -> Sequence[JobRow]:
        """Takes all of them or none; `after` names ids, or names given in the same call."""

    def add_sweep(self, template: Submission, parameters: Iterable[Mapping[str, str]]) -> Sweep:
        """Takes a job for each mapping, or none: `{name}` in the template stands for that parameter's value."""

    def find(
        self, states: Sequence[JobState] = (), owner: str = "", limit: int = 0, after: str = ""
    ) -> Sequence[JobRow]:
        """The jobs in those states (none given: all) of that owner, in order of arrival; those after that job's id."""

    def show(self, job: str) -> JobView:
        """One job in full."""

    def results(self, job: str) -> Sequence[Report]:
        """The reports of all its attempts, the last one last."""

    def explain(self, job: str) -> Explanation:
        """Why it stands where it stands."""

    def hold(self, jobs: Sequence[str]) -> Sequence[JobRow]:
        """Not to be given out (again) until released; what runs now runs on."""

    def release(self, jobs: Sequence[str]) -> Sequence[JobRow]:
        """May be given out again."""

    def cancel(self, jobs: Sequence[str]) -> Sequence[JobRow]:
        """To be ended: at once where they wait, through the heartbeat where they run."""

    def checkpoint(self, jobs: Sequence[str]) -> Sequence[JobRow]:
        """Running jobs are to write a checkpoint now, through the heartbeat."""

    def settings(self) -> QueueSettings:
        """The queue's name, owner, state and defaults."""

    def close(self) -> None:
        """Lets go of connections and files."""


# --- running payloads -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Sandbox:
    """The attempt's own directories on the node: `work` is the payload's, the rest is ours.

    `home` holds HOME and caches, `tmp` is room for /tmp and /var/tmp, `inputs` are staged under the names that the
    payload sees, `code` is the job's own, unpacked; `pilot` holds contract and records and is never writable from a
    container, but for the marker's directory; `logs` are stdout, stderr and the job's part of the pilot's log.
    """

    root: Path
    work: Path = field(init=False, repr=False, compare=False)
    home: Path = field(init=False, repr=False, compare=False)
    tmp: Path = field(init=False, repr=False, compare=False)
    inputs: Path = field(init=False, repr=False, compare=False)
    code: Path = field(init=False, repr=False, compare=False)
    pilot: Path = field(init=False, repr=False, compare=False)
    logs: Path = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for name in ("work", "home", "tmp", "code", "pilot", "logs"):
            object.__setattr__(self, name, self.root / name)
        object.__setattr__(self, "inputs", self.root / "in")


@dataclass(frozen=True, slots=True)
class RunRequest:
    """One command to be run for a job in its sandbox; `step` is run or validate; `binds` are the site's, read-only."""

    job_id: str
    attempt: int
    spec: JobSpec
    share: Share
    sandbox: Sandbox
    image: ImageUsed | None
    step: str = "run"
    command: tuple[str, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()
    binds: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RunPlan:
    """The exact command, environment and directory; what `--dry-run` shows and the launcher starts."""

    argv: tuple[str, ...]
    environment: tuple[tuple[str, str], ...]
    directory: str
    isolation: Isolation


class Runtime(Protocol):
    """How a payload is put into its container."""

    def check(self) -> RuntimeFinding:
        """Tries what works here; cached by a receipt."""

    def prepare(self, request: RunRequest) -> RunPlan:
        """Writes entry script and environment file into the sandbox, and says what to start."""

    def workdir(self, sandbox: Sandbox) -> str:
        """The working directory as the payload sees it."""


@dataclass(frozen=True, slots=True)
class Started:
    """A payload has been started under that launch id."""

    launch: str
    pid: int


@dataclass(frozen=True, slots=True)
class Gone:
    """A payload ended: exit code or signal, whether its whole tree is gone, and what it used."""

    launch: str
    exit_code: int | None
    signal: int | None
    gone: bool
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    memory_peak_bytes: int = 0
    stopped_by: str = ""
    error: str = ""


@dataclass(frozen=True, slots=True)
class Launch:
    """One process tree to be started and watched over. `grace` is in seconds."""

    launch: str
    plan: RunPlan
    record: Path
    stdout: Path
    stderr: Path
    grace: float
    log_bytes: int = 10_000_000


class Launcher(Protocol):
    """Starts payloads in a process of its own that outlives the pilot."""

    def start(self, launch: Launch) -> None:
        """Starts it; its end comes through `on_gone`."""

    def adopt(self, launch: str, record: Path) -> bool:
        """Takes over what an earlier pilot started, running or ended; False = nothing of that name can be found."""

    def stop(self, launch: str, grace: float) -> None:
        """TERM, grace, KILL, session sweep; the end comes through `on_gone`."""

    def signal(self, launch: str, number: int) -> None:
        """Sends one signal to the payload's process group."""

    def forget(self, launch: str) -> None:
        """The end has been noted; its record may go."""

    def close(self) -> None:
        """An orderly end: nothing runs any more."""


OnGone = Callable[[Gone], None]


@dataclass(frozen=True, slots=True)
class Vitals:
    """What is seen of a payload that runs: its last progress record (JSON, or nothing), and what it used so far."""

    progress: str = ""
    usage: Usage = field(default_factory=Usage)


class Insight(Protocol):
    """Looks into the sandbox of a job that runs: fixed functions, bounded in size and time, never a shell."""

    def vitals(self, sandboxes: Sequence[Sandbox]) -> Sequence[Vitals]:
        """How each payload gets on; what cannot be seen is left out."""

    def answer(self, sandbox: Sandbox, question: str) -> str:
        """Text for people: `tail FILE [LINES]`, `ls [FOLDER]`, `ps`; one that cannot be answered says why."""


# --- files, images, node --------------------------------------------------------------------------------------------


class Storage(Protocol):
    """Files by URL, verified; create-only."""

    def fetch(self, url: str, target: Path, abandon: Abandon) -> FileRecord:
        """Copies URL to `target` (through a temporary name), both checksums computed on the way."""

    def store(self, source: Path, url: str, abandon: Abandon) -> FileRecord:
        """Copies `source` to URL, create-only and read back; the same bytes twice is fine."""


class Collect(Protocol):
    """Finds a job's outputs in its working directory, safely."""

    def __call__(self, work: Path, outputs: Sequence[Output]) -> Sequence[tuple[str, Path]]:
        """Name and path of every output; raises output.missing, output.escape."""


class Unpack(Protocol):
    """Unpacks a job's own code."""

    def __call__(self, data: bytes, sha256: str, target: Path) -> None:
        """Verifies the archive and its members before a byte is written."""


class Images(Protocol):
    """The images of this node."""

    def resolve(self, reference: str, sha256: str) -> ImageUsed:
        """The image meant, its digest verified (a cached receipt counts), in the fastest form at hand."""

    def at_hand(self) -> Sequence[ImageAtHand]:
        """What is here, without verifying."""


class Probe(Protocol):
    """Looks at the node."""

    def look(self, scratch: Path) -> HostFinding:
        """Fast: files of /proc and /sys only."""


class Matcher(Protocol):
    """Evaluates a requirements expression, ClassAd language, both ways."""

    def check(self, expression: str) -> None:
        """Raises `Final` with job.invalid where the expression is refused; says why."""

    def matches(self, expression: str, target: dict[str, object], own: dict[str, object]) -> bool:
        """Whether the expression of `own` is true against `target`."""

    def why_not(self, expression: str, target: dict[str, object], own: dict[str, object]) -> MatchMiss | None:
        """The first clause of `own`'s expression that is not true against `target`; None = it matches."""


class Clock(Protocol):
    """Time, three ways."""

    def monotonic(self) -> float:
        """Seconds; stands still while the machine is suspended."""

    def boot(self) -> float:
        """Seconds; counts suspension."""

    def wall(self) -> float:
        """Seconds since the epoch, UTC."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the journal: when (UTC epoch and monotonic seconds), of which job, and the fact as plain data."""

    wall: float
    mono: float
    key: str
    fact: dict[str, object] = field(default_factory=dict)


class Journal(Protocol):
    """The log of facts, on disk before the orders that follow from them go out."""

    def replay(self) -> Sequence[Line]:
        """What an earlier pilot of this state directory left; a torn last line is dropped."""

    def write(self, lines: Sequence[Line], lasting: bool = True) -> None:
        """Appends; returns when the lines are on disk or, not `lasting`, when they outlive this process."""

    def full(self) -> bool:
        """Whether it is time to begin a new segment."""

    def begin(self, lines: Sequence[Line]) -> None:
        """Begins a new segment with these lines, which must tell all that is still open; atomic."""

    def close(self) -> None:
        """Lets go of the lock."""
