"""Reads a payload's log while it grows and after it has ended, whatever part of it lies where (see `sink`)."""

from __future__ import annotations

import contextlib
import re

from pilot.supervisor.sink import HEADER_BYTES, RING_SUFFIX, marker

# A writer that never pauses may turn the ring during every read; then a torn view must do.
_TRIES = 20
_HEADER = re.compile(rb"head=(\d+) size=(\d+) total=(\d+)\n")
_MARKER = re.compile(rb"\n\[pilot: (\d+) bytes of output dropped here\]\n")


class Follower:
    """Gives what is new in a log, each byte once, in order; what was overwritten unseen becomes the dropped line."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._seen = 0  # of the payload's stream
        self._head = -1  # where the ring begins in the stream, once it is known

    def more(self) -> bytes:
        """What came since the last call; empty if nothing did or there is no log (yet)."""
        with contextlib.suppress(FileNotFoundError):
            data = self._from_log() if self._head < 0 else b""
            return data if self._head < 0 else data + self._from_overflow()
        return b""

    def _from_overflow(self) -> bytes:
        try:
            return self._from_ring()
        except FileNotFoundError:
            return self._from_unrolled()

    def _from_log(self) -> bytes:
        # The ring is looked for before the log is read: if there is none now, all that is read is head.
        with contextlib.suppress(FileNotFoundError):
            self._head = self._ring()[0]
        with open(self._path, "rb") as file:
            file.seek(self._seen)
            data = file.read(self._head - self._seen if self._head >= 0 else -1)
        self._seen += len(data)
        return data

    def _ring(self) -> tuple[int, int, bytes]:
        """Head length, overflow so far, and the ring's bytes unrolled; retried if the ring turned meanwhile."""
        with open(self._path + RING_SUFFIX, "rb") as file:
            for _ in range(_TRIES):
                file.seek(0)
                block = file.read()
                file.seek(0)
                if block[:HEADER_BYTES] == file.read(HEADER_BYTES):
                    break
        found = _HEADER.match(block)
        if found is None:
            raise FileNotFoundError(self._path)  # just made, its header not yet written
        head, size, total = (int(number) for number in found.groups())
        ring, at = block[HEADER_BYTES:], total % size
        return head, total, ring if total <= size else ring[at:] + ring[:at]

    def _from_ring(self) -> bytes:
        head, total, kept = self._ring()
        return self._tail(head + total - len(kept), kept)

    def _from_unrolled(self) -> bytes:
        """The payload has ended: head, dropped line and tail are one file now."""
        with open(self._path, "rb") as file:
            file.seek(self._head)
            rest = file.read()
        found = _MARKER.match(rest)
        dropped, kept = (int(found.group(1)), rest[found.end() :]) if found else (0, rest)
        return self._tail(self._head + dropped, kept)

    def _tail(self, begins: int, kept: bytes) -> bytes:
        """What of `kept`, which begins there in the stream, is new."""
        missed = max(0, begins - self._seen)
        fresh = kept[max(0, self._seen - begins) :]
        self._seen = begins + len(kept)
        return (marker(missed) if missed else b"") + fresh


def whole(path: str) -> bytes:
    """The log as it stands, also of a payload that still runs or whose shim was killed."""
    return Follower(path).more()
