"""A queue file of the first version is brought up to date where it lies."""

import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import pytest

from pilot.ports import Final
from pilot.queue import schema, upgrade
from pilot.queue.store import create_store, open_store
from tests.contracts.queue_version_1 import check_version_1, write_version_1


def test_a_file_of_version_1_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "queue.db"
    write_version_1(path)
    check_version_1(path)
    check_version_1(path)


def test_two_who_open_it_at_once_upgrade_it_once(tmp_path: Path) -> None:
    path = tmp_path / "queue.db"
    write_version_1(path)
    stores: list[object] = []
    crowd = [threading.Thread(target=lambda: stores.append(open_store(path).problems())) for _ in range(4)]
    for each in crowd:
        each.start()
    for each in crowd:
        each.join()
    assert stores == [()] * 4
    check_version_1(path)


def test_an_upgrade_that_breaks_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "queue.db"
    write_version_1(path)
    monkeypatch.setattr(upgrade, "COUNTED", "SELECT 1 FROM nowhere;")
    with pytest.raises(Final, match="no such table: nowhere"):
        open_store(path)
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA user_version").fetchone()[0] == 1
        assert db.execute("SELECT count(*), min(length(spec)) > 0 FROM job").fetchone() == (6, 1)
    monkeypatch.undo()
    check_version_1(path)


def test_an_upgraded_file_has_the_tables_of_a_new_one(tmp_path: Path) -> None:
    write_version_1(tmp_path / "old.db")
    create_store(tmp_path / "new.db")
    assert _tables(tmp_path / "old.db") == _tables(tmp_path / "new.db")
    assert schema.VERSION == 2


def _tables(path: Path) -> dict[str, str]:
    open_store(path).close()
    with closing(sqlite3.connect(path)) as db:
        rows = db.execute("SELECT name, sql FROM sqlite_schema WHERE sql IS NOT NULL")
        return {name: " ".join(sql.replace('"', "").split()) for name, sql in rows}


def test_a_file_in_an_unsafe_place_is_refused_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "queue.db"
    write_version_1(path)
    with pytest.raises(Final, match="write-ahead log is not safe"):
        open_store(path, mountinfo="22 1 0:40 / / rw - nfs4 server:/ rw")
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA user_version").fetchone()[0] == 1
