"""The composition root of file storage: what of this machine's files jobs may name here."""

import os
from collections.abc import Iterator
from pathlib import Path

from pilot.adapters.storage_places import PROGRAMS, SYSTEM, Permitted, followed, personal
from pilot.assemble.queue import queue_path
from pilot.assemble.server import is_remote, secret_files
from pilot.config.settings import Settings

_OF_STATE = ("journal", "pilot.log", "lock", "job.db", "supervisor.log", "supervisor.lock")
_OF_CACHE = ("images", "receipts", "apptainer")
_OF_SCRATCH = ("jobs", "kept", "spare")


def permitted(settings: Settings, state: Path, scratch: Path, cache: Path) -> Permitted:
    """The site's own lists; without them everything but what is the pilot's, its user's or the system's.

    A queue at a distance has users whom this node does not know: they get no file that its owner keeps to himself.
    """
    own = ((state, _OF_STATE), (scratch, _OF_SCRATCH), (cache, _OF_CACHE))
    home = _home()
    personals = personal(home) if home else ()
    ours = [folder / name for folder, names in own for name in names]
    return Permitted(
        readable=followed(map(Path, (*settings.storage_read, *_written(settings)))),
        writable=followed(map(Path, settings.storage_write)),
        closed=followed((*secret_files(settings), *_queue_files(settings), *ours, *personals, *SYSTEM)),
        fixed=followed(PROGRAMS),
        private=not is_remote(settings.queue),
        home=Path(os.path.realpath(home)) if home else None,
    )


def _written(settings: Settings) -> tuple[str, ...]:
    """Checkpoints are read where they were written: a site that names folders of inputs need not think of them."""
    return settings.storage_write if settings.storage_read else ()


def _home() -> Path | None:
    try:
        return Path.home()
    except RuntimeError:
        return None  # a batch slot may have none


def _queue_files(settings: Settings) -> Iterator[Path]:
    """Everybody's jobs, and their code; the keys of who serves it."""
    if settings.queue and not is_remote(settings.queue):
        path = queue_path(settings.queue)
        yield from (path.with_name(path.name + end) for end in ("", "-wal", "-shm", "-journal"))
        yield path.with_name(f"{path.stem}-keys")
