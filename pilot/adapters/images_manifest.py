"""The manifest of an unpacked image: one line per file, so that its sha256 stands for the whole directory."""

import hashlib
import os
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

BLOCK_BYTES = 1 << 20


def manifest(root: Path) -> str:
    """The text: kind, mode, sha256 or link target, and path of everything below `root`, folder by folder.

    Times and owners are left out: a copy by another user on another day is the same image.
    """
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:  # hashlib lets go of the interpreter's lock
        return "".join(pool.map(lambda path: _line(root, path), _paths(root), chunksize=64))


def digest(text: str) -> str:
    """The directory's digest."""
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def file_sha256(path: Path) -> str:
    """The sha256 of one file."""
    with path.open("rb", buffering=0) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def bytes_below(root: Path) -> int:
    """What the directory's files hold, in bytes."""
    return sum(path.lstat().st_size for path in _paths(root) if not path.is_symlink())


def _paths(root: Path) -> Iterator[Path]:
    for folder, names, files in os.walk(root):
        names.sort()
        for name in sorted([*files, *names]):
            yield Path(folder, name)


def _line(root: Path, path: Path) -> str:
    mode = path.lstat().st_mode
    name = str(path.relative_to(root)).replace("\\", "\\\\").replace("\n", "\\n")
    if stat.S_ISLNK(mode):
        return f"l - {os.readlink(path)!r} {name}\n"
    if stat.S_ISDIR(mode):
        return f"d {stat.S_IMODE(mode):04o} - {name}\n"
    if stat.S_ISREG(mode):
        return f"f {stat.S_IMODE(mode):04o} {file_sha256(path)} {name}\n"
    return f"o {stat.S_IMODE(mode):04o} - {name}\n"
