"""What a drill puts into the pilot's failpoints: a kill, of the pilot or of its supervisor or both; or a count."""

import contextlib
import os
import signal
from pathlib import Path

from pilot import failpoints
from pilot.supervisor import procs

KILLS = ("kill", "kill-supervisor", "kill-both")


def supervisors(state: Path) -> list[int]:
    """The supervisor processes of a state directory, without their shims."""
    return [each.pid for each in procs.table() if each.state not in "ZX" and _is_supervisor(each.pid, state)]


def _is_supervisor(pid: int, state: Path) -> bool:
    """Shims are forks of the supervisor, with its command line."""
    try:
        return _boots(pid, state) and not _boots(procs.look(pid).parent, state)
    except OSError:
        return False


def _boots(pid: int, state: Path) -> bool:
    words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    return os.fsencode(state) in words and any(b"pilot.supervisor.main" in each for each in words)


def kill_supervisors(state: Path) -> None:
    """Kills them with -9."""
    for pid in supervisors(state):
        hit(pid, signal.SIGKILL)


def hit(pid: int, number: signal.Signals) -> None:
    """Sends a signal to a process that may have ended in this very moment: then it is none of ours any more."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


class Armed(failpoints._Armed):
    """One armed point; knows the supervisor too."""

    def __init__(self, text: str, state: str) -> None:
        super().__init__(text)
        self._state = Path(state)

    def _act(self) -> None:
        if self.verb in ("kill-supervisor", "kill-both"):
            kill_supervisors(self._state)
        if self.verb in ("kill", "kill-both"):
            os.kill(os.getpid(), signal.SIGKILL)


class _AnyName(str):
    """Is asked for equality at every point, takes a note, and is never equal."""

    __slots__ = ("note",)

    def __eq__(self, other: object) -> bool:
        os.write(self.note, f"{other}\n".encode())
        return False

    __hash__ = str.__hash__


class Census(failpoints._Armed):
    """Writes down every point that is passed, in order."""

    def __init__(self, path: Path) -> None:
        super().__init__("none:kill")
        self.name = _AnyName("none")
        self.name.note = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
