"""The composition root of `pilot queue`: the queue's parts alone, so that its commands start quickly."""

from pathlib import Path

from pilot.adapters.matcher_classad import ClassAdMatcher
from pilot.assemble.server import is_remote, queue_of
from pilot.config.settings import load_settings
from pilot.model.faults import Code
from pilot.model.queue import QueueSettings
from pilot.ports import Final, Matcher, Queue
from pilot.queue.settings import add_queue, change_settings
from pilot.queue.store import create_store, open_store, slow_place
from pilot.queue.users import LocalQueue

STORED = ("file",)  # schemes of storages that this version's pilots can store to


def queue_path(url: str) -> Path:
    """The file of a `sqlite:PATH` URL; raises in one line for any other."""
    scheme, _, rest = url.partition(":")
    if is_remote(url):
        raise Final(
            Code.SERVER_REFUSED, f"queue {_shown(url)}: only where it is served: there, name its file, sqlite:PATH"
        )
    if scheme != "sqlite" or not rest:
        raise Final(Code.SERVER_REFUSED, f"queue {_shown(url)!r}: use sqlite:PATH or https://HOST:PORT")
    return Path(rest.removeprefix("//")).expanduser()


def _shown(url: str) -> str:
    """Without a user and password that somebody wrote into it."""
    scheme, slashes, rest = url.partition("://")
    return f"{scheme}{slashes}{rest.rpartition('@')[2]}"


def matcher() -> Matcher:
    """ClassAd expressions; the library behind it is imported on first use."""
    return ClassAdMatcher()


def open_queue(url: str, name: str, user: str) -> Queue:
    """The queue as that user sees it; at a distance, the token says who the user is."""
    if is_remote(url):
        return queue_of(load_settings({"queue": url, "queue_name": name}).settings)
    return LocalQueue(open_store(queue_path(url)), matcher(), user, name)


def destination_problem(url: str) -> str:
    """Why outputs cannot be put there by a pilot of this version; "" where they can."""
    scheme = url.partition("://")[0]
    if scheme in STORED or not url:
        return ""
    return f"output {url}: this version stores to file:// alone; name a folder that all nodes share"


def make_queue(url: str, settings: QueueSettings) -> str:
    """Makes the queue, and its file where there is none; returns a warning, or nothing."""
    path = queue_path(url)
    advice = None if path.exists() else create_store(path)
    store = open_store(path)
    try:
        add_queue(store, settings)
    finally:
        store.close()
    return slow_place(advice) if advice is not None and advice.reason else ""


def change_queue(url: str, name: str, user: str, changes: dict[str, object]) -> QueueSettings:
    """Changes settings of a queue; its owner may."""
    store = open_store(queue_path(url))
    try:
        return change_settings(store, name, user, changes)
    finally:
        store.close()
