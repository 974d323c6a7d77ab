"""A payload's output on disk: the head as it comes, the tail in a ring file of fixed size.

LOG holds the first `head_bytes`, live. What follows goes round in `LOG.tail`: a header of 64 bytes
(`head=... size=... total=...`, total rewritten with every block) and then `size` bytes, where byte n of the
overflow lies at n modulo size. At the end the ring is unrolled behind the head, after a line that says how much
was dropped, and removed. So memory stays at one block, the disk at head + tail, and a reader (`follow`) sees all.
"""

from __future__ import annotations

import os

from pilot.supervisor.lean import Quietly

HEADER_BYTES = 64
BLOCK_BYTES = 64 << 10
RING_SUFFIX = ".tail"
_CREATE = os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC


def header(head: int, size: int, total: int) -> bytes:
    """The ring's first 64 bytes."""
    return f"head={head:014d} size={size:014d} total={total:016d}\n".encode("ascii").ljust(HEADER_BYTES)


def marker(dropped: int) -> bytes:
    """The line between head and tail."""
    return f"\n[pilot: {dropped} bytes of output dropped here]\n".encode("ascii")


class Sink:
    """One stream's log; a disk that refuses is counted, never waited for, and never an error of the payload."""

    __slots__ = ("fd", "head_bytes", "kept", "overflow", "path", "ring", "tail_bytes", "total", "unwritten")

    def __init__(self, path: str, head_bytes: int, tail_bytes: int) -> None:
        self.path = path
        self.head_bytes = head_bytes
        self.tail_bytes = tail_bytes
        self.fd = os.open(path, os.O_WRONLY | _CREATE, 0o600)
        self.ring = -1
        self.total = 0
        self.kept = 0
        self.overflow = 0
        self.unwritten = 0

    def take(self, data: bytes) -> None:
        """Keeps one block of output."""
        self.total += len(data)
        room = self.head_bytes - self.kept if self.overflow == 0 else 0
        head, rest = (data[:room], data[room:]) if len(data) > room else (data, b"")
        if head:
            self._write_head(head)
        if rest:
            self._write_ring(rest)

    def _write_head(self, data: bytes) -> None:
        try:
            written = os.write(self.fd, data)
        except OSError:
            written = 0
        self.kept += written
        self.unwritten += len(data) - written
        if written < len(data):
            self.head_bytes = self.kept  # the disk is full: what comes later competes for the ring, once there is room

    def _write_ring(self, data: bytes) -> None:
        self.overflow += len(data)
        if self.tail_bytes == 0:
            return
        data_kept = data[-self.tail_bytes :]
        at = (self.overflow - len(data_kept)) % self.tail_bytes
        first = data_kept[: self.tail_bytes - at]
        with Quietly(OSError):
            self._open_ring()
            os.pwrite(self.ring, first, HEADER_BYTES + at)
            if len(first) < len(data_kept):
                os.pwrite(self.ring, data_kept[len(first) :], HEADER_BYTES)
            os.pwrite(self.ring, header(self.kept, self.tail_bytes, self.overflow), 0)

    def _open_ring(self) -> None:
        if self.ring < 0:
            self.ring = os.open(self.path + RING_SUFFIX, os.O_RDWR | _CREATE, 0o600)

    @property
    def dropped(self) -> int:
        """How many bytes are in neither head nor tail."""
        kept_of_overflow = min(self.overflow, self.tail_bytes) if self.ring >= 0 else 0
        return self.unwritten + self.overflow - kept_of_overflow

    def close(self) -> None:
        """Unrolls the ring behind the head; where the disk refuses, the ring file stays beside the log."""
        if self.ring >= 0:
            with Quietly(OSError):
                self._unroll()
                os.unlink(self.path + RING_SUFFIX)
            os.close(self.ring)
        elif self.dropped:
            with Quietly(OSError):
                os.write(self.fd, marker(self.dropped))
        os.close(self.fd)

    def _unroll(self) -> None:
        if self.dropped:
            _write_all(self.fd, marker(self.dropped))
        kept = min(self.overflow, self.tail_bytes)
        at = self.overflow - kept
        while at < self.overflow:
            spot = at % self.tail_bytes
            size = min(BLOCK_BYTES, self.overflow - at, self.tail_bytes - spot)
            _write_all(self.fd, os.pread(self.ring, size, HEADER_BYTES + spot))
            at += size


def _write_all(fd: int, data: bytes) -> None:
    rest = data
    while rest:
        rest = rest[os.write(fd, rest) :]
