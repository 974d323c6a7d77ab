"""The composition root of `pilot job`: logs, stories and sandboxes of single jobs."""

import json
import os
import shlex
import shutil
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import unquote, urlsplit

from pilot.adapters.journal_file import read_segment, segments
from pilot.assemble.queue import open_queue
from pilot.assemble.served_log import ServedLog
from pilot.assemble.server import is_remote, served_log
from pilot.core.reporting import iso
from pilot.model.faults import Code
from pilot.model.plain import to_plain
from pilot.model.queue import JobRow
from pilot.ports import Final, Line, Unknown
from pilot.shell.story import Held, folded
from pilot.supervisor.follow import Follower

PLAN = "plan.json"


@dataclass(slots=True)
class Log:
    """One log of a job: growing in a sandbox, or as it was stored."""

    path: Path
    _follower: Follower
    _sandbox: Path | None
    pause: float = 0.2  # seconds between two looks while it is followed

    def more(self) -> bytes:
        """What came since the last call."""
        return self._follower.more()

    def live(self) -> bool:
        """Whether the job may still write."""
        return self._sandbox is not None and self._sandbox.exists()

    def pending(self) -> bool:
        """A file is there or it is not."""
        return False


@dataclass(frozen=True, slots=True)
class Place:
    """A pilot's state directory, if any; `kept`: whether sandboxes kept there go before what the queue knows."""

    state: Path | None
    kept: bool = False


def find_log(job: str, place: Place, queue: str | None, which: str) -> Log | ServedLog:
    """The job's log in a pilot's state directory, else where the queue's last report says that it was stored.

    A served queue reads it itself, and looks into a running job's directory for us.
    """
    for sandbox in _sandboxes(place.state, job) if place.state else ():
        if not place.kept and sandbox.parent.name != "jobs":
            continue  # an older attempt's, perhaps
        path = sandbox / "logs" / which
        return Log(path, Follower(str(path)), sandbox if sandbox.parent.name == "jobs" else None)
    if not queue:
        raise Unknown(
            Code.STAGE_IN_MISSING, f"job {job}: no {which} found; give --state of its pilot, or --queue of its queue"
        )
    if is_remote(queue):
        return served_log(queue, job, which)
    stored = _stored_log(job, queue, which)
    return Log(stored, Follower(str(stored)), None)


def _stored_log(job: str, queue: str, which: str) -> Path:
    reports = open_queue(queue, "default", "").results(job)
    if not reports:
        more = f"`pilot queue explain {job}` says how it stands; while it runs, give --state of its pilot"
        raise Final(Code.STAGE_IN_MISSING, f"job {job}: no attempt of it has ended yet; {more}")
    urls = [getattr(each.logs, which) for each in reports]
    found = next((each for each in reversed(urls) if each), None)
    return Path(unquote(urlsplit(found).path)) if found else Path(os.devnull)  # empty logs are not stored


def _sandboxes(state: Path, job: str) -> list[Path]:
    """The job's sandboxes, by its id or name, the newest first: those at work, then those kept after a failure."""
    places = [each for place in ("jobs", "kept") for each in (state / "scratch" / place).glob("*.*")]
    attempts = [each for each in places if each.suffix[1:].isdigit()]
    found = [each for each in attempts if job in (unquote(each.stem), _name_in(each))]
    return sorted(found, key=lambda each: (each.parent.name == "jobs", each.stat().st_mtime), reverse=True)


def _name_in(sandbox: Path) -> str:
    """The name of the job that it was made for; "" before the payload was started."""
    try:
        return str(json.loads((sandbox / "pilot" / "contract.json").read_text(encoding="utf-8"))["name"])
    except (OSError, ValueError, KeyError):
        return ""


def cancel(job: str, queue: str, user: str) -> JobRow:
    """Asks the queue to end a job; gives how it stands now."""
    with closing(open_queue(queue, "default", user)) as opened:
        return opened.cancel([job])[0]


def retell(job: str, state: Path, style: str) -> Iterator[str]:
    """Every fact of a job in the journal, and where it led; raises in one line where there is none."""
    held: dict[str, Held] = {}
    told = 0
    for segment in segments(state):
        for line in read_segment(segment):
            before = held.get(line.key)
            held[line.key] = folded(before, line)
            grant = held[line.key].job.grant
            if grant is not None and job in (grant.job_id, grant.spec.name):
                told += 1
                yield _told(line, held[line.key], style)
    if not told:
        raise Unknown(Code.JOB_INVALID, f"job {job}: the journal in {state} tells nothing of it")


def _told(line: Line, after: Held, style: str) -> str:
    if style == "json":
        return json.dumps({"time": iso(line.wall), "fact": line.fact, "job": to_plain(after.job)})
    job = after.job
    verdict = f" verdict={job.verdict}" if job.verdict else ""
    why = f" {job.fault.code}: {job.fault.detail}" if job.fault else ""
    orders = ", ".join(f"{kind}#{ticket}" for kind, ticket in job.open) or "-"
    return f"{iso(line.wall)} {line.fact.get('is', '?'):<14} -> {job.phase:<12} open: {orders}{verdict}{why}"


def open_again(job: str, state: Path, command: tuple[str, ...], dry_run: bool) -> int:
    """Runs a command in the sandbox of a failed job with its image, binds and environment; no command: its own."""
    sandbox = next(iter(_sandboxes(state, job)), None)
    plan = sandbox and sandbox / "pilot" / PLAN
    if sandbox is None or plan is None or not plan.is_file():
        raise Unknown(
            Code.JOB_INVALID, f"job {job}: no kept sandbox in {state}; a pilot keeps those of its last failed jobs"
        )
    found = json.loads(plan.read_text().replace(json.dumps(_origin(plan))[1:-1], str(sandbox)))
    argv = [*found["argv"][: -found["words"]], *command] if command else found["argv"]
    if not dry_run:
        _become(sandbox, argv, found)
    print(shlex.join(argv))  # noqa: T201  the command is what was asked for
    return 0


def _become(sandbox: Path, argv: list[str], found: dict[str, Any]) -> NoReturn:
    shutil.rmtree(sandbox / "tmp", ignore_errors=True)
    (sandbox / "tmp").mkdir()
    os.chdir(found["directory"])
    os.execve(argv[0], argv, dict(found["environment"]))  # noqa: S606  no shell is wanted


def _origin(plan: Path) -> str:
    """Where the sandbox lay when the job ran: kept sandboxes have moved."""
    return str(json.loads(plan.read_text())["root"])
