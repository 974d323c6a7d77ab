"""Makes room in the image store: least recently used first, never an image that a pilot holds."""

import fcntl
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pilot.adapters.images_listing import StoredImage, last_used, listed, note_of, used_mark_of
from pilot.adapters.images_tools import lock, remove
from pilot.failpoints import effect

# What `build` and `pull` keep; a file that somebody put there by hand bears a plain name, and stays.
_KEPT = re.compile(r".+-[0-9a-f]{12}\.(sif|dir|manifest|used)")


@dataclass(frozen=True, slots=True)
class Marks:
    """Above `high` of the budget images go, until `low` is reached; a budget of 0 means the whole disk."""

    budget_bytes: int = 0
    high: float = 0.85
    low: float = 0.80


def collect(store: Path, marks: Marks) -> tuple[StoredImage, ...]:
    """Removes what is over; returns what is gone."""
    with lock(store / ".build"):
        _tidy(store)
        surplus = _surplus(store, marks)
        gone: list[StoredImage] = []
        for image in sorted(listed([store]), key=last_used):
            if sum(each.bytes for each in gone) >= surplus:
                break
            with _alone(image) as free:
                if free:
                    _remove(store, image)
                    gone.append(image)
        return tuple(gone)


def _surplus(store: Path, marks: Marks) -> float:
    """How many bytes have to go."""
    if marks.budget_bytes:
        total, used = marks.budget_bytes, sum(each.bytes for each in listed([store]))
    else:
        disk = shutil.disk_usage(store)
        total, used = disk.total, disk.used
    return used - marks.low * total if used > marks.high * total else 0.0


@contextmanager
def _alone(image: StoredImage) -> Iterator[bool]:
    """Whether no pilot holds the image; none can take it up meanwhile."""
    descriptor = os.open(image.path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield True
    except BlockingIOError:
        yield False
    finally:
        os.close(descriptor)


def _remove(store: Path, image: StoredImage) -> None:
    """First the note, so that nobody finds a half-removed image; then the rest, under a name that nobody knows."""
    path = Path(image.path)
    with effect("images.forget"):
        note_of(path).unlink()
    away = store / ".build" / f"gone-{path.name}"
    with effect("images.put-away"):
        os.rename(path, away)
    _erase(away)
    for each in (path.with_suffix(".manifest"), used_mark_of(path)):
        each.unlink(missing_ok=True)


def _tidy(store: Path) -> None:
    """Erases what killed builds and evictions left: with the lock in hand, nobody is at work on it."""
    for pattern in ("gone-*", "work-*"):
        for left in (store / ".build").glob(pattern):
            _erase(left)
    for each in store.iterdir():
        if _KEPT.fullmatch(each.name) and not note_of(each).exists():
            _erase(each)


def _erase(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        remove(path)
    else:
        path.unlink(missing_ok=True)
