"""The tables of the queue file.

A job is one row; a grant is one row and is never deleted, because its claim id must stay known: given back or
expired, it is never granted again. Times are UTC seconds since the epoch. `blockers` counts predecessors that are
not done; `not_before` holds a job back after a failure that was not its own. Jobs that ask the same are of one
*shape*: matching looks at shapes, and the index `claimable` leads from a shape to its next job.
"""

VERSION = 1
APPLICATION_ID = 0x4D4C4750  # "MLGP": what `file` and we ourselves tell such a file by

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
