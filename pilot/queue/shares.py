"""What owners use, in the file: cores held now (kept by a trigger) and of late (charged when an attempt ends)."""

import sqlite3
from dataclasses import dataclass

from pilot.core.turns import Use, charged

Db = sqlite3.Connection

READ = "SELECT owner, running, recent, at FROM share WHERE queue = ?"
READ_ONE = "SELECT running, recent, at FROM share WHERE queue = ? AND owner = ?"
WRITE = "UPDATE share SET recent = ?, at = ? WHERE queue = ? AND owner = ?"
NEW = "INSERT OR IGNORE INTO share (queue, owner, at) VALUES (?, ?, ?)"


@dataclass(frozen=True, slots=True)
class Held:
    """What an attempt held of its queue: so many cores, for that owner, since then."""

    queue: str
    owner: str
    cores: int
    since: float


def uses(db: Db, queue: str) -> dict[str, Use]:
    """What every owner of that queue uses."""
    rows = db.execute(READ, (queue,))
    return {row["owner"]: Use(row["running"], row["recent"], row["at"]) for row in rows}


def charge(db: Db, held: Held, now: float) -> None:
    """An attempt is over: what it held counts as used."""
    row = db.execute(READ_ONE, (held.queue, held.owner)).fetchone()
    if row is not None:
        after = charged(Use(row["running"], row["recent"], row["at"]), held.cores, now - held.since, now)
        db.execute(WRITE, (after.recent, after.at, held.queue, held.owner))


def open_share(db: Db, queue: str, owner: str, now: float) -> None:
    """The owner has a share of the queue from now on."""
    db.execute(NEW, (queue, owner, now))
