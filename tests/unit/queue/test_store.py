"""The queue file: made whole or not at all, opened safely, and every trouble told in one line."""

import sqlite3
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from pilot.model.queue import QueueSettings
from pilot.ports import Final, Passing, PortError
from pilot.queue import store as module
from pilot.queue.settings import add_queue, change_settings, read_settings, write_settings
from pilot.queue.store import Store, create_store, open_store

NFS = "22 1 0:40 / / rw - nfs4 server:/ rw"
QUEUE = QueueSettings("default", "ada")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "queue.db"


def mode(store: Store) -> str:
    with store.reading() as db:
        return str(db.execute("PRAGMA journal_mode").fetchone()[0])


def synchronous(store: Store) -> int:
    with store.reading() as db:
        return int(db.execute("PRAGMA synchronous").fetchone()[0])


def one_line(error: PortError) -> bool:
    return "\n" not in error.fault.detail and error.fault.detail != ""


def test_a_queue_on_a_local_disk_is_durable_and_leaves_one_file(path: Path) -> None:
    assert create_store(path).journal == "wal"
    store = open_store(path)
    write_settings(store, QUEUE)
    assert (mode(store), synchronous(store), store.warning) == ("wal", 2, "")
    assert store.problems() == ()
    store.close()
    assert [each.name for each in path.parent.iterdir()] == ["queue.db"]


def test_on_a_shared_file_system_the_rollback_journal_is_used_with_a_warning(path: Path) -> None:
    assert create_store(path, NFS).journal == "delete"
    store = open_store(path, mountinfo=NFS)
    write_settings(store, QUEUE)
    assert (mode(store), synchronous(store)) == ("delete", 3)
    assert "no write-ahead log there" in store.warning
    store.close()


def test_without_locks_a_queue_is_refused(path: Path) -> None:
    with pytest.raises(Final, match=r"where file locks do not work; put the queue on a local disk") as refused:
        create_store(path, NFS, lambda _: False)
    assert one_line(refused.value)
    assert list(path.parent.iterdir()) == []


def test_a_log_that_was_moved_to_a_shared_file_system_is_refused(path: Path) -> None:
    create_store(path)
    with pytest.raises(Final, match="write-ahead log is not safe; move it to a local disk"):
        open_store(path, mountinfo=NFS)


def test_a_name_that_is_taken_is_left_alone(path: Path) -> None:
    path.write_text("precious")
    with pytest.raises(Final, match="there is a file already"):
        create_store(path)
    assert path.read_text() == "precious"


def test_without_hard_links_the_file_is_renamed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(module.errno.EPERM, "no links here")

    monkeypatch.setattr(module.os, "link", refuse)
    create_store(path)
    open_store(path).close()
    with pytest.raises(Passing, match="no links here"):
        create_store(path)


def _garbage(path: Path) -> None:
    path.write_bytes(b"not a database at all, but long enough to be looked at" * 100)


def _foreign(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE t (x)")
    db.close()


def _newer(path: Path) -> None:
    create_store(path)
    db = sqlite3.connect(path)
    db.execute("PRAGMA user_version = 99")
    db.close()


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda path: None, "no queue here; make one: pilot queue init"),
        (lambda path: path.mkdir(), "cannot be opened"),
        (lambda path: path.touch(), "not a queue; name another file"),
        (_garbage, "is not a queue; name another file"),
        (_foreign, "not a queue; name another file"),
        (_newer, "schema version 99, not 2"),
    ],
)
def test_what_is_no_queue_is_told_in_one_line(path: Path, make: object, why: str) -> None:
    make(path)  # type: ignore[operator]
    with pytest.raises(PortError, match=why) as refused:
        open_store(path)
    assert one_line(refused.value)
    assert str(path) in refused.value.fault.detail


def test_a_directory_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(Final, match="no such directory; make it first"):
        create_store(tmp_path / "missing" / "queue.db")


def test_a_damaged_file_is_told_in_one_line(path: Path) -> None:
    create_store(path)
    store = open_store(path)
    write_settings(store, QUEUE)
    store.close()
    data = bytearray(path.read_bytes())
    data[4096:12288] = b"\xff" * 8192
    path.write_bytes(data)
    with pytest.raises(Final, match="is damaged; restore it from a copy") as refused:
        _read(path)
    assert one_line(refused.value)


def _read(path: Path) -> None:
    store = open_store(path)
    try:
        with store.reading() as db:
            read_settings(db, "default")
            db.execute("SELECT * FROM job").fetchall()
    finally:
        store.close()


def test_who_finds_the_file_locked_waits(path: Path) -> None:
    create_store(path)
    holder, waiter = open_store(path), open_store(path)
    taken, released = threading.Event(), []

    def hold() -> None:
        with holder.writing():
            taken.set()
            threading.Event().wait(0.3)
            released.append(True)

    thread = threading.Thread(target=hold)
    thread.start()
    taken.wait(5)
    write_settings(waiter, QUEUE)
    assert released == [True]
    thread.join()
    holder.close()
    waiter.close()


def test_who_waits_too_long_is_told_in_one_line(path: Path) -> None:
    create_store(path)
    holder, waiter = open_store(path), open_store(path, busy_seconds=0.05)
    with holder.writing(), pytest.raises(Passing, match="another process holds the queue file; try again") as refused:
        write_settings(waiter, QUEUE)
    assert one_line(refused.value)
    holder.close()
    waiter.close()


def test_a_transaction_that_raises_leaves_nothing(path: Path) -> None:
    create_store(path)
    store = open_store(path)
    with pytest.raises(ZeroDivisionError):
        _half_done(store)
    with store.reading() as db:
        assert db.execute("SELECT count(*) FROM code").fetchone()[0] == 0
    store.close()


def _half_done(store: Store) -> None:
    with store.writing() as db:
        db.execute("INSERT INTO code VALUES ('a', x'00')")
        raise ZeroDivisionError


def test_the_version_changes_when_others_write(path: Path) -> None:
    create_store(path)
    mine, other = open_store(path), open_store(path)
    before = mine.version()
    write_settings(mine, QUEUE)
    assert mine.version() == before
    write_settings(other, replace(QUEUE, lease_seconds=7.0))
    assert mine.version() != before
    mine.close()
    other.close()


def test_a_broken_reference_is_found(path: Path) -> None:
    create_store(path)
    store = open_store(path)
    with store.writing() as db:
        db.execute("PRAGMA defer_foreign_keys = ON")
        db.execute("INSERT INTO report VALUES (7, 1, '{}', 0.0)")
        with pytest.raises(sqlite3.IntegrityError):
            db.execute("COMMIT")
        db.execute("ROLLBACK")
        db.execute("PRAGMA foreign_keys = OFF")
        db.execute("BEGIN")
        db.execute("INSERT INTO report VALUES (7, 1, '{}', 0.0)")
    assert any("no such job" in each for each in store.problems())
    store.close()


# --- named queues ---


def test_named_queues_live_side_by_side(path: Path) -> None:
    create_store(path)
    store = open_store(path)
    add_queue(store, QUEUE)
    add_queue(store, QueueSettings("night", "bob", lease_seconds=5.0))
    with store.reading() as db:
        assert read_settings(db, "night").lease_seconds == 5.0
        with pytest.raises(Final, match="no queue named 'noon' in this file; it holds: default, night"):
            read_settings(db, "noon")
    with pytest.raises(Final, match="holds a queue named 'night' already"):
        add_queue(store, QueueSettings("night", "eve"))
    store.close()


def test_only_its_owner_changes_a_queue(path: Path) -> None:
    create_store(path)
    store = open_store(path)
    add_queue(store, QUEUE)
    assert change_settings(store, "default", "ada", {"state": "drain"}).state == "drain"
    with pytest.raises(Final, match="belongs to ada, not to eve"):
        change_settings(store, "default", "eve", {"state": "online"})
    store.close()
