"""A small secret file: read whole, looked at again only when it has changed, never shown."""

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from pilot.model.faults import Code
from pilot.ports import Final

BYTES_CAP = 256 * 1024  # a proxy with its chain has 10 kB, a token 2 kB
OTHERS = stat.S_IRWXG | stat.S_IRWXO


@dataclass(frozen=True, slots=True)
class Stamp:
    """Which state of a file was read."""

    inode: int = 0
    modified: int = 0
    size: int = -1


def stamp_of(path: Path) -> Stamp:
    """The file's state now; that of no file where it is missing."""
    try:
        return _stamp(os.stat(path))
    except OSError:
        return Stamp()


def read_secret(path: Path, what: str) -> tuple[bytes, Stamp]:
    """What the file holds, and its state; refuses one that others can read. `what` is the word for it in errors."""
    try:
        with open(path, "rb", opener=_at_once) as stream:
            found = os.fstat(stream.fileno())
            _check(path, found, what)
            data = stream.read(BYTES_CAP + 1)
    except FileNotFoundError:
        raise Final(Code.SERVER_REFUSED, f"{what} {path}: there is no such file; name the one that there is") from None
    except OSError as error:
        raise Final(Code.CREDENTIAL_REFUSED, f"{what} {path}: cannot be read: {error.strerror}") from None
    if len(data) > BYTES_CAP:
        raise Final(Code.CREDENTIAL_REFUSED, f"{what} {path}: has more than {BYTES_CAP} bytes: is it the right file?")
    return data, _stamp(found)


def _at_once(path: str, flags: int) -> int:
    """A pipe in the file's place must not hold us up."""
    return os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)


def _check(path: Path, found: os.stat_result, what: str) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise Final(Code.CREDENTIAL_REFUSED, f"{what} {path}: is no regular file")
    if found.st_mode & OTHERS:
        mode = stat.S_IMODE(found.st_mode)
        raise Final(Code.CREDENTIAL_REFUSED, f"{what} {path}: others may read it (mode {mode:04o}): chmod 600 {path}")
    if found.st_uid not in (os.geteuid(), 0):
        raise Final(Code.CREDENTIAL_REFUSED, f"{what} {path}: belongs to another user (uid {found.st_uid})")


def _stamp(found: os.stat_result) -> Stamp:
    return Stamp(found.st_ino, found.st_mtime_ns, found.st_size)
