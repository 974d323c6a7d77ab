"""What the board reads from the queue file: counts by index, and never more rows than a page shows."""

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass

from pilot.model.queue import JobState

Db = sqlite3.Connection

SHAPES_SHOWN = 12
PILOTS_SHOWN = 100
NAMES_LOOKED_AT = 1000  # of names that begin with what is searched for
JOBS_SHOWN, JOBS_CAP = 25, 500
NEWEST_LOOKED_AT = 200_000  # jobs, for what no index leads to: by owner, by an end; faults of before our time

COUNTS = "SELECT owner, state, verdict, jobs FROM tally WHERE queue = ? AND jobs > 0"
HEAD = """
SELECT job FROM job AS head INDEXED BY claimable WHERE head.queue = lane.queue AND head.shape = lane.shape
    AND state = 'waiting' AND blockers = 0 AND not_before IS NULL ORDER BY place, job LIMIT 1
"""
SHAPES = f"""
SELECT lane.shape, waiting AS jobs, body, added AS oldest
FROM lane JOIN shape USING (shape) JOIN job ON job.job = ({HEAD})
WHERE lane.queue = ? AND waiting > 0 ORDER BY waiting DESC, lane.shape LIMIT {SHAPES_SHOWN}
"""  # noqa: S608 - made of constants
OFFERS = f"SELECT pilot, host, body, seen FROM offer ORDER BY seen DESC, pilot LIMIT {PILOTS_SHOWN}"  # noqa: S608
SEEN = "SELECT count(*) AS pilots, sum(seen >= ?) AS live FROM offer"
RUNNING = "SELECT pilot, count(*) AS jobs FROM job WHERE state = 'granted' AND queue = ? GROUP BY pilot"
SEEN_OF = "SELECT pilot, seen FROM offer WHERE pilot IN (SELECT value FROM json_each(?)) AND seen >= ?"
OVERDUE = "SELECT count(*) FROM job WHERE state = 'granted' AND lease_until < ? AND (? = '' OR owner = ?)"
OLDEST = f"""
SELECT ifnull(min(added), 0.0) FROM lane JOIN job ON job.job = ({HEAD}) WHERE lane.queue = ? AND waiting > 0
"""  # noqa: S608 - made of constants
OLD_FAULTS = """
SELECT job_id, name, owner, attempt, pilot, fault, ended FROM job
WHERE queue = ? AND fault IS NOT NULL AND ended < ? AND job > (SELECT ifnull(max(job), 0) FROM job) - ?
ORDER BY job DESC LIMIT ?
"""
FIELDS = """
SELECT job.job, job_id, name, owner, job.state, verdict, job.attempt, priority, added, ended, job.pilot, lease_until,
    command, blockers, not_before, granted.phase, granted.progress
FROM job LEFT JOIN granted ON granted.job = job.job AND granted.attempt = job.attempt
"""
SOME = (
    FIELDS
    + """
WHERE job.queue = ? AND (? = '' OR owner = ?) AND (? = '' OR job.state = ?) AND job.job > ?
ORDER BY job.job DESC LIMIT ?
"""
)
# The literal lets the index of that state be used: of a million jobs few run.
OF_INDEXED = {
    state: SOME.replace("WHERE", f"WHERE job.state = '{state}' AND") for state in (JobState.GRANTED, JobState.HELD)
}
NEWEST = "SELECT ifnull(max(job), 0) FROM job"
REPORTED = SOME.replace("WHERE", "WHERE job.job IN (SELECT job FROM report ORDER BY job DESC LIMIT 2000) AND")
OWNED = "SELECT 1 FROM tally WHERE queue = ? AND owner = ? LIMIT 1"
BY_ID = FIELDS + "WHERE job.queue = ? AND job_id = ?"
BY_NAME = FIELDS + "WHERE job.queue = ? AND name = ? ORDER BY job.job DESC LIMIT ?"
OF_PREFIX = "SELECT job FROM job WHERE name > ? AND name < ? ORDER BY name LIMIT ?"
BY_PREFIX = FIELDS + f"WHERE job.queue = ? AND job.job IN ({OF_PREFIX}) ORDER BY job.job DESC"
END = "\U0010ffff"  # behind every name that begins alike


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which jobs the page shows: `find` is an id, an owner, or how a name begins; `owner` limits all to one user."""

    queue: str
    find: str = ""
    state: str = ""
    owner: str = ""
    limit: int = JOBS_SHOWN


def counts(db: Db, queue: str) -> list[sqlite3.Row]:
    """How many jobs, by owner, state and verdict."""
    return db.execute(COUNTS, (queue,)).fetchall()


def jobs(db: Db, wanted: Wanted) -> list[sqlite3.Row]:
    """The jobs that are wanted: what runs, then the newest; one more than asked for where there are more."""
    found = {row["job"]: row for row in _found(db, wanted) if _shown(row, wanted)}
    return sorted(found.values(), key=lambda row: (row["state"] != "granted", -row["job"]))[: wanted.limit + 1]


def _found(db: Db, wanted: Wanted) -> Iterator[sqlite3.Row]:
    if not wanted.find:
        yield from _listed(db, wanted, wanted.owner)
        return
    most = JOBS_CAP if wanted.state or wanted.owner else wanted.limit + 1
    yield from db.execute(BY_ID, (wanted.queue, wanted.find))
    yield from db.execute(BY_NAME, (wanted.queue, wanted.find, most))
    yield from db.execute(BY_PREFIX, (wanted.queue, wanted.find, wanted.find + END, NAMES_LOOKED_AT))
    if wanted.owner in ("", wanted.find) and db.execute(OWNED, (wanted.queue, wanted.find)).fetchone():
        yield from _listed(db, wanted, wanted.find)


def _listed(db: Db, wanted: Wanted, owner: str) -> Iterator[sqlite3.Row]:
    """By owner and state: all that run or are held, of the others as far back as a page has the time to look."""
    state, most = wanted.state, wanted.limit + 1
    for each, text in OF_INDEXED.items():
        if state in ("", each):
            yield from db.execute(text, (wanted.queue, owner, owner, "", "", 0, most))
    if state == JobState.DONE:
        yield from db.execute(REPORTED, (wanted.queue, owner, owner, state, state, 0, most))
    if state not in OF_INDEXED:
        floor = db.execute(NEWEST).fetchone()[0] - NEWEST_LOOKED_AT
        yield from db.execute(SOME, (wanted.queue, owner, owner, state, state, floor, most))


def _shown(row: sqlite3.Row, wanted: Wanted) -> bool:
    return wanted.state in ("", row["state"]) and wanted.owner in ("", row["owner"])
