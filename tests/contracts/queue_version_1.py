"""A queue file as version 1 made it, a job in every state; and what must be in it once it was brought up to date."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

from pilot.adapters.matcher_classad import ClassAdMatcher
from pilot.core.matching import shape_of
from pilot.model.job import JobSpec, Needs
from pilot.model.plain import to_plain
from pilot.ports import Beat
from pilot.queue.local import LocalServer
from pilot.queue.schema import APPLICATION_ID, VERSION
from pilot.queue.store import open_store
from pilot.queue.users import LocalQueue
from tests.contracts.server_beds import ask, offer

TABLES = """
CREATE TABLE queue (
    name TEXT PRIMARY KEY,
    owner TEXT NOT NULL,
    state TEXT NOT NULL,
    destination TEXT NOT NULL,
    lease_seconds REAL NOT NULL,
    poll_seconds REAL NOT NULL
) STRICT;

CREATE TABLE shape (
    shape INTEGER PRIMARY KEY,
    digest TEXT NOT NULL UNIQUE,
    body TEXT NOT NULL
) STRICT;

CREATE TABLE job (
    job INTEGER PRIMARY KEY,
    job_id TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    owner TEXT NOT NULL,
    queue TEXT NOT NULL REFERENCES queue (name),
    shape INTEGER NOT NULL REFERENCES shape (shape),
    spec TEXT NOT NULL,
    priority INTEGER NOT NULL,
    attempts INTEGER NOT NULL,
    max_interruptions INTEGER NOT NULL,
    state TEXT NOT NULL,
    held INTEGER NOT NULL DEFAULT 0,
    blockers INTEGER NOT NULL DEFAULT 0,
    not_before REAL,
    attempt INTEGER NOT NULL DEFAULT 0,
    failures INTEGER NOT NULL DEFAULT 0,
    interruptions INTEGER NOT NULL DEFAULT 0,
    lease_until REAL,
    pilot TEXT NOT NULL DEFAULT '',
    command TEXT NOT NULL DEFAULT '',
    verdict TEXT NOT NULL DEFAULT '',
    fault TEXT,
    resume TEXT,
    added REAL NOT NULL,
    ended REAL
) STRICT;
CREATE INDEX claimable ON job (queue, shape, priority DESC, job)
    WHERE state = 'waiting' AND blockers = 0 AND not_before IS NULL;
CREATE INDEX leased ON job (lease_until) WHERE state = 'granted';
CREATE INDEX delayed ON job (not_before) WHERE not_before IS NOT NULL;
CREATE INDEX named ON job (name);
CREATE INDEX in_state ON job (state, job);

CREATE TABLE granted (
    claim_id TEXT PRIMARY KEY,
    job INTEGER REFERENCES job (job),
    attempt INTEGER,
    pilot TEXT NOT NULL DEFAULT '',
    state TEXT NOT NULL,
    phase TEXT NOT NULL DEFAULT '',
    progress TEXT NOT NULL DEFAULT '',
    granted REAL NOT NULL,
    UNIQUE (job, attempt)
) STRICT, WITHOUT ROWID;

CREATE TABLE offer (
    pilot TEXT PRIMARY KEY,
    host TEXT NOT NULL,
    body TEXT NOT NULL,
    seen REAL NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE report (
    job INTEGER NOT NULL REFERENCES job (job),
    attempt INTEGER NOT NULL,
    body TEXT NOT NULL,
    received REAL NOT NULL,
    PRIMARY KEY (job, attempt)
) STRICT, WITHOUT ROWID;

CREATE TABLE code (
    sha256 TEXT PRIMARY KEY,
    archive BLOB NOT NULL
) STRICT;

CREATE TABLE edge (
    job INTEGER NOT NULL REFERENCES job (job),
    after INTEGER NOT NULL REFERENCES job (job),
    PRIMARY KEY (after, job)
) STRICT, WITHOUT ROWID;
CREATE INDEX edge_of ON edge (job);
"""
JOB = """
INSERT INTO job (job, job_id, name, owner, queue, shape, spec, priority, attempts, max_interruptions, state, blockers,
    attempt, lease_until, pilot, verdict, added, ended)
VALUES (?, ?, ?, ?, 'default', ?, ?, ?, 3, 100, ?, ?, ?, ?, ?, ?, 1000.0, ?)
"""
NAMES = ("waits", "runs", "done", "held", "after", "broken")
FAR = 4e9  # a lease that does not run out


def write_version_1(path: Path) -> None:
    """The file, as the first pilots left it."""
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        db.executescript(f"PRAGMA journal_mode = wal; BEGIN; {TABLES}")
        db.execute("INSERT INTO queue VALUES ('default', 'owner', 'online', 'file:///out', 60.0, 0.25)")
        _jobs(db)
        db.execute("INSERT INTO granted VALUES ('c2', 2, 1, 'p1', 'leased', 'running', '', 1000.0)")
        db.execute("INSERT INTO granted VALUES ('c3', 3, 1, 'p1', 'reported', '', '', 1000.0)")
        db.execute("INSERT INTO report VALUES (3, 1, ?, 1001.0)", (json.dumps(REPORT),))
        db.execute("INSERT INTO edge VALUES (5, 1)")
        db.execute("INSERT INTO offer VALUES ('p1', 'node', ?, 1000.0)", (json.dumps(to_plain(offer())),))
        db.execute("PRAGMA user_version = 1")
        db.execute("COMMIT")


REPORT = {"job_id": "done", "attempt": 1, "name": "done", "verdict": "succeeded", "started": "", "ended": ""}


def _jobs(db: sqlite3.Connection) -> None:
    for number, name in enumerate(NAMES, 1):
        spec = _spec(name)
        shape = json.dumps(to_plain(shape_of(spec, "ada")), sort_keys=True)
        db.execute("INSERT OR IGNORE INTO shape (digest, body) VALUES (?, ?)", (shape, shape))
        (shape_number,) = db.execute("SELECT shape FROM shape WHERE digest = ?", (shape,)).fetchone()
        text = "{" if name == "broken" else json.dumps(to_plain(spec))
        state = {"runs": "granted", "done": "done", "held": "held"}.get(name, "waiting")
        ran = name in ("runs", "done")
        lease = FAR if name == "runs" else None
        verdict, ended = ("succeeded", 1001.0) if name == "done" else ("", None)
        pilot = "p1" if ran else ""
        row = (number, name, name, "ada", shape_number, text, spec.priority, state, int(name == "after"))
        db.execute(JOB, (*row, int(ran), lease, pilot, verdict, ended))


def _spec(name: str) -> JobSpec:
    after = ("waits",) if name == "after" else ()
    more = 5 if name == "waits" else 0
    return JobSpec(name, ("true",), "ml-base", environment=(("N", "1"),), needs=(Needs(2),), priority=more, after=after)


def check_version_1(path: Path) -> None:
    """All of it is there, counted right, and goes on as if nothing had been."""
    store = open_store(path)
    assert store.problems() == ()
    with store.reading() as db:
        assert db.execute("PRAGMA user_version").fetchone()[0] == VERSION
        left = {row[0] for row in db.execute("SELECT name FROM sqlite_schema WHERE name LIKE 'old%'")}
        assert left == set()
    user, pilot = LocalQueue(store, ClassAdMatcher(), "ada"), LocalServer(store, ClassAdMatcher())
    assert [each.name for each in user.find()] == list(NAMES)
    for name in NAMES[:-1]:
        assert user.show(name).spec == _spec(name)
    assert [each.verdict for each in user.results("done")] == ["succeeded"]
    (reply,) = pilot.renew([Beat("runs", 1, "running")])
    assert reply.ours
    again = pilot.claim(ask("c3"))
    assert list(again) == [None]
    _claim(store.path, pilot)
    assert store.problems() == ()
    store.close()


def _claim(path: Path, pilot: LocalServer) -> None:
    """The first time: the job that waited is granted, the broken one fails; the second time it is the same grant."""
    grants = pilot.claim(ask("n1", "n2"))
    assert [each and each.spec for each in grants] == [_spec("waits"), None], path
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("SELECT state, verdict FROM job WHERE name = 'broken'").fetchone() == ("done", "failed")
