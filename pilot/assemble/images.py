"""The composition root of `pilot image`: store, Apptainer and builders, without the rest of the pilot."""

import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from pilot.adapters.images_build import BuildRequest, build
from pilot.adapters.images_gc import Marks, collect
from pilot.adapters.images_listing import StoredImage, listed_at
from pilot.adapters.images_pull import PullRequest, pull
from pilot.assemble.pilot import cache_of, images_of, runtime_of
from pilot.config.settings import Settings
from pilot.model.faults import Code
from pilot.model.files import ImageUsed
from pilot.ports import Final

Progress = Callable[[str], None]


def store_of(settings: Settings) -> Path:
    """The store that this user may write."""
    return cache_of(settings) / "images"


def build_image(
    settings: Settings, image: str, form: str, arguments: Sequence[tuple[str, str]], progress: Progress
) -> tuple[StoredImage, ...]:
    """Builds a definition that ships with the pilot (by name), or one by path."""
    store = store_of(settings)
    store.mkdir(parents=True, exist_ok=True)
    began = time.time()
    made = build(BuildRequest(image, store, _apptainer(settings), form, tuple(arguments)), progress)
    # What was there before is not vouched for: it may have been touched since.
    _vouch(settings, [each for each in made if listed_at(each) >= began])
    return made


def pull_image(settings: Settings, reference: str, form: str, name: str, progress: Progress) -> tuple[StoredImage, ...]:
    """Brings an image from a registry or a file."""
    made = pull(PullRequest(reference, store_of(settings), _apptainer(settings), form, name), progress)
    _vouch(settings, made)
    return made


def _vouch(settings: Settings, made: Iterable[StoredImage]) -> None:
    store = images_of(settings, cache_of(settings))
    for each in made:
        store.vouch(each)


def list_images(settings: Settings) -> list[StoredImage]:
    """Every image at hand, unverified."""
    return images_of(settings, cache_of(settings)).listed()


def verify_image(settings: Settings, reference: str) -> ImageUsed:
    """Reads every byte of one image."""
    store = images_of(settings, cache_of(settings))
    try:
        return store.verify(reference)
    finally:
        store.close()


def collect_images(settings: Settings, budget: int, high: float, low: float) -> tuple[StoredImage, ...]:
    """Makes room."""
    store = store_of(settings)
    store.mkdir(parents=True, exist_ok=True)
    return collect(store, Marks(budget, high, low))


def _apptainer(settings: Settings) -> Path:
    found = runtime_of(settings, cache_of(settings)).check()
    if found.name != "apptainer" or not found.works:
        raise Final(Code.RUNTIME_MISSING, found.detail)
    return Path(found.path)
