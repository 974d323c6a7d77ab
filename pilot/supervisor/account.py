"""What a payload's processes have used, and when."""

from __future__ import annotations

import os
import time

from pilot.supervisor import procs
from pilot.supervisor.lean import Quietly
from pilot.supervisor.record import decode_status

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pilot.supervisor.link import Message


class Account:
    """Opened just before the start, closed by reaping the main process."""

    __slots__ = ("begun_s", "ended", "io", "memory_kb", "seconds", "started", "status", "system_s", "user_s")

    def __init__(self) -> None:
        self.started = time.time()
        self.begun_s = time.monotonic()
        self.ended = 0.0
        self.seconds = 0.0
        self.status = -1
        self.io: dict[str, int] = {}
        self.user_s = self.system_s = 0.0
        self.memory_kb = 0

    def reap(self, pid: int, flags: int = 0) -> tuple[int, int]:
        """Reaps one child and counts what it and its own reaped children have used; its number (0 = none) and status.

        One by one: what the kernel sums up over all children holds those of earlier payloads too.
        """
        found, status, usage = os.wait4(pid, flags)
        self.user_s += usage.ru_utime
        self.system_s += usage.ru_stime
        self.memory_kb = max(self.memory_kb, usage.ru_maxrss)
        return found, status

    def reap_ended(self) -> bool:
        """Reaps all children that have ended; True once there is no child, living or dead, any more."""
        try:
            while self.reap(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return True
        return False

    def close(self, main: int) -> None:
        """Reaps the main process, which has ended."""
        self.io = _io(main)
        _, self.status = self.reap(main)
        self._stop_clocks()

    def _stop_clocks(self) -> None:
        self.ended = time.time()
        self.seconds = time.monotonic() - self.begun_s

    def record(self) -> Message:
        """The figures; times of all reaped processes, memory of the largest (at least the shim's, some 10 MB)."""
        if self.status < 0:
            self._stop_clocks()
        code, number = decode_status(self.status) if self.status >= 0 else (None, None)
        return {
            "exit_code": code,
            "signal": number,
            "started": self.started,
            "ended": self.ended,
            "seconds": self.seconds,
            "user_seconds": self.user_s,
            "system_seconds": self.system_s,
            "max_rss_bytes": self.memory_kb * 1024,
            "io_read_bytes": self.io.get("read_bytes"),
            "io_write_bytes": self.io.get("write_bytes"),
        }


def _io(pid: int) -> dict[str, int]:
    """What the ended main process and the children that it had reaped read and wrote; empty where not counted."""
    with Quietly(OSError, ValueError):
        pairs = [line.split(b":") for line in procs.read(f"/proc/{pid}/io").splitlines()]
        return {name.decode("ascii"): int(value) for name, value in pairs}
    return {}
