"""Where jobs are handed in: rows are written many at a time, and what the triggers count elsewhere is counted here."""

import sqlite3
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from pilot.core.matching import shape_of
from pilot.core.turns import place
from pilot.model.job import JobSpec
from pilot.model.queue import Submission
from pilot.queue.shapes import shape_number
from pilot.queue.shares import open_share
from pilot.queue.templates import write_template

Db = sqlite3.Connection
Own = tuple[str, str, str | None]  # id, name, own part

INSERT = """
INSERT INTO job (job_id, name, own, owner, queue, shape, template, priority, place, attempts, max_interruptions,
    state, added) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 'waiting', ?)
"""
NEW_LANE = "INSERT OR IGNORE INTO lane (queue, shape, since) VALUES (?, ?, ?)"
ARRIVED = """
UPDATE lane SET waiting = waiting + ?1, since = iif(waiting = 0, ?2, since), stamp = (SELECT max(stamp) FROM lane) + 1
WHERE queue = ?3 AND shape = ?4
"""
TALLY = """
INSERT INTO tally VALUES (?, ?, 'waiting', '', ?) ON CONFLICT DO UPDATE SET jobs = jobs + excluded.jobs
"""


@dataclass(frozen=True, slots=True)
class Batch:
    """What jobs of one description have in common: numbers of shape and template, and the row's further columns."""

    shape: int
    columns: tuple[object, ...]


@dataclass(frozen=True, slots=True)
class Desk:
    """Where jobs are handed in: the transaction, the queue, by whom, and when; `close` ends it."""

    db: Db
    queue: str
    owner: str
    now: float
    _arrived: Counter[int] = field(default_factory=Counter)
    _batches: dict[tuple[JobSpec, tuple[str, ...]], Batch] = field(default_factory=dict)

    def batch(self, spec: JobSpec, parameters: tuple[str, ...] = ()) -> Batch:
        """The description, without name and predecessors, written once."""
        found = self._batches.get((spec, parameters))
        if found is None:
            shape = shape_number(self.db, shape_of(spec, self.owner))
            template = write_template(self.db, spec, parameters)
            order = (spec.priority, place(self.now, spec.priority))
            limits = (spec.attempts, spec.max_interruptions, self.now)
            columns = (self.owner, self.queue, shape, template, *order, *limits)
            found = self._batches[(spec, parameters)] = Batch(shape, columns)
        return found

    def keep_code(self, job: Submission) -> None:
        """The archive of the job's own code, once."""
        if job.spec.code is not None:
            self.db.execute("INSERT OR IGNORE INTO code VALUES (?, ?)", (job.spec.code.sha256, job.code))

    def put(self, jobs: Iterable[Own], batch: Batch) -> int:
        """Writes rows; gives how many."""
        columns = batch.columns
        written = self.db.executemany(INSERT, ((*own, *columns) for own in jobs)).rowcount
        self._arrived[batch.shape] += written
        return written

    def close(self) -> None:
        """Tells lanes, tally and share what has arrived."""
        for shape, jobs in self._arrived.items():
            self.db.execute(NEW_LANE, (self.queue, shape, self.now))
            self.db.execute(ARRIVED, (jobs, self.now, self.queue, shape))
        self.db.execute(TALLY, (self.queue, self.owner, self._arrived.total()))
        open_share(self.db, self.queue, self.owner, self.now)
