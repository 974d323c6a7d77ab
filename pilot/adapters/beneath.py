"""Paths below a folder that a payload may write in, walked without ever leaving it."""

import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pilot.failpoints import effect

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_MOST_LINKS = 40  # as the kernel allows in one path


class EscapeError(Exception):
    """A path leads out of the folder; the text says how."""


@dataclass(frozen=True, slots=True)
class Found:
    """What a name means in the end: its path below the folder, free of links, and what is there."""

    parts: tuple[str, ...]
    stat: os.stat_result


@contextmanager
def opened(root: Path | int, parts: tuple[str, ...] = ()) -> Iterator[int]:
    """A descriptor of the folder `parts` below `root`; OSError where a part is a link or no folder."""
    descriptor = os.dup(root) if isinstance(root, int) else os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for part in parts:
            below = os.open(part, _FOLDER, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = below
        yield descriptor
    finally:
        os.close(descriptor)


def make_folder(root: Path, parts: tuple[str, ...]) -> None:
    """Makes the folder `parts` below `root`; what stands in its way, a payload's link or file, is removed."""
    for depth, part in enumerate(parts):
        with opened(root, parts[:depth]) as above:
            if not _is_folder(above, part):
                clear(above, part)
                with effect("beneath.mkdir"):
                    os.mkdir(part, dir_fd=above)


def make_file(root: Path, parts: tuple[str, ...]) -> None:
    """Makes an empty file below `root`, unless there is a regular file of that name already."""
    *folders, name = parts
    make_folder(root, tuple(folders))
    with opened(root, tuple(folders)) as folder:
        if not _is_file(folder, name):
            clear(folder, name)
            with effect("beneath.file"):
                os.close(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644, dir_fd=folder))


def _is_file(folder: int, name: str) -> bool:
    try:
        return stat.S_ISREG(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return False


def _is_folder(above: int, name: str) -> bool:
    try:
        return stat.S_ISDIR(os.stat(name, dir_fd=above, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return False


def clear(folder: int, name: str) -> None:
    """Nothing of that name is left in the open folder; links are removed, not followed."""
    with effect("beneath.clear"):
        try:
            os.unlink(name, dir_fd=folder)
        except FileNotFoundError:
            return
        except IsADirectoryError:
            shutil.rmtree(name, dir_fd=folder)


def resolve(root: Path, name: str, aliases: tuple[str, ...] = ()) -> Found:
    """Follows links step by step, below `root` alone; `aliases` are absolute names that the payload has for `root`.

    Raises EscapeError for a path that leads out, FileNotFoundError for one that leads nowhere.
    """
    waiting = name.split("/")[::-1]
    done: list[str] = []
    links = 0
    while True:
        seen = _look(root, done, waiting.pop())
        if isinstance(seen, str):
            links += 1
            waiting = _follow(name, seen, done, waiting, aliases)
        elif not waiting:
            return Found(tuple(done), seen)
        if links > _MOST_LINKS:
            raise EscapeError(f"{name}: a circle of links")


def _look(root: Path, done: list[str], part: str) -> os.stat_result | str:
    """Steps to one more part; gives what is there, or where the link leads that is there."""
    if part in ("", "."):
        pass
    elif part == "..":
        if not done:
            raise EscapeError(".. leads out of the working directory")
        done.pop()
    else:
        with opened(root, tuple(done)) as folder:
            seen = os.stat(part, dir_fd=folder, follow_symlinks=False)
            if stat.S_ISLNK(seen.st_mode):
                return os.readlink(part, dir_fd=folder)
        done.append(part)
        return seen
    with opened(root, tuple(done)) as folder:
        return os.fstat(folder)


def _follow(name: str, link: str, done: list[str], waiting: list[str], aliases: tuple[str, ...]) -> list[str]:
    """The parts that are still to be walked once the link is put in its place."""
    target = link
    if link.startswith("/"):
        target = _inside(name, link, aliases)
        done.clear()
    return [*waiting, *target.split("/")[::-1]]


def _inside(name: str, link: str, aliases: tuple[str, ...]) -> str:
    for alias in aliases:
        if link == alias or link.startswith(alias + "/"):
            return link[len(alias) + 1 :]
    raise EscapeError(f"{name}: a link to {link}")
