"""The `Insight` port: looks into a running job's sandbox with fixed functions, never a shell.

The payload owns the directory and may be changing it: links are followed below it alone, only regular files are read,
and every answer is bounded.
"""

import json
import math
import os
import shlex
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from pilot.adapters.beneath import EscapeError, opened, resolve
from pilot.model.facts import Usage
from pilot.ports import Sandbox, Vitals
from pilot.supervisor import procs, record

EVENTS = "events.jsonl"
PROGRESS_BYTES = 8192  # one line of docs/contract.md
TAIL_BYTES = 16_000
TAIL_LINES = 100
LISTED = 500
_SCANNED = 20_000  # entries of a folder that are looked at before it is called too large
_WORDS_OF_A_COMMAND = 200
_EVENTS_BYTES = 8 * PROGRESS_BYTES  # how far back the last progress record is looked for
_LOGS = ("stdout", "stderr", "pilot")
_STEPS = ("validate", "run")  # of a job, the later one first
_TICK = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


class SandboxInsight:
    """Looks into sandboxes; `workdir` is where payloads in containers see their directory."""

    def __init__(self, workdir: str = "/srv") -> None:
        self._workdir = workdir
        self._verbs: dict[str, Callable[[Sandbox, list[str]], str]] = {"tail": self._tail, "ls": self._ls, "ps": _ps}

    def vitals(self, sandboxes: Sequence[Sandbox]) -> Sequence[Vitals]:
        """How each payload gets on; what cannot be seen is left out."""
        table = procs.table()  # once for all: a busy node has thousands
        return [Vitals(_progress(each), _usage(each, table)) for each in sandboxes]

    def answer(self, sandbox: Sandbox, question: str) -> str:
        """Text for people; a question that cannot be answered says why."""
        try:
            verb, *words = shlex.split(question)
            return self._verbs[verb](sandbox, words)
        except (KeyError, ValueError):
            return f"{question[:80]!r}: ask `tail FILE [LINES]`, `ls [FOLDER]` or `ps`"
        except EscapeError as problem:
            return str(problem)
        except OSError as error:
            return f"{question[:80]}: {error.strerror}"

    # --- tail, ls ------------------------------------------------------------------------------------------

    def _tail(self, sandbox: Sandbox, words: list[str]) -> str:
        """The last lines of a file; stdout, stderr and pilot mean the job's logs."""
        name = words[0] if words else "stdout"
        lines = int(words[1]) if len(words) > 1 else TAIL_LINES
        if name in _LOGS:
            return _last_lines(sandbox.logs, (name,), lines)
        return _last_lines(sandbox.work, self._resolved(sandbox, name), lines)

    def _ls(self, sandbox: Sandbox, words: list[str]) -> str:
        """What a folder holds, by name: kind and mode, bytes, time of the last change (UTC)."""
        with opened(sandbox.work, self._resolved(sandbox, words[0]) if words else ()) as folder:
            return "\n".join(_listed(folder))

    def _resolved(self, sandbox: Sandbox, name: str) -> tuple[str, ...]:
        work = sandbox.work.resolve()
        inside = name
        for alias in (self._workdir, str(work)):
            if name == alias or name.startswith(alias + "/"):
                inside = name[len(alias) + 1 :]
        if inside.startswith("/"):
            raise EscapeError(f"{name}: not in the job's directory")
        return resolve(work, inside, (self._workdir, str(work))).parts


def _last_lines(root: Path, parts: tuple[str, ...], lines: int) -> str:
    data, whole = _end_of(root, parts, TAIL_BYTES)
    found = data.decode(errors="replace").splitlines()
    kept = found if whole or len(found) < 2 else found[1:]  # the first line of what was cut is not whole
    return "\n".join(kept[-max(1, lines) :])


def _end_of(root: Path, parts: tuple[str, ...], limit: int) -> tuple[bytes, bool]:
    """The last bytes of a regular file, and whether they are all of it."""
    if not parts:
        raise IsADirectoryError(21, "it is a folder: ask `ls`")
    with opened(root, parts[:-1]) as folder:
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        descriptor = os.open(parts[-1], flags, dir_fd=folder)
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise OSError(22, "it is no regular file")
        start = max(0, found.st_size - limit)
        return os.pread(descriptor, limit, start), start == 0
    finally:
        os.close(descriptor)


def _listed(folder: int) -> Iterator[str]:
    names = []
    with os.scandir(folder) as entries:
        for entry in entries:
            names.append(entry.name)
            if len(names) > _SCANNED:
                break
    for name in sorted(names)[:LISTED]:
        yield f"{_described(folder, name)}  {name if name.isprintable() else repr(name)}"
    if len(names) > LISTED:
        yield f"... {len(names) - LISTED:,} more" if len(names) <= _SCANNED else "... and very many more"


def _described(folder: int, name: str) -> str:
    try:
        seen = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except OSError:
        return "?"
    changed = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seen.st_mtime))
    return f"{stat.filemode(seen.st_mode)} {seen.st_size:>14,} {changed}"


# --- processes -----------------------------------------------------------------------------------------------


def _ps(sandbox: Sandbox, words: list[str]) -> str:
    """The job's own process tree."""
    lines = [f"{'pid':>8} {'parent':>8} s {'cpu s':>9} {'memory MB':>10}  command"]
    lines += [
        f"{each.pid:>8} {each.parent:>8} {each.state} {each.cpu:>9.1f} {each.resident / 1e6:>10.1f}  {each.command()}"
        for each in sorted(_tree(sandbox, procs.table()), key=lambda each: each.pid)[:LISTED]
    ]
    return "\n".join(lines) if len(lines) > 1 else "nothing of the job runs now"


class _Process:
    """One process of the job, with what it and the children that it has reaped used."""

    def __init__(self, seen: procs.Process) -> None:
        self.pid, self.parent, self.state = seen.pid, seen.parent, seen.state
        stat_line = procs.read(f"/proc/{seen.pid}/stat")
        fields = stat_line[stat_line.rindex(b")") + 2 :].split()
        self.cpu = sum(map(int, fields[11:15])) / _TICK
        self.resident = int(fields[21]) * _PAGE
        self._name = stat_line[stat_line.index(b"(") + 1 : stat_line.rindex(b")")].decode(errors="replace")

    def peak(self) -> int:
        """The most memory that it ever held, in bytes."""
        for line in procs.read(f"/proc/{self.pid}/status").splitlines():
            if line.startswith(b"VmHWM:"):
                return int(line.split()[1]) * 1024
        return 0

    def command(self) -> str:
        """Its command line, cut short; the name alone where that cannot be read."""
        try:
            words = procs.read(f"/proc/{self.pid}/cmdline").split(b"\0")
        except OSError:
            words = []
        said = " ".join(b" ".join(words).decode(errors="replace").split())
        return said[:_WORDS_OF_A_COMMAND] if said else f"[{self._name}]"


def _tree(sandbox: Sandbox, table: list[procs.Process]) -> Iterator[_Process]:
    """Every process of the step that runs now: all that is below the payload's shim, which keeps orphans too."""
    shim = next((found for step in _STEPS if (found := _shim(sandbox.pilot / step)) is not None), None)
    for each in procs.descendants(shim, table) if shim is not None else ():
        try:
            yield _Process(each)
        except (OSError, ValueError, IndexError):
            continue  # it has ended meanwhile


def _shim(folder: Path) -> int | None:
    """The shim of a step that runs, if this very process is still alive."""
    try:
        started = record.read(os.fspath(folder), record.STARTED)
        pid, since = int(str(started["shim_pid"])), int(str(started["shim_start_time"]))
    except (OSError, ValueError, KeyError):
        return None
    return pid if procs.alive(pid, since) else None


def _usage(sandbox: Sandbox, table: list[procs.Process]) -> Usage:
    """What the processes that are there have used; those that were never waited for are not counted."""
    tree = list(_tree(sandbox, table))
    return Usage(
        cpu_seconds=round(sum(each.cpu for each in tree), 2), memory_peak_bytes=max(map(_peak, tree), default=0)
    )


def _peak(process: _Process) -> int:
    try:
        return process.peak()
    except (OSError, ValueError):
        return process.resident


# --- progress ------------------------------------------------------------------------------------------------


def _progress(sandbox: Sandbox) -> str:
    """The payload's last progress record, written anew: one JSON object, or nothing."""
    try:
        data, _ = _end_of(sandbox.work, (EVENTS,), _EVENTS_BYTES)
    except OSError:
        return ""
    records = map(_record, reversed(data.split(b"\n")))
    return next((each for each in records if each), "")


def _record(line: bytes) -> str:
    if b'"progress"' not in line or len(line) > PROGRESS_BYTES:
        return ""
    try:
        found = json.loads(line, parse_constant=_refuse, parse_float=_finite)
    except (ValueError, RecursionError):
        return ""
    if not isinstance(found, dict) or found.get("type") != "progress":
        return ""
    return json.dumps(found, ensure_ascii=True, separators=(",", ":"))


def _refuse(name: str) -> object:
    raise ValueError(name)


def _finite(text: str) -> float:
    """JSON has no infinity, but 1e999 becomes one."""
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(text)
    return number
