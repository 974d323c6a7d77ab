"""Finds the supervisor that lives in a state directory, or starts one."""

from __future__ import annotations

import os
import socket
import sys

from pilot.supervisor.place import LOG, Place

_BOOT = "import sys; sys.path.insert(0, {root!r}); from pilot.supervisor.main import main; main()"


def find(place: Place) -> socket.socket | None:
    """A connection to the supervisor that lives there, if one does."""
    sock = socket.socket(socket.AF_UNIX)
    try:
        sock.connect(place.address)
    except (FileNotFoundError, ConnectionRefusedError):
        sock.close()
        return None
    return sock


def spawn(place: Place, adopt_window: float) -> tuple[socket.socket, int]:
    """Starts a supervisor at the other end of a socket pair: nothing waits for its own socket to appear."""
    ours, theirs = socket.socketpair()
    with theirs:
        theirs.set_inheritable(True)
        state = os.path.abspath(place.path)
        arguments = [state, str(adopt_window), str(theirs.fileno())]
        log = os.open(os.path.join(state, LOG), os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        try:
            child = os.posix_spawn(
                sys.executable,
                [*_command(), *arguments],
                _environment(),
                setsigmask=(),
                file_actions=_standard_streams(log),
            )
        finally:
            os.close(log)
    return ours, child


def _command() -> list[str]:
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    return [sys.executable, "-S", "-E", "-s", "-X", "utf8", "-c", _BOOT.format(root=root)]


def _standard_streams(log: int) -> list[tuple[int, int, str, int, int] | tuple[int, int, int]]:
    null = [(os.POSIX_SPAWN_OPEN, fd, "/dev/null", os.O_RDWR, 0) for fd in (0, 1)]
    return [*null, (os.POSIX_SPAWN_DUP2, log, 2)]


def _environment() -> dict[str, str]:
    """What a Python needs to start; the pilot's secrets are not for this process."""
    return {name: os.environ[name] for name in ("LD_LIBRARY_PATH", "PATH", "HOME", "TZ") if name in os.environ}
