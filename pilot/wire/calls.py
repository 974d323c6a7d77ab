"""Our own calls beside PanDA's: where they are, who may make them, and how a server says that it has them.

PanDA's `is_alive` exists on every server. A plain one answers it with `data: null`, ours with
`data: {"grid": {"version": "1.0", "calls": [...]}}`. No call of this page is sent to a server that did not say so.

Each call is a POST of a JSON object: `queue` (a name) beside the arguments; a value is `to_plain` of the model's and
the ports' own dataclasses. The answer stands in PanDA's envelope. A refusal is `success: false`, `message` one clear
line, `data: {"code": fault code, "kind": passing | final | unknown}`, under a fitting HTTP status.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from pilot.model.faults import Code
from pilot.wire.envelope import Bounds

VERSION: Final = "1.0"
ALIVE: Final = "/api/v1/system/is_alive"
GRID: Final = "/api/v1/grid"
GIVEN_QUEUE: Final = "default"  # the queue that is meant where a call names none

# What a pilot asks. `register {offer}`; `claim {offers, claims: [[claim_id, number of its offer], ...]}` ->
# {grants: [Grant | null], version}; `changed {since, patience}` -> {changed, version}; `renew {beats}`;
# `report {reports}`; `give_back {claims}`; `adopt {pilot_id, attempts}`; `leave {pilot_id}`: it asks for
# nothing more (a courtesy to those who watch, nothing depends on it); GET `code?sha256=` -> the raw archive.
#
# `storage_token {job_id, attempt, claim_id}` -> {token, expires}, where the site gave its storage's key: WLCG's
# profile, reading under the job's own folder, creating under the attempt's, as long as the lease.
#
# `version` is opaque: how the queue stood before that claim was matched, "" where it granted something, for there
# may be more. `changed` says whether the queue stands otherwise now than at `since`; of "" it always has changed.
PILOT_CALLS: Final = (
    "register", "claim", "changed", "renew", "report", "give_back", "adopt", "leave", "code", "storage_token",
)  # fmt: skip
# What a user asks. PUT `code?sha256=` takes a raw archive, then `add {jobs: [{spec, job_id}, ...]}` names it.
# `add_sweep {template: {spec, job_id}, names, rows}` -> Sweep: a job for each row, `{name}` in the template stands for
# the row's value of that name.
# `find {states, owner, limit, after}` gives the rows after that job in order of arrival, `results {job, skip}` the
# reports after so many: both are read by the page. `show {job}`, `explain {job}`, `settings {}`, and with `{jobs}`
# `hold`, `release`, `cancel`, `checkpoint`: as the `Queue` port. `ask {job, question}` puts a question to a running job
# (`tail FILE`, `ls [FOLDER]`, `ps`); `answer {job}` -> {question, answer}, the answer "" until a heartbeat brought it.
# `log {job, which, offset}` -> {text, offset, live}: what that log holds from there on as far as the service can read
# it, where to go on reading, and whether more may come.
USER_CALLS: Final = (
    "code", "add", "add_sweep", "find", "show", "results", "explain", "hold", "release", "cancel", "checkpoint",
    "settings", "ask", "answer", "log",
)  # fmt: skip
# What shows the queue: GET `login` -> where tokens come from; GET `board?find=&state=&job=` -> what the page shows.
FACE_CALLS: Final = ("login", "board")
CALLS: Final = tuple(dict.fromkeys((*PILOT_CALLS, *USER_CALLS, *FACE_CALLS)))

PATIENCE_CAP_SECONDS: Final = 25.0  # the longest look: under the 30 s after which proxies on the way give up
BATCH_CAP: Final = 1000  # claims, beats or reports in one call
# A reply is read as a whole, within the envelope's `MOST`. So one job is never more than half of that (a larger one is
# refused), a batch whose answer is more is asked for in halves, and listings come by the page.
JOB_CAP: Final = Bounds(octets=2 << 20, values=75_000)
PAGE_ROWS: Final = 1000
ADD_CAP: Final = 5000  # jobs in one `add`; a sweep's are not limited

PASSING, FINAL, UNKNOWN = "passing", "final", "unknown"
KINDS: Final = frozenset({PASSING, FINAL, UNKNOWN})


def path(verb: str) -> str:
    """Where that call of ours is."""
    return f"{GRID}/{verb}"


def discovery(calls: tuple[str, ...] = CALLS) -> dict[str, object]:
    """What our server answers to `is_alive`."""
    return {"grid": {"version": VERSION, "calls": list(calls)}}


def calls_of(data: object) -> frozenset[str]:
    """The calls of ours that a server says it has; none where it is a plain PanDA server, or of another version."""
    grid = data.get("grid") if isinstance(data, Mapping) else None
    if not isinstance(grid, Mapping) or not _speaks_ours(grid.get("version")):
        return frozenset()
    found = grid.get("calls")
    return frozenset(each for each in found if each in CALLS) if isinstance(found, list) else frozenset()


def _speaks_ours(version: object) -> bool:
    """The first number is the one that breaks; the second only adds."""
    return isinstance(version, str) and version.partition(".")[0] == VERSION.partition(".")[0]


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why our server did not do what was asked: a registered fault, and whether asking again may help."""

    code: Code
    kind: str

    def plain(self) -> dict[str, object]:
        """As it stands in the envelope's `data`."""
        return {"code": self.code.value, "kind": self.kind}


def refusal_of(data: object) -> Refusal | None:
    """The refusal in an envelope's `data`; None where it holds no such thing."""
    if not isinstance(data, Mapping):
        return None
    code, kind = data.get("code"), data.get("kind")
    if not isinstance(code, str) or not isinstance(kind, str) or kind not in KINDS or code not in set(Code):
        return None
    return Refusal(Code(code), kind)
