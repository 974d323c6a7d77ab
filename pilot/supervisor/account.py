"""What a payload's processes have used, and when."""

from __future__ import annotations

import os
import resource
import time

from pilot.supervisor import procs
from pilot.supervisor.lean import Quietly
from pilot.supervisor.record import decode_status

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pilot.supervisor.link import Message


class Account:
    """Opened just before the fork, closed by reaping the main process."""

    __slots__ = ("begun_s", "ended", "io", "seconds", "started", "status")

    def __init__(self) -> None:
        self.started = time.time()
        self.begun_s = time.monotonic()
        self.ended = 0.0
        self.seconds = 0.0
        self.status = -1
        self.io: dict[str, int] = {}

    def close(self, main: int) -> None:
        """Reaps the main process, which has ended."""
        self.io = _io(main)
        _, self.status = os.waitpid(main, 0)
        self._stop_clocks()

    def _stop_clocks(self) -> None:
        self.ended = time.time()
        self.seconds = time.monotonic() - self.begun_s

    def record(self) -> Message:
        """The figures; times of all reaped processes, memory of the largest one (never below some 8 MB: the fork)."""
        if self.status < 0:
            self._stop_clocks()
        code, number = decode_status(self.status) if self.status >= 0 else (None, None)
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        return {
            "exit_code": code,
            "signal": number,
            "started": self.started,
            "ended": self.ended,
            "seconds": self.seconds,
            "user_seconds": usage.ru_utime,
            "system_seconds": usage.ru_stime,
            "max_rss_bytes": usage.ru_maxrss * 1024,
            "io_read_bytes": self.io.get("read_bytes"),
            "io_write_bytes": self.io.get("write_bytes"),
        }


def _io(pid: int) -> dict[str, int]:
    """What the ended main process and the children that it had reaped read and wrote; empty where not counted."""
    with Quietly(OSError, ValueError):
        pairs = [line.split(b":") for line in procs.read(f"/proc/{pid}/io").splitlines()]
        return {name.decode("ascii"): int(value) for name, value in pairs}
    return {}
