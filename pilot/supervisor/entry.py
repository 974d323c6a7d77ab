"""One payload as the supervisor knows it."""

from __future__ import annotations

import time

from pilot.supervisor import record, sweep
from pilot.supervisor.lean import Quietly

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pilot.supervisor.link import Link, Message
    from pilot.supervisor.order import Order

_FOREVER = float("inf")


class Entry:
    """Kept from `start` until `forget`; its shim's death makes its payload the supervisor's own orphan."""

    __slots__ = (
        "began_s",
        "created",
        "link",
        "order",
        "orphaned_until_s",
        "result",
        "started",
        "status",
        "stopped_by",
    )

    def __init__(self, order: Order, link: Link) -> None:
        self.order = order
        self.link = link
        self.created = time.time()
        self.began_s = time.monotonic()
        self.started: Message = {}
        self.result: Message = {}
        self.status = -1
        self.stopped_by = ""
        self.orphaned_until_s = _FOREVER

    @property
    def running(self) -> bool:
        """Whether anything of it may still be alive."""
        return not self.result

    @property
    def orphaned(self) -> bool:
        """Whether its shim died and its processes are being ended by the supervisor."""
        return self.running and self.orphaned_until_s != _FOREVER

    def stop(self, grace_s: float, why: str) -> None:
        """Asks the shim to stop it."""
        self.link.send({"verb": "stop", "grace": grace_s, "why": why})

    def orphan(self) -> None:
        """The shim is dead."""
        self.orphaned_until_s = time.monotonic() + sweep.UNKILLABLE_AFTER_S

    def exited(self) -> Message:
        """The event that tells of the end."""
        return {"event": "exited", "id": self.order.payload, "record": self.result}

    def described(self) -> Message:
        """The payload as `list` gives it."""
        about: Message = {"id": self.order.payload, "state": "running" if self.running else "exited"}
        about |= {key: self.started[key] for key in ("pid", "session", "start_time") if key in self.started}
        return about | ({} if self.running else {"record": self.result})

    def close_without_shim(self, gone: bool) -> Message:
        """Makes and writes the record that the shim could not; returns the event."""
        code, number = record.decode_status(self.status) if self.status >= 0 else (None, None)
        self.result = {
            "exit_code": code,
            "signal": number,
            "started": self.created,
            "ended": time.time(),
            "seconds": time.monotonic() - self.began_s,
            "user_seconds": None,
            "system_seconds": None,
            "max_rss_bytes": None,
            "io_read_bytes": None,
            "io_write_bytes": None,
            "stdout_bytes": None,
            "stdout_dropped_bytes": None,
            "stderr_bytes": None,
            "stderr_dropped_bytes": None,
            "gone": gone,
            "stopped_by": "shim-death",
        }
        with Quietly(OSError):
            record.write_at(self.order.directory, record.EXIT, self.result)
        return self.exited()
