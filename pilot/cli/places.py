"""Where `pilot run` keeps its journal, and places that must be there before it begins."""

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pilot.assemble.pilot import clear_away
from pilot.cli.exits import Exit, Stop
from pilot.config.home import full_path, home
from pilot.config.settings import Settings


@dataclass(slots=True)
class Place:
    """A state directory; one that was made for the occasion goes, unless something worth keeping is left in it."""

    path: Path
    keep: bool = False


def made(path: Path, name: str, mode: int = 0o777) -> Path:
    """The directory, made where it is missing; one that cannot be written ends the command."""
    try:
        path.mkdir(mode=mode, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            return path
    except OSError as error:
        raise Stop(f"{name} {path}: {error.strerror}; give one that can be written", Exit.DISK) from None


def state_of(settings: Settings) -> Path:
    """The configured state directory, else the batch job's own, else one per queue in the user's home."""
    return made(Path(settings.state) if settings.state else _default_state(settings.queue), "--state", 0o700)


def state_at_hand(settings: Settings) -> Path | None:
    """Where this user's pilots on the queue keep their state, if one has been at work here; makes nothing."""
    if not (settings.state or settings.queue):
        return None
    found = Path(settings.state) if settings.state else _default_state(settings.queue)
    return found if found.is_dir() else None


@contextlib.contextmanager
def state_for_one(settings: Settings) -> Iterator[Place]:
    """A state directory for one job: the configured one, else one that goes when the job is over."""
    if settings.state:
        yield Place(state_of(settings), keep=True)
        return
    above = settings.scratch or os.environ.get("_CONDOR_SCRATCH_DIR") or tempfile.gettempdir()
    place = Place(Path(tempfile.mkdtemp(prefix="pilot-job-", dir=made(Path(above), "scratch"))))
    try:
        yield place
    finally:
        if not place.keep:
            clear_away(place.path)


def _default_state(queue: str) -> Path:
    """Named after the queue's full path: two queues of the same name in two directories are two."""
    batch = os.environ.get("_CONDOR_SCRATCH_DIR")
    above = os.environ.get("XDG_STATE_HOME") or ("" if batch else str(home() / ".local/state"))
    scheme, _, rest = queue.partition(":")
    where = f"{scheme}:{full_path(Path(rest))}" if scheme == "sqlite" else queue
    name = hashlib.sha256(where.encode()).hexdigest()[:16]
    return Path(batch) / "pilot" if batch else Path(above) / "pilot" / name
