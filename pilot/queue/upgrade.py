"""A queue file of version 1 becomes one of this version: in place, in one transaction, all of it or nothing."""

import json
import sqlite3

from pilot.core.matching import Shape
from pilot.core.turns import place, weight
from pilot.failpoints import effect
from pilot.model.plain import from_plain
from pilot.queue import schema
from pilot.queue.templates import COMPACT, common, keep_template, own_part

Db = sqlite3.Connection

FROM = 1
ASIDE = "ALTER TABLE {0} RENAME TO old_{0}"
OLD_INDICES = ("claimable", "leased", "delayed", "named", "in_state")
SHAPES = "SELECT shape, digest, body FROM old_shape"
COPY = """
INSERT INTO job (job, job_id, name, owner, queue, shape, template, own, priority, place, attempts, max_interruptions,
    state, held, blockers, not_before, attempt, failures, interruptions, lease_until, pilot, command, verdict, fault,
    resume, added, ended)
SELECT job, job_id, name, owner, queue, shape, ?, ?, priority, ?, attempts, max_interruptions,
    state, held, blockers, not_before, attempt, failures, interruptions, lease_until, pilot, command, verdict, fault,
    resume, added, ended FROM old_job WHERE job = ?
"""
COUNTED = """
INSERT INTO lane (queue, shape, waiting, since, stamp)
    SELECT queue, shape, sum(state = 'waiting' AND blockers = 0 AND not_before IS NULL), max(added), shape
    FROM job GROUP BY queue, shape;
INSERT INTO tally (queue, owner, state, verdict, jobs)
    SELECT queue, owner, state, verdict, count(*) FROM job GROUP BY queue, owner, state, verdict;
INSERT INTO share (queue, owner, running, at)
    SELECT queue, job.owner, sum((state = 'granted') * weight), max(added) FROM job JOIN shape USING (shape)
    GROUP BY queue, job.owner;
INSERT INTO offer (pilot, host, body, whole, seen) SELECT pilot, host, body, body, seen FROM old_offer;
DROP TABLE old_job;
DROP TABLE old_shape;
DROP TABLE old_offer;
"""


def upgrade(db: Db) -> None:
    """Brings the file up to date, if nobody else has done so meanwhile."""
    db.execute("PRAGMA foreign_keys = OFF")
    db.execute("PRAGMA legacy_alter_table = ON")  # who refers to `job` goes on to mean the new one
    with effect("queue.upgrade"):
        db.execute("BEGIN IMMEDIATE")
        try:
            if db.execute("PRAGMA user_version").fetchone()[0] == FROM:
                _upgrade(db)
                db.execute(f"PRAGMA user_version = {schema.VERSION}")
            db.execute("COMMIT")
        finally:
            if db.in_transaction:
                db.execute("ROLLBACK")
    db.execute("PRAGMA legacy_alter_table = OFF")


def _upgrade(db: Db) -> None:
    for name in OLD_INDICES:
        db.execute(f"DROP INDEX {name}")
    for name in ("job", "shape", "offer"):
        db.execute(ASIDE.format(name))
    _run(db, schema.MATCHING + schema.JOB)
    for number, digest, body in db.execute(SHAPES).fetchall():
        shape = from_plain(Shape, json.loads(body))
        row = (number, digest, shape.owner, weight(shape.needs), body)
        db.execute("INSERT INTO shape (shape, digest, owner, weight, body) VALUES (?, ?, ?, ?, ?)", row)
    for job, spec, priority, added in db.execute("SELECT job, spec, priority, added FROM old_job"):
        template, own = _divided(db, spec)
        db.execute(COPY, (template, own, place(added, priority), job))
    _run(db, COUNTED + schema.INDICES)


def _divided(db: Db, text: str) -> tuple[int, str | None]:
    """Template and own part of an old description; one that cannot be read stays so, and its job will say it."""
    try:
        plain = json.loads(text)
        after = plain.get("after", [])
        return keep_template(db, json.dumps(common(plain), separators=COMPACT)), own_part(after=after)
    except (ValueError, AttributeError, RecursionError):
        return keep_template(db, text), None


def _run(db: Db, script: str) -> None:
    """Statement by statement: `executescript` would end the transaction first."""
    statement = ""
    for part in script.split(";"):
        statement += part + ";"
        if sqlite3.complete_statement(statement):
            if statement.strip(" \n;"):
                db.execute(statement)
            statement = ""
