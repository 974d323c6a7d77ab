"""Digests of images, computed once and then known by a receipt for as long as the file is untouched.

A receipt names device, inode, size and both times (`mtime`, `ctime`) in nanoseconds. A change made through the file
system is seen, in place and with `mtime` put back too, since nobody can set `ctime`. Not seen is what goes
round the file system: a disk that rots, or root writing to its device. `forget` (`pilot image verify`) reads all bytes
again. For a directory the same holds for every entry below it, walked once per pilot.
"""

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pilot.failpoints import effect


@dataclass(frozen=True, slots=True)
class Checked:
    """A digest and how it is known: file (all bytes were read now), receipt, or unpacked (walked against a receipt).

    `before` is the digest that the image had at the last look, "" if it was never seen.
    """

    sha256: str
    how: str
    before: str = ""


class Receipts:
    """Digests by path; a folder that cannot be written only costs time."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._walked: dict[str, str] = {}

    def file(self, path: Path) -> Checked:
        """The digest of a file."""
        key = _key(os.stat(path))
        known_key, known = self._recall(path)
        if known and known_key == key:
            return Checked(known, "receipt", known)
        sha256 = _sha256(path)
        if _key(os.stat(path)) == key:
            self._note(path, key, sha256)
        return Checked(sha256, "file", known)

    def directory(self, root: Path) -> Checked:
        """The digest of an unpacked image: that of its manifest."""
        if str(root) in self._walked:
            return Checked(self._walked[str(root)], "unpacked", self._walked[str(root)])
        key = walk_key(root)
        known_key, known = self._recall(root)
        sha256 = known if known and known_key == key else manifest_sha256(root)
        self._note(root, key, sha256)
        self._walked[str(root)] = sha256
        return Checked(sha256, "unpacked", known)

    def vouch(self, path: Path, sha256: str) -> None:
        """Notes a digest that was computed from every byte just now, by whoever made the image."""
        key = walk_key(path) if path.is_dir() else _key(os.stat(path))
        self._note(path, key, sha256)

    def forget(self, path: Path) -> None:
        """The next look reads every byte."""
        self._walked.pop(str(path), None)
        self._place(path).unlink(missing_ok=True)

    def _place(self, path: Path) -> Path:
        return self._folder / f"{hashlib.sha256(os.fsencode(path)).hexdigest()[:32]}.json"

    def _recall(self, path: Path) -> tuple[str, str]:
        try:
            note = json.loads(self._place(path).read_text(encoding="utf-8"))
            return str(note["key"]), str(note["sha256"])
        except (OSError, ValueError, KeyError, TypeError):
            return "", ""

    def _note(self, path: Path, key: str, sha256: str) -> None:
        final = self._place(path)
        part = final.with_name(f".{final.name}.{os.getpid()}")
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            part.write_text(json.dumps({"path": str(path), "key": key, "sha256": sha256}), encoding="utf-8")
            with effect("images.receipt"):
                os.replace(part, final)
        except OSError:
            part.unlink(missing_ok=True)


def _key(seen: os.stat_result) -> str:
    return f"{seen.st_dev} {seen.st_ino} {seen.st_size} {seen.st_mtime_ns} {seen.st_ctime_ns}"


def _sha256(path: Path) -> str:
    with path.open("rb", buffering=0) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def manifest_sha256(root: Path) -> str:
    """Reads every file below `root`: about a gigabyte per second and core."""
    from pilot.adapters.images_manifest import digest, manifest  # late: its threads cost memory

    return digest(manifest(root))


def walk_key(root: Path) -> str:
    """Names, modes, sizes, times and inodes of everything below `root`, as one digest."""
    total = hashlib.sha256()
    for entry in _entries(str(root)):
        seen = entry.stat(follow_symlinks=False)
        total.update(f"{entry.path}\0{seen.st_mode} {_key(seen)}\n".encode("utf-8", "surrogateescape"))
    return total.hexdigest()


def _entries(folder: str) -> Iterator[os.DirEntry[str]]:
    with os.scandir(folder) as found:
        entries = sorted(found, key=lambda each: each.name)
    for entry in entries:
        yield entry
        if entry.is_dir(follow_symlinks=False):
            yield from _entries(entry.path)
