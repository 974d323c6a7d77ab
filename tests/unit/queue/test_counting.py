"""What the queue keeps count of is held against its rows, so that a count that is wrong is found."""

from pathlib import Path

import pytest

from pilot.adapters.matcher_classad import ClassAdMatcher
from pilot.model.queue import QueueSettings
from pilot.queue.local import LocalServer
from pilot.queue.settings import write_settings
from pilot.queue.store import create_store, open_store
from pilot.queue.users import LocalQueue
from tests.contracts.server_beds import ask, job


@pytest.mark.parametrize(
    ("damage", "found"),
    [
        ("UPDATE lane SET waiting = 9", "lane default/1: 9 noted, 1 counted"),
        ("UPDATE share SET running = 0", "share default/ada: 0 noted, 1 counted"),
        ("UPDATE tally SET jobs = 7 WHERE state = 'waiting'", "tally default/ada/waiting/: 7 noted, 1 counted"),
        ("DELETE FROM tally WHERE state = 'granted'", "tally default/ada/granted/: 0 noted, 1 counted"),
    ],
)
def test_a_wrong_count_is_found(tmp_path: Path, damage: str, found: str) -> None:
    create_store(tmp_path / "queue.db")
    store = open_store(tmp_path / "queue.db")
    write_settings(store, QueueSettings("default", "ada"))
    LocalQueue(store, ClassAdMatcher(), "ada").add([job("a"), job("b")])
    LocalServer(store, ClassAdMatcher()).claim(ask("c"))
    assert store.problems() == ()
    with store.writing() as db:
        db.execute(damage)
    assert store.problems() == (found,)
    store.close()
