"""The tables of the queue file.

A job is one row; a grant is one row and is never deleted, because its claim id must stay known: given back or
expired, it is never granted again. Times are UTC seconds since the epoch. `blockers` counts predecessors that are
not done; `not_before` holds a job back after a failure that was not its own. What many jobs have in common is
written once, in `template`; a job's own part (`own`) is its parameters and whom it comes after.

Jobs that ask the same are of one *shape*, and those of one shape that may be given out are a *lane* of their
queue. Triggers keep each lane's number of waiting jobs, each owner's running cores and the tally of states, so that
nobody has to count, and give a lane that changed a new `stamp`, so that who remembers the lanes reads only those
that changed. `given` counts a queue's grants, and how many there were when last somebody had his turn who had waited
too long. The index `claimable` leads from a lane to its next job: by `place`, see core/turns.
"""

VERSION = 2
APPLICATION_ID = 0x4D4C4750  # "MLGP": what `file` and we ourselves tell such a file by

JOB = """
CREATE TABLE job (
    job INTEGER PRIMARY KEY,
    job_id TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    owner TEXT NOT NULL,
    queue TEXT NOT NULL REFERENCES queue (name),
    shape INTEGER NOT NULL REFERENCES shape (shape),
    template INTEGER NOT NULL REFERENCES template (template),
    own TEXT,
    priority INTEGER NOT NULL,
    place INTEGER NOT NULL,
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
"""

# What version 2 added beside the new form of `job`.
MATCHING = """
CREATE TABLE template (
    template INTEGER PRIMARY KEY,
    digest TEXT NOT NULL UNIQUE,
    body TEXT NOT NULL,
    parameters TEXT NOT NULL DEFAULT '[]'
) STRICT;

CREATE TABLE shape (
    shape INTEGER PRIMARY KEY,
    digest TEXT NOT NULL UNIQUE,
    owner TEXT NOT NULL,
    weight INTEGER NOT NULL,
    body TEXT NOT NULL
) STRICT;

CREATE TABLE lane (
    queue TEXT NOT NULL REFERENCES queue (name),
    shape INTEGER NOT NULL REFERENCES shape (shape),
    waiting INTEGER NOT NULL DEFAULT 0,
    since REAL NOT NULL,
    stamp INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (queue, shape)
) STRICT, WITHOUT ROWID;
CREATE INDEX lane_stamp ON lane (stamp);

CREATE TABLE share (
    queue TEXT NOT NULL REFERENCES queue (name),
    owner TEXT NOT NULL,
    running INTEGER NOT NULL DEFAULT 0,
    recent REAL NOT NULL DEFAULT 0,
    at REAL NOT NULL,
    PRIMARY KEY (queue, owner)
) STRICT, WITHOUT ROWID;

CREATE TABLE tally (
    queue TEXT NOT NULL REFERENCES queue (name),
    owner TEXT NOT NULL,
    state TEXT NOT NULL,
    verdict TEXT NOT NULL,
    jobs INTEGER NOT NULL,
    PRIMARY KEY (queue, owner, state, verdict)
) STRICT, WITHOUT ROWID;

CREATE TABLE given (
    queue TEXT PRIMARY KEY REFERENCES queue (name),
    grants INTEGER NOT NULL,
    late INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE reservation (
    queue TEXT NOT NULL REFERENCES queue (name),
    shape INTEGER NOT NULL REFERENCES shape (shape),
    pilot TEXT NOT NULL UNIQUE,
    since REAL NOT NULL,
    PRIMARY KEY (queue, shape)
) STRICT, WITHOUT ROWID;

CREATE TABLE offer (
    pilot TEXT PRIMARY KEY,
    host TEXT NOT NULL,
    body TEXT NOT NULL,
    whole TEXT NOT NULL,
    seen REAL NOT NULL
) STRICT, WITHOUT ROWID;
"""

# Jobs come in through `adding`, many at a time, which writes lanes and tally itself; all that follows is seen here.
INDICES = """
CREATE INDEX claimable ON job (queue, shape, place)
    WHERE state = 'waiting' AND blockers = 0 AND not_before IS NULL;
CREATE INDEX leased ON job (lease_until) WHERE state = 'granted';
CREATE INDEX delayed ON job (not_before) WHERE not_before IS NOT NULL;
CREATE INDEX set_aside ON job (job) WHERE state = 'held';
CREATE INDEX named ON job (name);

CREATE TRIGGER job_moved AFTER UPDATE OF state ON job WHEN OLD.state IS NOT NEW.state
BEGIN
    UPDATE tally SET jobs = jobs - 1
        WHERE queue = OLD.queue AND owner = OLD.owner AND state = OLD.state AND verdict = OLD.verdict;
    INSERT INTO tally VALUES (NEW.queue, NEW.owner, NEW.state, NEW.verdict, 1)
        ON CONFLICT DO UPDATE SET jobs = jobs + 1;
    UPDATE share SET running = running
            + ((NEW.state = 'granted') - (OLD.state = 'granted')) * (SELECT weight FROM shape WHERE shape = NEW.shape)
        WHERE queue = NEW.queue AND owner = NEW.owner AND 'granted' IN (OLD.state, NEW.state);
END;

CREATE TRIGGER job_claimable AFTER UPDATE OF state, blockers, not_before ON job
WHEN (OLD.state = 'waiting' AND OLD.blockers = 0 AND OLD.not_before IS NULL)
    IS NOT (NEW.state = 'waiting' AND NEW.blockers = 0 AND NEW.not_before IS NULL)
BEGIN
    UPDATE lane SET stamp = (SELECT max(stamp) FROM lane) + 1,
            waiting = waiting + iif(NEW.state = 'waiting' AND NEW.blockers = 0 AND NEW.not_before IS NULL, 1, -1)
        WHERE queue = NEW.queue AND shape = NEW.shape;
END;
"""

# Tables that are as they were in version 1.
KEPT = """
CREATE TABLE queue (
    name TEXT PRIMARY KEY,
    owner TEXT NOT NULL,
    state TEXT NOT NULL,
    destination TEXT NOT NULL,
    lease_seconds REAL NOT NULL,
    poll_seconds REAL NOT NULL
) STRICT;

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

TABLES = KEPT + MATCHING + JOB + INDICES
