"""The named queues of a file: making them, reading them, changing them."""

import sqlite3
from collections.abc import Mapping
from dataclasses import fields

from pilot.failpoints import effect
from pilot.model.faults import Code
from pilot.model.plain import from_plain, to_plain
from pilot.model.queue import QueueSettings
from pilot.ports import Final
from pilot.queue.store import Store

DEFAULT_QUEUE = "default"
READ = "SELECT * FROM queue WHERE name = ?"
WRITE = """
INSERT INTO queue (name, owner, state, destination, lease_seconds, poll_seconds) VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT (name) DO UPDATE SET owner = excluded.owner, state = excluded.state, destination = excluded.destination,
    lease_seconds = excluded.lease_seconds, poll_seconds = excluded.poll_seconds
"""


def read_settings(db: sqlite3.Connection, name: str) -> QueueSettings:
    """The settings of the queue of that name."""
    row = db.execute(READ, (name,)).fetchone()
    if row is None:
        names = ", ".join(sorted(each[0] for each in db.execute("SELECT name FROM queue"))) or "none"
        raise Final(Code.SERVER_REFUSED, f"no queue named {name!r} in this file; it holds: {names}")
    return from_plain(QueueSettings, dict(row))


def write_settings(store: Store, settings: QueueSettings) -> None:
    """Makes the queue, or changes it."""
    with effect("queue.settings"), store.writing() as db:
        _write(db, settings)


def add_queue(store: Store, settings: QueueSettings) -> None:
    """Makes the queue; one of that name must not be there yet."""
    with effect("queue.new"), store.writing() as db:
        if db.execute(READ, (settings.name,)).fetchone() is not None:
            hint = "name another file or --queue-name, or change it: pilot queue set"
            raise Final(Code.STORAGE_EXISTS, f"{store.path} holds a queue named {settings.name!r} already; {hint}")
        _write(db, settings)


def change_settings(store: Store, name: str, user: str, changes: Mapping[str, object]) -> QueueSettings:
    """Changes some settings; the queue's owner may."""
    with effect("queue.change"), store.writing() as db:
        before = read_settings(db, name)
        if user not in (before.owner, "root"):
            raise Final(Code.STORAGE_DENIED, f"queue {name} belongs to {before.owner}, not to {user}")
        after = from_plain(QueueSettings, {**full_record(before), **changes})
        _write(db, after)
    return after


def full_record(settings: QueueSettings) -> dict[str, object]:
    """Every setting by name, as plain data."""
    return {each.name: to_plain(getattr(settings, each.name)) for each in fields(QueueSettings)}


def _write(db: sqlite3.Connection, settings: QueueSettings) -> None:
    db.execute(WRITE, tuple(full_record(settings).values()))
