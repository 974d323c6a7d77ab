"""Storage on this machine's own file systems: copied in blocks, both checksums in flight, create-only."""

import errno
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pilot.adapters.file_url import path_of
from pilot.adapters.part_file import PartFile
from pilot.adapters.storage_places import Permitted
from pilot.adapters.sums import Sums, Write, adler32
from pilot.failpoints import effect
from pilot.model.faults import Code
from pilot.model.files import FileRecord
from pilot.ports import Abandon, Abandoned, Final, Passing, PortError

_STAGED_MODE = 0o444  # the payload sees its inputs read-only, with or without a container
_STORED_MODE = 0o644

_Blame = tuple[type[PortError], Code]


@dataclass(frozen=True, slots=True)
class _Side:
    """One end of a copy, and what the system's errors there mean in our words."""

    otherwise: _Blame
    words: Mapping[int, _Blame]
    irregular: _Blame
    short: _Blame

    @contextmanager
    def told(self, path: Path) -> Iterator[None]:
        """Errors of the system become faults that name the path."""
        try:
            yield
        except OSError as error:
            leaf, code = self.words.get(error.errno or 0, self.otherwise)
            raise leaf(code, f"{path}: {error.strerror or error}") from error


_DENIED = (Final, Code.STORAGE_DENIED)
_NO_INPUT = (Final, Code.STAGE_IN_MISSING)
_NO_OUTPUT = (Final, Code.OUTPUT_MISSING)
_ESCAPE = (Final, Code.OUTPUT_ESCAPE)
_UNREACHABLE = (Passing, Code.STORAGE_UNREACHABLE)
_SCRATCH = (Passing, Code.SCRATCH_FULL)

_ABSENT = (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG)
_REFUSED = (errno.EACCES, errno.EPERM, errno.EROFS)
_NO_PLACE = (errno.ENXIO, errno.ENOTDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.EINVAL, errno.ELOOP)

_FETCH_FROM = _Side(
    _UNREACHABLE,
    dict.fromkeys((*_ABSENT, errno.ELOOP, errno.ENXIO), _NO_INPUT) | dict.fromkeys(_REFUSED, _DENIED),
    irregular=_NO_INPUT,
    short=(Passing, Code.STAGE_IN_TRUNCATED),
)
_FETCH_TO = _Side(_SCRATCH, {}, irregular=_SCRATCH, short=_SCRATCH)
_STORE_FROM = _Side(
    _SCRATCH,
    dict.fromkeys((*_ABSENT, *_REFUSED), _NO_OUTPUT) | dict.fromkeys((errno.ELOOP, errno.ENXIO), _ESCAPE),
    irregular=_ESCAPE,
    short=(Passing, Code.OUTPUT_MISSING),
)
_STORE_TO = _Side(
    _UNREACHABLE,
    dict.fromkeys((*_REFUSED, *_NO_PLACE), _DENIED),
    irregular=(Final, Code.STORAGE_EXISTS),
    short=_UNREACHABLE,
)


@dataclass(frozen=True, slots=True)
class _Source:
    """A regular file, open for reading."""

    fd: int
    path: Path
    side: _Side
    seen: os.stat_result

    def read(self, write: Write, abandon: Abandon) -> Sums:
        """Reads the file to its end, block by block; asks `abandon` between them."""
        sums = Sums()
        with self.side.told(self.path):
            for size in sums.copy(self.fd, write):
                if abandon():
                    raise Abandoned(Code.JOB_CANCELLED, f"{self.path}: given up after {size} bytes")
                if size > self.seen.st_size:
                    break  # it grows, perhaps for ever
        self._check(sums)
        return sums

    def _check(self, sums: Sums) -> None:
        """Raises where the file was cut, grew or was rewritten while it was read."""
        now = os.fstat(self.fd)
        leaf, code = self.side.short
        if sums.size != self.seen.st_size:
            raise leaf(code, f"{self.path}: {sums.size} bytes were read, expected {self.seen.st_size}")
        if (now.st_size, now.st_mtime_ns) != (self.seen.st_size, self.seen.st_mtime_ns):
            raise leaf(code, f"{self.path}: it was changed while it was read")


@contextmanager
def _source(path: Path, side: _Side, flags: int = 0) -> Iterator[_Source]:
    """The file, open; never waits for a FIFO or a device."""
    with side.told(path):
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | flags)
    try:
        yield _Source(descriptor, path, side, _regular(descriptor, path, side))
    finally:
        os.close(descriptor)


def _regular(descriptor: int, path: Path, side: _Side) -> os.stat_result:
    seen = os.fstat(descriptor)
    if not stat.S_ISREG(seen.st_mode):
        leaf, code = side.irregular
        raise leaf(code, f"{path}: it is a {_kind(seen.st_mode)}, not a file")
    return seen


def _kind(mode: int) -> str:
    kinds = {stat.S_IFDIR: "directory", stat.S_IFIFO: "FIFO", stat.S_IFSOCK: "socket", stat.S_IFLNK: "link"}
    return kinds.get(stat.S_IFMT(mode), "device")


class FileStorage:
    """file:// URLs, as far as `permitted` lets jobs use this machine's files."""

    def __init__(self, permitted: Permitted | None = None) -> None:
        self._permitted = permitted or Permitted()

    def fetch(self, url: str, target: Path, abandon: Abandon) -> FileRecord:
        """Copies the file to `target`, in place of an older one. No sync: scratch does not outlive its node."""
        place = _place(path_of(url), _FETCH_FROM)
        with _source(place, _FETCH_FROM, os.O_NOFOLLOW) as source:
            _unmoved(source.fd, place, url)
            self._permitted.may_read(place, source.seen, url)
            with _FETCH_TO.told(target), _part(target, _STAGED_MODE) as part:
                sums = source.read(_writer(part.fd, _FETCH_TO, target), abandon)
                part.replace(target.name)
        return _record(target.name, url, sums)

    def store(self, source: Path, url: str, abandon: Abandon) -> FileRecord:
        """Copies `source` to a name that must be free, or already hold the very same bytes."""
        path = path_of(url)
        target = _place(path.parent, _STORE_TO) / path.name
        self._permitted.may_write(target, url)
        with _source(source, _STORE_FROM, os.O_NOFOLLOW) as opened:
            sums = None if os.path.lexists(target) else _stored(opened, target, abandon)
            if sums is None:
                sums = _already_there(opened, target, abandon)
        return _record(source.name, url, sums)


def _place(path: Path, side: _Side) -> Path:
    """Where the path leads to, its links followed."""
    with side.told(path):
        return Path(os.path.realpath(path))


def _unmoved(descriptor: int, place: Path, url: str) -> None:
    """What was opened is what was allowed: no link came in between, and it is of this view of the machine.

    A process in another one, such as a payload, has a `/proc/PID/root` that looks like ours and is not.
    """
    if os.readlink(f"/proc/self/fd/{descriptor}") != os.fspath(place):
        raise Final(Code.STORAGE_DENIED, f"{url}: its folder was replaced while it was opened")


def _record(name: str, url: str, sums: Sums) -> FileRecord:
    return FileRecord(name, url, sums.size, sums.adler32, sums.sha256)


def _part(target: Path, mode: int) -> PartFile:
    """A part file beside the target; the folder is made where it is missing."""
    try:
        return PartFile(target.parent, mode)
    except FileNotFoundError:
        with effect("storage.mkdir"):
            os.makedirs(target.parent, exist_ok=True)
    return PartFile(target.parent, mode)


def _writer(descriptor: int, side: _Side, path: Path) -> Write:
    def write(block: memoryview) -> None:
        rest = block
        with side.told(path):
            while rest:
                rest = rest[os.write(descriptor, rest) :]

    return write


def _stored(source: _Source, target: Path, abandon: Abandon) -> Sums | None:
    """Writes, syncs, reads back, publishes, in this order; None where somebody else took the name meanwhile."""
    with _STORE_TO.told(target), _part(target, _STORED_MODE) as part:
        _unmoved(part.directory, target.parent, os.fspath(target))
        sums = source.read(_writer(part.fd, _STORE_TO, target), abandon)
        if sums.size:
            part.sync()
            if adler32(part.fd) != sums.adler32:
                raise Passing(Code.STORAGE_UNREACHABLE, f"{target}: other bytes were read back than were written")
        if abandon():  # asked last: from here on there is no way back
            raise Abandoned(Code.JOB_CANCELLED, f"{target}: given up before it was published")
        try:
            part.publish(target.name)
        except FileExistsError:
            return None
        part.sync_directory()
    return sums


def _already_there(source: _Source, target: Path, abandon: Abandon) -> Sums:
    """The sums, if the target holds the very same bytes: storing twice is fine, replacing is not."""
    with _source(target, _STORE_TO, os.O_NOFOLLOW) as there:
        sums = source.read(_nowhere, abandon)
        same = there.seen.st_size == sums.size and there.read(_nowhere, abandon).sha256 == sums.sha256
    if not same:
        raise Final(Code.STORAGE_EXISTS, f"{target}: it exists already, with other bytes")
    return sums


def _nowhere(block: memoryview) -> None:
    """Drops the block: only its sums are wanted."""
