"""What a payload left, opened step by step from a folder of ours: a link in the way is never followed.

A payload may put a link in a folder's place at any moment, so a path below its directories is never walked twice.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_STEP = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_LIST = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def descend(root: Path, *parts: str) -> int:
    """A descriptor of the folder, which can be listed; OSError where a part is a link, or no folder."""
    with _above(root, parts) as above:
        return os.open(parts[-1], _LIST, dir_fd=above)


@contextmanager
def folder(root: Path, *parts: str) -> Iterator[int]:
    """The folder, open for a while."""
    descriptor = descend(root, *parts)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def file(root: Path, *parts: str) -> int:
    """A descriptor of what is there, to be read, never waited for; OSError where a part is a link."""
    with _above(root, parts) as above:
        return os.open(parts[-1], _READ, dir_fd=above)


def open_up(root: Path, *parts: str) -> None:
    """Lets us into a folder that a payload has closed to everybody; what is no folder stays as it is."""
    with suppress(OSError), _above(root, (*parts, "")) as there:
        os.chmod(f"/proc/self/fd/{there}", 0o700)


@contextmanager
def _above(root: Path, parts: tuple[str, ...]) -> Iterator[int]:
    """The folder that holds the last part."""
    descriptor = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for part in parts[:-1]:
            below = os.open(part, _STEP, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = below
        yield descriptor
    finally:
        os.close(descriptor)
