"""Where a supervisor can be found: its socket and its lock in the pilot's state directory."""

from __future__ import annotations

import _socket
import fcntl
import os

from pilot.supervisor.lean import Quietly

SOCKET = "supervisor.sock"
LOCK = "supervisor.lock"
LOG = "supervisor.log"


class Taken(OSError):
    """Another supervisor lives here."""


class Place:
    """A state directory, opened; its socket is named through /proc, so its path may be longer than a socket's 108."""

    __slots__ = ("directory", "lock", "path")

    def __init__(self, path: str) -> None:
        self.path = path
        self.directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self.lock = -1

    @property
    def address(self) -> str:
        """A short path of the socket, good in this process alone."""
        return f"/proc/self/fd/{self.directory}/{SOCKET}"

    def occupy(self) -> _socket.socket:
        """Listens here; Taken if another does. The lock, which ends with its process, tells live from stale."""
        self.lock = os.open(LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600, dir_fd=self.directory)
        try:
            fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Taken(f"{self.path}: another supervisor is alive here") from error
        with Quietly(FileNotFoundError):
            os.unlink(SOCKET, dir_fd=self.directory)
        return self._listen()

    def _listen(self) -> _socket.socket:
        listener = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_NONBLOCK | _socket.SOCK_CLOEXEC)
        before = os.umask(0o177)
        try:
            listener.bind(self.address)
        finally:
            os.umask(before)
        listener.listen(16)
        return listener

    def vacate(self) -> None:
        """Removes the socket."""
        with Quietly(OSError):
            os.unlink(SOCKET, dir_fd=self.directory)
