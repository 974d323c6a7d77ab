"""The queue in process, as its users use it: the `Queue` port over one SQLite file."""

import json
import sqlite3
import time
from collections.abc import Callable, Iterable, Mapping, Sequence

from pilot.failpoints import effect
from pilot.model.faults import Code, Fault, fault
from pilot.model.job import Verdict
from pilot.model.plain import from_plain
from pilot.model.queue import Explanation, JobRow, JobState, JobView, QueueSettings, Submission, Sweep
from pilot.model.report import Report
from pilot.ports import Final, Matcher, Unknown
from pilot.queue import adding
from pilot.queue.explaining import explain, iso
from pilot.queue.fate import finish
from pilot.queue.rows import Desk
from pilot.queue.settings import DEFAULT_QUEUE, read_settings
from pilot.queue.store import Store
from pilot.queue.sweeping import add_rows
from pilot.queue.templates import Templates

Db = sqlite3.Connection
Change = Callable[[Db, sqlite3.Row], None]

OPEN_BEFORE = """
SELECT job_id FROM job JOIN edge ON edge.after = job.job WHERE edge.job = ? AND verdict != 'succeeded' ORDER BY job.job
"""
BY_ID = "SELECT * FROM job WHERE queue = ? AND job_id = ? AND (? = '' OR owner = ?)"
BY_NAME = "SELECT * FROM job WHERE queue = ? AND name = ? AND (? = '' OR owner = ?) ORDER BY job DESC LIMIT 6"
LIST = """
SELECT job_id, attempt, name, owner, state, verdict FROM job WHERE queue = ? AND (? = '' OR owner = ?)
"""
IN_STATE = {  # as the indices have it, where there is one: of a million jobs few run, and few are held
    each: f"{LIST} AND state = '{each.value}'" for each in JobState
}
ALL = f"{LIST} AND (? = '[]' OR state IN (SELECT value FROM json_each(?)))"  # noqa: S608 - made of constants


class LocalQueue:
    """The embedded queue as one user uses it; jobs are added under that user's name, and changed by their owner."""

    def __init__(
        self,
        store: Store,
        matcher: Matcher,
        user: str,
        name: str = DEFAULT_QUEUE,
        wall: Callable[[], float] = time.time,
        sees: str | None = None,
    ) -> None:
        self._store = store
        self._matcher = matcher
        self._user = user
        self._sees = sees  # the owner whose jobs alone are there for this user, "" = all; None = by the file's own rule
        self._name = name
        self._wall = wall

    def add(self, jobs: Sequence[Submission]) -> Sequence[JobRow]:
        """Takes all of them or none; `after` names ids, or names given in the same call."""
        for each in jobs:
            adding.check(each, self._matcher)
        with effect("queue.add"), self._store.writing() as db:
            read_settings(db, self._name)
            return adding.add_all(Desk(db, self._name, self._user, self._wall()), jobs)

    def add_sweep(self, template: Submission, parameters: Iterable[Mapping[str, str]]) -> Sweep:
        """Takes a job for each mapping, or none: `{name}` in the template stands for that parameter's value."""
        adding.check(template, self._matcher)
        with effect("queue.add-sweep"), self._store.writing() as db:
            read_settings(db, self._name)
            return add_rows(Desk(db, self._name, self._user, self._wall()), template, parameters)

    def find(
        self, states: Sequence[JobState] = (), owner: str = "", limit: int = 0, after: str = ""
    ) -> Sequence[JobRow]:
        """The jobs in those states (none given: all) of that owner, in order of arrival; those after that job's id."""
        wanted, given = json.dumps([each.value for each in states]), (self._name, owner, owner)
        text, more = (IN_STATE[states[0]], ()) if len(states) == 1 else (ALL, (wanted, wanted))
        with self._store.reading() as db:
            read_settings(db, self._name)
            place = (self._row(db, after)["job"],) if after else ()
            beyond = "AND job > ?" if after else ""
            rows = db.execute(f"{text} {beyond} ORDER BY job LIMIT ?", (*given, *more, *place, limit or -1)).fetchall()
        return [_job_row(row) for row in rows]

    def show(self, job: str) -> JobView:
        """One job in full."""
        with self._store.reading() as db:
            return _view(db, self._row(db, job))

    def results(self, job: str) -> Sequence[Report]:
        """The reports of all its attempts, the last one last."""
        with self._store.reading() as db:
            return _reports(db, self._row(db, job)["job"])

    def explain(self, job: str) -> Explanation:
        """Why it stands where it stands."""
        with self._store.reading() as db:
            return explain(db, self._row(db, job), read_settings(db, self._name), self._matcher, self._wall())

    def hold(self, jobs: Sequence[str]) -> Sequence[JobRow]:
        """Not to be given out (again) until released; what runs now runs on."""
        with effect("queue.hold"):
            return self._change(jobs, _hold)

    def release(self, jobs: Sequence[str]) -> Sequence[JobRow]:
        """May be given out again."""
        with effect("queue.release"):
            return self._change(jobs, _release)

    def cancel(self, jobs: Sequence[str]) -> Sequence[JobRow]:
        """To be ended: at once where they wait, through the heartbeat where they run."""
        with effect("queue.cancel"):
            return self._change(jobs, self._cancel)

    def checkpoint(self, jobs: Sequence[str]) -> Sequence[JobRow]:
        """Running jobs are to write a checkpoint now, through the heartbeat."""
        with effect("queue.checkpoint"):
            return self._change(jobs, _checkpoint)

    def settings(self) -> QueueSettings:
        """The queue's name, owner, state and defaults."""
        with self._store.reading() as db:
            return read_settings(db, self._name)

    def close(self) -> None:
        """Lets go of the file."""
        self._store.close()

    def _change(self, jobs: Sequence[str], change: Change) -> list[JobRow]:
        """Changes all of them or none."""
        with self._store.writing() as db:
            queue = read_settings(db, self._name)
            rows = [self._row(db, each) for each in jobs]
            for row in rows:
                self._permit(row, queue)
                change(db, row)
            return [_job_row(self._row(db, row["job_id"])) for row in rows]

    def _row(self, db: Db, job: str) -> sqlite3.Row:
        """The job of that id; else the one job of that name."""
        only = self._sees or ""
        own: list[sqlite3.Row] = db.execute(BY_ID, (self._name, job, only, only)).fetchall()
        named: list[sqlite3.Row] = own or db.execute(BY_NAME, (self._name, job, only, only)).fetchall()
        if len(named) == 1:
            return named[0]
        ids = ", ".join(each["job_id"] for each in named[:5]) + (", ..." if len(named) > 5 else "")
        several = f"several jobs are named {job!r}; give an id, the newest first: {ids}"
        problem = several if named else f"no job {job!r}; see pilot queue ls"
        raise Unknown(Code.SERVER_REFUSED, f"queue {self._name}: {problem}")

    def _permit(self, row: sqlite3.Row, queue: QueueSettings) -> None:
        """Against mistakes, not malice: whoever may write the file may do anything to it; others are not shown it."""
        if self._sees is None and self._user not in (row["owner"], queue.owner, "root"):
            raise Final(Code.STORAGE_DENIED, f"job {row['job_id']} belongs to {row['owner']}, not to {self._user}")

    def _cancel(self, db: Db, row: sqlite3.Row) -> None:
        if row["state"] == JobState.GRANTED:
            db.execute("UPDATE job SET command = 'cancel' WHERE job = ?", (row["job"],))
        else:
            why = fault(Code.JOB_CANCELLED, f"by {self._user}, before it ran")
            finish(db, row["job"], Verdict.CANCELLED, why, self._wall())


def _hold(db: Db, row: sqlite3.Row) -> None:
    db.execute("UPDATE job SET held = 1 WHERE job = ?", (row["job"],))
    db.execute("UPDATE job SET state = 'held' WHERE job = ? AND state = 'waiting'", (row["job"],))


def _release(db: Db, row: sqlite3.Row) -> None:
    db.execute("UPDATE job SET held = 0 WHERE job = ?", (row["job"],))
    db.execute("UPDATE job SET state = 'waiting' WHERE job = ? AND state = 'held'", (row["job"],))


def _checkpoint(db: Db, row: sqlite3.Row) -> None:
    db.execute(
        "UPDATE job SET command = 'checkpoint' WHERE job = ? AND state = 'granted' AND command = ''", (row["job"],)
    )


# --- reading ---


def _job_row(row: sqlite3.Row) -> JobRow:
    state = JobState(row["state"])
    return JobRow(row["job_id"], row["attempt"], row["name"], row["owner"], state, row["verdict"])


def _reports(db: Db, job: int) -> tuple[Report, ...]:
    rows = db.execute("SELECT body FROM report WHERE job = ? ORDER BY attempt", (job,))
    return tuple(from_plain(Report, json.loads(row["body"])) for row in rows)


def _view(db: Db, row: sqlite3.Row) -> JobView:
    newest = db.execute(
        "SELECT phase, progress FROM granted WHERE job = ? AND attempt = ?", (row["job"], row["attempt"])
    ).fetchone()
    return JobView(
        job=_job_row(row),
        queue=row["queue"],
        spec=Templates().spec(db, row),
        priority=row["priority"],
        failures=row["failures"],
        interruptions=row["interruptions"],
        added=iso(row["added"]),
        ended=iso(row["ended"]),
        pilot=row["pilot"],
        phase=newest["phase"] if newest and row["state"] == JobState.GRANTED else "",
        progress=newest["progress"] if newest else "",
        lease_until=iso(row["lease_until"]),
        told=row["command"],
        fault=from_plain(Fault, json.loads(row["fault"])) if row["fault"] else None,
        waits_for=tuple(each["job_id"] for each in db.execute(OPEN_BEFORE, (row["job"],))) if row["blockers"] else (),
        reports=_reports(db, row["job"]),
    )
