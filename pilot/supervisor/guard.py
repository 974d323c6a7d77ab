"""The last net: ends a payload whose shim was killed together with everybody who would have noticed."""

from __future__ import annotations

import os
import time

from pilot.supervisor.launch import IGNORED
from pilot.supervisor.lean import Quietly

# Short payloads, of which there are many, end before they need one.
_AFTER_S = 1.0
_FOREVER = float("inf")
_SCRIPT = 'read -r relieved || kill -s KILL -- "-$1"'


class Guard:
    """A small shell that waits at a pipe which the shim alone holds: its end is the shim's death.

    Unlike the kernel's own signal at a parent's death it is not lost where a payload enters a user namespace.
    """

    __slots__ = ("due_s", "fd")

    def __init__(self) -> None:
        self.due_s = time.monotonic() + _AFTER_S
        self.fd = -1

    def post(self, group: int) -> None:
        """Has that process group killed when this process dies; without processes to spare there is no such net."""
        self.due_s = _FOREVER
        near, self.fd = os.pipe2(os.O_CLOEXEC)
        with Quietly(OSError):
            argv = ["sh", "-c", _SCRIPT, "guard", str(group)]
            actions = [(os.POSIX_SPAWN_DUP2, near, 0)]
            os.posix_spawn("/bin/sh", argv, {}, file_actions=actions, setsid=True, setsigmask=(), setsigdef=IGNORED)
        os.close(near)

    def relieve(self) -> None:
        """The payload has ended: nobody is to be killed any more."""
        if self.fd >= 0:
            with Quietly(OSError):
                os.write(self.fd, b"relieved\n")
            os.close(self.fd)
            self.fd = -1
