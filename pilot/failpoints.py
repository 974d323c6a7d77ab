"""Named points around every external effect, where a drill may kill, stall or break the pilot.

`with effect("storage.publish"):` marks one external effect; it is a point before and a point after it. A drill
arms one point with `PILOT_FAILPOINT=NAME.before:kill`, `...:sleep=SECONDS` or `...:raise=ERRNO`, optionally only at
its n-th passage (`...:kill@3`). Unarmed, a point costs one comparison with None.
"""

import errno
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class _Armed:
    """One armed point: its name, what happens there, and at which passage."""

    def __init__(self, text: str) -> None:
        self.name, _, action = text.partition(":")
        action, _, nth = action.partition("@")
        self.verb, _, self.argument = action.partition("=")
        self.remaining = int(nth or 1)

    def passed(self) -> None:
        self.remaining -= 1
        if self.remaining == 0:
            self._act()

    def _act(self) -> None:
        if self.verb == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        elif self.verb == "sleep":
            threading.Event().wait(float(self.argument))
        elif self.verb == "raise":
            number = getattr(errno, self.argument or "EIO")
            raise OSError(number, os.strerror(number))
        else:
            raise ValueError(f"PILOT_FAILPOINT: unknown action {self.verb!r}: use kill, sleep=SECONDS or raise=ERRNO")


_armed = _Armed(os.environ["PILOT_FAILPOINT"]) if os.environ.get("PILOT_FAILPOINT") else None


def failpoint(name: str) -> None:
    """One point; acts only where a drill has armed this very name."""
    if _armed is not None and _armed.name == name:
        _armed.passed()


@contextmanager
def effect(name: str) -> Iterator[None]:
    """Marks one external effect: `NAME.before` and `NAME.after` are its points."""
    failpoint(name + ".before")
    yield
    failpoint(name + ".after")
