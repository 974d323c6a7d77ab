"""Swept sandboxes, kept empty for the next job: many short jobs would make and remove the same dozen folders each.

Some file systems (ext4 without a journal) do not give a removed folder's place to a new one for a minute, so that each
new one is searched for longer than the last.

Only for a job of the same owner. What a sandbox looks like can be seen; who still holds a descriptor into it, or has
changed a flag of its file system, cannot. Where the queue names no owner nothing is kept.
"""

import errno
import os
import stat
import threading
from collections import deque
from collections.abc import Callable
from itertools import count
from pathlib import Path

from pilot.failpoints import effect

_MOST = 16  # folders of this kind hold some 50 kB each
# What every job has, so that only this is kept; a folder that is missing is made when it is needed.
_FOLDERS = frozenset(
    (
        "work",
        "work/control",
        "work/checkpoint",
        "work/.pilot",
        "home",
        "tmp",
        "in",
        "code",
        "pilot",
        "pilot/run",
        "logs",
    )
)
_FILES = frozenset(("pilot/plan.json", "logs/stdout", "logs/stderr", "logs/pilot"))  # an empty one is as good as none
_MODES = frozenset((0o700, 0o755))
_FILE_MODES = frozenset((0o444, 0o600, 0o644))
_PARTS = {  # what is written under another name first keeps that one
    "pilot/contract.json": "contract.part",
    "pilot/inputs.json": "inputs.part",
    "pilot/run/started.json": ".started.json.part",
    "pilot/run/exit.json": ".exit.json.part",
}


class Spares:
    """The empty sandboxes of one pilot, in a folder of the same file system; `remove` takes a whole tree away."""

    def __init__(self, folder: Path, remove: Callable[[Path], None]) -> None:
        self._folder = folder
        self._remove = remove
        self._numbers = count()
        self._ready: deque[tuple[str, str]] = deque()  # owner and place, the newest last
        self._lock = threading.Lock()
        self._begun = False

    def take(self, root: Path, owner: str) -> bool:
        """Gives an empty sandbox of that owner's that name, which must be free; False where there is none."""
        spare = self._newest(owner)
        if not spare:
            return False
        try:
            with effect("staging.reuse"):
                os.rename(spare, root)
        except OSError:
            return False
        return True

    def _newest(self, owner: str) -> str:
        with self._lock:
            found = next((each for each in reversed(self._ready) if each[0] == owner), None)
            if found is None:
                return ""
            self._ready.remove(found)
            return found[1]

    def keep(self, root: Path, owner: str) -> bool:
        """Empties that sandbox and keeps it; False for one that is to be removed: changed, nobody's, one too many."""
        if not owner or not os.path.lexists(root) or not self._has_room(owner):
            return False
        try:
            return self._emptied(os.fspath(root), "") and self._kept(root, owner)
        except OSError:
            return False  # whatever the reason, what is left of it can be removed

    def _has_room(self, owner: str) -> bool:
        """Where there are as many as may be, the oldest goes, if it is another owner's: owners may take turns."""
        with self._lock:
            if len(self._ready) < _MOST:
                return True
            if self._ready[0][0] == owner:
                return False
            _, spare = self._ready.popleft()
        self._remove(Path(spare))
        return True

    def _kept(self, root: Path, owner: str) -> bool:
        self._begin()
        spare = f"{self._folder}/{next(self._numbers)}"
        with effect("staging.spare"):
            os.rename(root, spare)
        with self._lock:
            self._ready.append((owner, spare))
        return True

    def close(self) -> None:
        """Removes them all, those of an earlier pilot of this folder too."""
        with self._lock:
            self._ready.clear()
        self._remove(self._folder)

    def _begin(self) -> None:
        if not self._begun:
            self._remove(self._folder)  # an earlier pilot was killed: its numbers begin where ours do
            os.mkdir(self._folder, 0o700)
            self._begun = True

    def _emptied(self, folder: str, name: str) -> bool:
        """Whether that folder is as we made it, and nothing is left in it and below but such folders."""
        if not _as_made(folder, _MODES):
            return False
        with os.scandir(folder) as found:
            entries = sorted(
                found, key=lambda each: each.name, reverse=True
            )  # `work`, with other names of files, first
        return all(self._passed(each, f"{name}/{each.name}" if name else each.name) for each in entries)

    def _passed(self, entry: os.DirEntry[str], name: str) -> bool:
        if not entry.is_dir(follow_symlinks=False):
            _blank(entry.path, name)
            return True
        if name in _FOLDERS:
            return self._emptied(entry.path, name)
        self._remove(Path(entry.path))
        return True


def _blank(path: str, name: str) -> None:
    """An empty file of ours is kept, any other file goes."""
    if not ((name in _FILES or name in _PARTS) and _as_made(path, _FILE_MODES) and os.lstat(path).st_nlink == 1):
        os.unlink(path)
        return
    os.chmod(path, 0o644)
    os.truncate(path, 0)
    if name in _PARTS:
        with effect("staging.blank"):
            os.rename(path, f"{os.path.dirname(path)}/{_PARTS[name]}")


def _as_made(path: str, modes: frozenset[int]) -> bool:
    """A payload may have changed its mode, or put a list of access rights on it that its files would inherit."""
    seen = os.lstat(path)
    plain = stat.S_ISDIR(seen.st_mode) or stat.S_ISREG(seen.st_mode)
    return plain and seen.st_mode & 0o7777 in modes and seen.st_uid == os.geteuid() and not _attributes(path)


def _attributes(path: str) -> list[str]:
    try:
        return os.listxattr(path)
    except OSError as error:
        if error.errno != errno.ENOTSUP:
            raise
        return []  # a file system without any
