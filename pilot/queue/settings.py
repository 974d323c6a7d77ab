"""The named queues of a file: making them, reading them, changing them."""

import sqlite3
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
    values = [to_plain(getattr(settings, each.name)) for each in fields(QueueSettings)]
    with effect("queue.settings"), store.writing() as db:
        db.execute(WRITE, values)
