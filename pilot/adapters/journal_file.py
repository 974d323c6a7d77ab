"""The journal on disk: segments of checked lines, one of them live.

A line is the CRC-32 of its text in hexadecimal, a space, and the text (JSON: `v` schema version, `t` wall and
`m` monotonic seconds, `k` the key of the job, `f` the fact). A segment begins with a line that tells all that
was still open, so only the newest segment is replayed; older ones are kept for the telling of stories. A
pilot that dies while it writes leaves at most one torn line, the last, which is dropped: its orders have not
gone out. A segment that is being written, or whose pilot was killed, may end with empty bytes: room that is held.
"""

import contextlib
import fcntl
import json
import os
import threading
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from pilot.failpoints import effect
from pilot.model.faults import Code
from pilot.ports import Final, Line, Passing

SCHEMA = 1
SEGMENT_BYTES = 16_000_000  # one segment is read at every start: about 0.2 s of replay
KEPT_SEGMENTS = 8
LOCK_PAUSES = (0.01, 0.03, 0.06, 0.1, 0.3, 0.5)  # seconds: longer than any exec takes, too short to be noticed
AHEAD_BYTES = 256_000  # room that is held for what is to be said when a payload has filled the disk
_encode = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode


class FileJournal:
    """The journal of one state directory, which it locks."""

    def __init__(self, state: Path) -> None:
        self._folder = state / "journal"
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = _locked(state / "lock")
        self._number = max(_numbers(self._folder), default=0)
        self._file = -1
        self._size = 0
        self._held = 0

    def replay(self) -> Sequence[Line]:
        """What an earlier pilot of this state directory left; a torn last line is dropped."""
        path = self._path(self._number)
        return list(read_segment(path)) if path.exists() else []

    def begin(self, lines: Sequence[Line]) -> None:
        """Begins a new segment with these lines; atomic."""
        part = self._folder / "next.part"
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        self._size = self._held = self._write_all(descriptor, _encoded(lines))
        self._hold_room(descriptor)
        with effect("journal.begin-sync"):
            os.fsync(descriptor)
        with effect("journal.begin"):
            os.rename(part, self._path(self._number + 1))
        with effect("journal.begin-sync-folder"):
            _sync_folder(self._folder)
        self._switch(descriptor)

    def write(self, lines: Sequence[Line], lasting: bool = True) -> None:
        """Appends; returns when the lines are on disk or, not `lasting`, when they outlive this process."""
        data = _encoded(lines)
        with effect("journal.write"):
            self._size += self._write_all(self._file, data)
        self._hold_room(self._file)
        if lasting:
            with effect("journal.sync"):
                os.fdatasync(self._file)

    def full(self) -> bool:
        """Whether it is time to begin a new segment."""
        return self._size > SEGMENT_BYTES

    def close(self) -> None:
        """Lets go of the lock."""
        self._leave_segment()
        self._file = -1
        os.close(self._lock)

    def _hold_room(self, descriptor: int) -> None:
        """Keeps blocks of the disk ready behind the end: whoever fills it is to be ended by this pilot, in writing."""
        if self._held - self._size < AHEAD_BYTES // 2:
            with contextlib.suppress(OSError):
                os.posix_fallocate(descriptor, self._size, AHEAD_BYTES)
                self._held = self._size + AHEAD_BYTES

    def _write_all(self, descriptor: int, data: bytes) -> int:
        done = 0
        try:
            while done < len(data):
                done += os.write(descriptor, data[done:])
        except OSError as error:
            raise Final(Code.SCRATCH_FULL, f"{self._folder}: {error.strerror}; make room there") from error
        return done

    def _leave_segment(self) -> None:
        """A finished segment ends with its last line; one of a dead pilot ends with the room that was held."""
        if self._file >= 0:
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, os.lseek(self._file, 0, os.SEEK_CUR))
            os.close(self._file)

    def _switch(self, descriptor: int) -> None:
        self._leave_segment()
        self._file = descriptor
        self._number += 1
        for number in sorted(_numbers(self._folder))[:-KEPT_SEGMENTS]:
            self._path(number).unlink(missing_ok=True)

    def _path(self, number: int) -> Path:
        return self._folder / f"{number:08}.jsonl"


def read_segment(path: Path) -> Iterator[Line]:
    """The lines of one segment, up to the first that is damaged."""
    with path.open("rb") as file:
        for raw in file:
            line = _decoded(raw)
            if line is None:
                return
            yield line


def segments(state: Path) -> list[Path]:
    """All segments of a state directory, oldest first."""
    return sorted((state / "journal").glob("[0-9]*.jsonl"))


def _encoded(lines: Sequence[Line]) -> bytes:
    return b"".join(map(_encoded_line, lines))


def _encoded_line(line: Line) -> bytes:
    """One line; half a character from a payload (a lone surrogate) is written as JSON's own escape of it."""
    text = _encode({"v": SCHEMA, "t": line.wall, "m": line.mono, "k": line.key, "f": line.fact})
    return _checked(text.encode(errors="backslashreplace"))


def _checked(text: bytes) -> bytes:
    return b"%08x %s\n" % (zlib.crc32(text), text)


def _decoded(raw: bytes) -> Line | None:
    checksum, _, text = raw.rstrip(b"\n").partition(b" ")
    if not raw.endswith(b"\n") or checksum != b"%08x" % zlib.crc32(text):
        return None
    record = json.loads(text)
    return Line(record["t"], record["m"], record["k"], record["f"])


def _locked(path: Path) -> int:
    """The lock; a pilot that was killed while it started a process leaves it to that one until its exec is through."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    for pause in LOCK_PAUSES:
        if _take(descriptor):
            return descriptor
        threading.Event().wait(pause)
    if _take(descriptor):
        return descriptor
    os.close(descriptor)
    raise Passing(Code.SERVER_REFUSED, f"{path.parent}: another pilot uses this state directory; give another --state")


def _take(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _numbers(folder: Path) -> list[int]:
    return [int(each.stem) for each in folder.glob("[0-9]*.jsonl")]


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
