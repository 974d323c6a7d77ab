"""What an image store says of itself: beside each image lies a small JSON file, written last."""

import contextlib
import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from pilot.failpoints import effect

SIF, DIRECTORY = "sif", "directory"
# A directory that was unpacked from a SIF says so: it is the same image in a faster form.
ORIGIN_LABEL = "pilot.unpacked-from"


@dataclass(frozen=True, slots=True)
class StoredImage:
    """One image in one form; a directory's digest is that of its manifest. `recipe` is the same for both forms."""

    name: str
    path: str
    sha256: str
    form: str
    bytes: int = 0
    labels: dict[str, str] = field(default_factory=dict)
    recipe: str = ""

    @property
    def origin(self) -> str:
        """The sha256 of the SIF that a directory was unpacked from, or ""."""
        return self.labels.get(ORIGIN_LABEL, "")


def listed(stores: Iterable[Path]) -> list[StoredImage]:
    """Every image of the stores that is there, the newest of each store first; nothing is verified."""
    return [image for store in stores for note in _newest_first(store) if (image := _read(note))]


def write(image: StoredImage) -> StoredImage:
    """Lists the image: from now on it is there."""
    final = note_of(Path(image.path))
    part = final.with_name(f".{final.name}.{os.getpid()}")
    part.write_text(json.dumps(asdict(image), indent=1) + "\n", encoding="utf-8")
    with effect("images.list"):
        os.replace(part, final)
    return image


def note_of(path: Path) -> Path:
    """The JSON file of the image at that path."""
    return path.with_suffix(".json")


def used_mark_of(path: Path) -> Path:
    """The empty file whose time says when the image was last used."""
    return path.with_suffix(".used")


def mark_used(image: StoredImage) -> None:
    """Notes the use, where the store can be written."""
    with contextlib.suppress(OSError):
        used_mark_of(Path(image.path)).touch()


def last_used(image: StoredImage) -> float:
    """When it was last used, else when it was listed."""
    path = Path(image.path)
    for each in (used_mark_of(path), note_of(path)):
        with contextlib.suppress(OSError):
            return each.stat().st_mtime
    return 0.0


def listed_at(image: StoredImage) -> float:
    """When it was listed, in seconds since the epoch."""
    return note_of(Path(image.path)).stat().st_mtime


def _newest_first(store: Path) -> list[Path]:
    try:
        entries = [each for each in os.scandir(store) if each.name.endswith(".json") and not each.name.startswith(".")]
    except OSError:
        return []  # a configured store that is not mounted now holds nothing now
    return [Path(each.path) for each in sorted(entries, key=lambda each: each.stat().st_mtime_ns, reverse=True)]


def _read(note: Path) -> StoredImage | None:
    """What the note says, with the path as it is here: a store may have been copied or mounted elsewhere."""
    try:
        data = json.loads(note.read_text(encoding="utf-8"))
        image = StoredImage(**{**data, "path": str(note.with_name(Path(data["path"]).name))})
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return image if os.path.exists(image.path) else None
