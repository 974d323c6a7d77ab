"""How rows of jobs move: granted, waiting again, done; and who waits for whom.

Each function changes rows inside the transaction that it is given. An attempt is *alive* while it is the job's
newest and neither reported nor given back, even when its lease has run out: until somebody else has the job, the
one who had it last may still renew, report or take it up again.
"""

import json
import sqlite3
from dataclasses import dataclass, replace

from pilot.core.attempts import Next, Patience, after_silence
from pilot.model.faults import Code, Fault, fault
from pilot.model.job import Verdict
from pilot.model.plain import to_plain
from pilot.queue.shares import Held, charge

Db = sqlite3.Connection

LEASED, EXPIRED, REPORTED, RETURNED = "leased", "expired", "reported", "returned"

_ATTEMPT = """
SELECT job.job, job_id, job.attempt = granted.attempt AS newest, granted.attempt AS number, job.state AS job_state,
    granted.state AS state, held, attempts, max_interruptions, failures, interruptions, command, job.pilot,
    job.queue, job.owner, shape.weight, granted.granted AS since
FROM granted JOIN job ON job.job = granted.job JOIN shape ON shape.shape = job.shape WHERE """
OF_JOB = _ATTEMPT + "job_id = ? AND granted.attempt = ?"
OF_CLAIM = _ATTEMPT + "claim_id = ?"
OVERDUE = _ATTEMPT + "job.state = 'granted' AND lease_until <= ? AND granted.attempt = job.attempt"


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt as its rows stand."""

    job: int
    job_id: str
    newest: bool
    number: int
    job_state: str
    state: str
    held: bool
    patience: Patience
    command: str
    pilot: str
    share: Held

    @property
    def alive(self) -> bool:
        """Whether whoever has it may still act on it."""
        return self.newest and self.job_state != "done" and self.state in (LEASED, EXPIRED)


def attempt_of(db: Db, job_id: str, number: int) -> Attempt | None:
    """That attempt, if it was ever granted."""
    row = db.execute(OF_JOB, (job_id, number)).fetchone()
    return _read(row) if row else None


def attempt_of_claim(db: Db, claim_id: str) -> Attempt | None:
    """The attempt that was granted under that claim id."""
    row = db.execute(OF_CLAIM, (claim_id,)).fetchone()
    return _read(row) if row else None


def _read(row: sqlite3.Row) -> Attempt:
    return Attempt(
        job=row["job"],
        job_id=row["job_id"],
        newest=bool(row["newest"]),
        number=row["number"],
        job_state=row["job_state"],
        state=row["state"],
        held=bool(row["held"]),
        patience=Patience(row["attempts"], row["max_interruptions"], row["failures"], row["interruptions"]),
        command=row["command"],
        pilot=row["pilot"],
        share=Held(row["queue"], row["owner"], row["weight"], row["since"]),
    )


def extend(db: Db, attempt: Attempt, lease_until: float) -> None:
    """The lease goes on; one that had run out unnoticed by others is taken up again, and no interruption."""
    interruptions = heard_again(attempt).interruptions
    db.execute(
        "UPDATE job SET state = 'granted', lease_until = ?, interruptions = ?, not_before = NULL WHERE job = ?",
        (lease_until, interruptions, attempt.job),
    )
    if attempt.state == EXPIRED:
        mark(db, attempt, LEASED)


def note_life(db: Db, attempt: Attempt, phase: str, progress: str) -> None:
    """Keeps what the pilot tells of the attempt; a checkpoint is asked for once, a cancel until it is done."""
    db.execute(
        "UPDATE granted SET phase = ?, progress = ? WHERE job = ? AND attempt = ?",
        (phase, progress, attempt.job, attempt.number),
    )
    db.execute("UPDATE job SET command = '' WHERE job = ? AND command = 'checkpoint'", (attempt.job,))


def hand_over(db: Db, attempt: Attempt, pilot: str) -> None:
    """Another pilot of the same state has the attempt now."""
    db.execute("UPDATE job SET pilot = ? WHERE job = ?", (pilot, attempt.job))
    db.execute("UPDATE granted SET pilot = ? WHERE job = ? AND attempt = ?", (pilot, attempt.job, attempt.number))


def heard_again(attempt: Attempt) -> Patience:
    """The job's patience, less the interruption that was counted when the lease ran out."""
    spent = attempt.patience.interruptions - (attempt.state == EXPIRED)
    return replace(attempt.patience, interruptions=max(spent, 0))


def mark(db: Db, attempt: Attempt, state: str) -> None:
    """Notes how the attempt stands."""
    db.execute("UPDATE granted SET state = ? WHERE job = ? AND attempt = ?", (state, attempt.job, attempt.number))


def settle(db: Db, attempt: Attempt, following: Next, now: float) -> None:
    """The attempt is over: the job waits again, or is done; what it used is charged to its owner."""
    patience = following.patience
    if attempt.state == LEASED:  # one that ran out was charged then; what is heard of again is charged from its start
        charge(db, attempt.share, now)
    db.execute(
        "UPDATE job SET failures = ?, interruptions = ? WHERE job = ?",
        (patience.failures, patience.interruptions, attempt.job),
    )
    if following.verdict is not None:
        finish(db, attempt.job, following.verdict, following.fault, now)
    else:
        db.execute(
            "UPDATE job SET state = ?, lease_until = NULL, not_before = ? WHERE job = ?",
            (
                "held" if attempt.held else "waiting",
                now + following.delay_seconds if following.delay_seconds else None,
                attempt.job,
            ),
        )


def finish(db: Db, job: int, verdict: Verdict, why: Fault | None, now: float) -> None:
    """The job is done, and so is every job that waited for its success in vain."""
    ending = [(job, verdict, why)]
    while ending:
        each, ended_as, because = ending.pop()
        if not _close(db, each, ended_as, because, now):
            continue
        if ended_as is Verdict.SUCCEEDED:
            _unblock(db, each)
        else:
            lost = fault(Code.JOB_PREDECESSOR, f"{_label(db, each)}: {ended_as}")
            ending += [(successor, Verdict.FAILED, lost) for successor in _successors(db, each)]


def _close(db: Db, job: int, verdict: Verdict, why: Fault | None, now: float) -> bool:
    """Whether the job was open until now."""
    done = db.execute(
        "UPDATE job SET state = 'done', verdict = ?, fault = ?, ended = ?, lease_until = NULL, not_before = NULL,"
        " command = '' WHERE job = ? AND state != 'done'",
        (verdict.value, json.dumps(to_plain(why)) if why else None, now, job),
    )
    return done.rowcount == 1


def _successors(db: Db, job: int) -> list[int]:
    return [row[0] for row in db.execute("SELECT job FROM edge WHERE after = ?", (job,))]


def _unblock(db: Db, job: int) -> None:
    db.execute(
        "UPDATE job SET blockers = blockers - 1 WHERE job IN (SELECT job FROM edge WHERE after = ?)",
        (job,),
    )


def _label(db: Db, job: int) -> str:
    job_id, name = db.execute("SELECT job_id, name FROM job WHERE job = ?", (job,)).fetchone()
    return f"{name} ({job_id})"


def expire(db: Db, now: float) -> int:
    """Takes back what was not renewed in time, and ends the waits that are over; says how many leases ran out."""
    overdue = db.execute(OVERDUE, (now,)).fetchall()
    for row in overdue:
        _expire_one(db, _read(row), now)
    db.execute("UPDATE job SET not_before = NULL WHERE not_before <= ?", (now,))
    return len(overdue)


def _expire_one(db: Db, attempt: Attempt, now: float) -> None:
    mark(db, attempt, EXPIRED)
    detail = f"attempt {attempt.number}: pilot {attempt.pilot or 'unknown'} was not heard of while its lease held"
    settle(db, attempt, after_silence(attempt.patience, attempt.command == "cancel", detail), now)


def begin_anew(db: Db, now: float) -> None:
    """Nobody could renew while the queue was not served: each lease begins anew, before anything is given out."""
    db.execute(
        "UPDATE job SET lease_until = max(lease_until, ? + (SELECT lease_seconds FROM queue WHERE name = job.queue))"
        " WHERE state = 'granted'",
        (now,),
    )


def next_due(db: Db) -> float | None:
    """When the next lease or wait runs out."""
    lease = db.execute("SELECT min(lease_until) FROM job WHERE state = 'granted'").fetchone()[0]
    wait = db.execute("SELECT min(not_before) FROM job WHERE not_before IS NOT NULL").fetchone()[0]
    return min((float(each) for each in (lease, wait) if each is not None), default=None)
