"""For a restarted pilot that found no supervisor: ends what an earlier payload may have left on this node."""

from __future__ import annotations

import os
import select
import time

from pilot.supervisor import procs, record
from pilot.supervisor.lean import signal
from pilot.supervisor.sweep import UNKILLABLE_AFTER_S

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pilot.supervisor.link import Message

_LOOK_S = 0.02


def sweep(directory: str, limit_s: float = UNKILLABLE_AFTER_S) -> bool:
    """Ends what is left of the payload recorded in `directory`; True when nothing is.

    A shim that is still alive is left to do it (it has seen its supervisor's death) and to write exit.json.
    """
    try:
        started = record.read(directory, record.STARTED)
    except FileNotFoundError:
        return True  # the record is on disk before the exec: nothing has ever run
    if started["boot_id"] != procs.boot_id():
        return True
    _await_shim(started, limit_s)
    return _end_session(started, limit_s)


def _await_shim(started: Message, limit_s: float) -> None:
    """Waits while the shim lives, as long as its ladder may take."""
    deadline = time.monotonic() + float(str(started["grace"])) + limit_s
    while procs.alive(_number(started, "shim_pid"), _number(started, "shim_start_time")):
        if time.monotonic() > deadline:
            return
        select.select([], [], [], _LOOK_S)


def _end_session(started: Message, limit_s: float) -> bool:
    deadline = time.monotonic() + limit_s
    while left := _left(started):
        if time.monotonic() > deadline:
            return False
        for process in left:
            procs.send(process, signal.SIGSTOP)  # first, so that none forks while the others are being ended
        for process in left:
            procs.send(process, signal.SIGKILL)
        select.select([], [], [], _LOOK_S)
    return True


def _left(started: Message) -> list[procs.Process]:
    """The living processes of the recorded session, or with the payload's mark in their environment.

    The session's number may have passed to a stranger if its leader is alive with another start time. With the
    leader dead and a member alive it cannot have.
    """
    everybody = [p for p in procs.table() if p.state not in "ZX" and p.pid != os.getpid()]
    pid, since = _number(started, "pid"), _number(started, "start_time")
    stranger = any(p.pid == pid and p.started != since for p in everybody)
    # Number 0: its shim died in the moment of the fork; then the mark alone tells.
    session = [p for p in everybody if p.session == pid != 0 and p.started >= since and not stranger]
    known = {p.pid for p in session}
    return session + [p for p in everybody if p.pid not in known and p.started >= since and _marked(p, started)]


def _marked(process: procs.Process, started: Message) -> bool:
    mark = str(started["mark"])
    if not mark:
        return False
    try:
        with open(f"/proc/{process.pid}/environ", "rb") as file:
            return f"PILOT_MARK={mark}".encode() in file.read().split(b"\0")
    except OSError:
        return False  # another user's, or gone


def _number(started: Message, key: str) -> int:
    return int(str(started[key]))
