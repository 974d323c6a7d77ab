"""Which file system a queue file lies on, and what SQLite may do there.

Its write-ahead log (WAL) keeps an index in shared memory, which only processes of one machine see: on a file
system that several machines mount it loses data. There the rollback journal is used, which needs only file
locks; where even those do not work, or bind on one machine only, the queue is refused.
"""

import errno
import fcntl
import os
import re
import struct
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

_DISKS = frozenset({"ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "f2fs", "jfs", "reiserfs", "bcachefs", "nilfs2"})
LOCAL = _DISKS | {"tmpfs", "ramfs", "overlay", "fuse.fuse-overlayfs"}
# Mount options under which locks are granted without asking the file server.
OWN_LOCKS = frozenset({"nolock", "local_lock=all", "local_lock=posix", "localflock", "nobrl"})
MOUNTINFO = Path("/proc/self/mountinfo")


@dataclass(frozen=True, slots=True)
class Mount:
    """A mounted file system: where, of which type, with which options."""

    point: str
    kind: str
    options: frozenset[str]


@dataclass(frozen=True, slots=True)
class Advice:
    """How to open a queue there: `journal` is wal, delete, or "" where it cannot be; `reason` says why not wal."""

    journal: str
    reason: str = ""


def advise(directory: Path, mountinfo: str, locks_work: Callable[[Path], bool]) -> Advice:
    """What SQLite may do in that directory."""
    mount = mount_of(str(directory), mountinfo)
    if mount is not None and mount.kind in LOCAL:
        return Advice("wal")
    kind = mount.kind if mount else "an unknown file system"
    if mount is not None and mount.options & OWN_LOCKS:
        return Advice("", f"{directory} is on {kind} mounted with {min(mount.options & OWN_LOCKS)}")
    if not locks_work(directory):
        return Advice("", f"{directory} is on {kind}, where file locks do not work")
    return Advice("delete", f"{directory} is on {kind}")


def read_mountinfo() -> str:
    """The mounts that this process sees; empty where the kernel does not tell."""
    try:
        return MOUNTINFO.read_text(errors="replace")
    except OSError:
        return ""


def mount_of(path: str, mountinfo: str) -> Mount | None:
    """The mount that holds the path: the deepest one, and of several at one place the last, which hides the others."""
    found = None
    for line in mountinfo.splitlines():
        mount = _mount(line)
        if mount and _inside(path, mount.point) and (found is None or len(mount.point) >= len(found.point)):
            found = mount
    return found


def _mount(line: str) -> Mount | None:
    left, dash, right = line.partition(" - ")
    fields, types = left.split(" "), right.split(" ")
    if not dash or len(fields) < 6 or len(types) < 3:
        return None
    return Mount(_unescaped(fields[4]), types[0], frozenset((*fields[5].split(","), *types[2].split(","))))


def _unescaped(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), text)


def _inside(path: str, point: str) -> bool:
    return point in ("/", path) or path.startswith(point + "/")


def locks_work(directory: Path) -> bool:
    """Whether a lock taken through one open file is seen through another."""
    try:
        with tempfile.NamedTemporaryFile(dir=directory, prefix=".pilot-lock-") as mine:
            return _second_is_refused(mine.fileno(), mine.name)
    except OSError:
        return False


def _second_is_refused(mine: int, name: str) -> bool:
    other = os.open(name, os.O_RDWR | os.O_CLOEXEC)
    try:
        _lock(mine)
        _lock(other)
    except OSError as problem:
        return problem.errno in (errno.EAGAIN, errno.EACCES)
    finally:
        os.close(other)
    return False


def _lock(descriptor: int) -> None:
    """A lock of the open file, not of the process: only those conflict within one process."""
    whole_file = struct.pack("hhqqixxxx", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
    fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, whole_file)
