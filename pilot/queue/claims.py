"""Claiming: many requests, one transaction; per request the first job in order among the shapes that fit."""

import json
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pilot.core.reporting import clean
from pilot.model.capability import Offer
from pilot.model.faults import Code, fault
from pilot.model.files import Resume
from pilot.model.job import Grant, JobSpec, Verdict
from pilot.model.plain import PlainError, from_plain
from pilot.model.queue import QueueSettings
from pilot.ports import ClaimRequest
from pilot.queue import fate
from pilot.queue.shapes import HEAD

Db = sqlite3.Connection
Fits = Mapping[Offer, frozenset[int]]
Head = tuple[int, int, int]  # minus priority, job, shape: the smallest is next

TAKE = """
UPDATE job SET state = 'granted', attempt = attempt + 1, lease_until = ?, pilot = ?, command = '' WHERE job = ?
RETURNING job, job_id, attempt, owner, spec, resume
"""
SELECT = "SELECT job, job_id, attempt, owner, spec, resume FROM job WHERE job = ?"
NOTE = "INSERT INTO granted (claim_id, job, attempt, pilot, state, granted) VALUES (?, ?, ?, ?, 'leased', ?)"


@dataclass(slots=True)
class Round:
    """One call of claim inside its transaction; `heads` remembers the next job of each shape."""

    db: Db
    queue: QueueSettings
    now: float
    fits: Fits
    heads: dict[int, Head | None] = field(default_factory=dict)

    @property
    def lease_until(self) -> float:
        """When a lease given now runs out."""
        return self.now + self.queue.lease_seconds


def claim_all(turn: Round, requests: Sequence[ClaimRequest]) -> list[Grant | None]:
    """One answer per request, in order."""
    return [_claim(turn, each) for each in requests]


def any_known(db: Db, requests: Sequence[ClaimRequest]) -> bool:
    """Whether one of the claim ids has been seen before."""
    return any(_is_known(db, each.claim_id) for each in requests)


def grant_of(db: Db, queue: QueueSettings, job: int) -> Grant:
    """The job's newest attempt as its pilot is told."""
    return _grant(db.execute(SELECT, (job,)).fetchone(), queue)


def _is_known(db: Db, claim_id: str) -> bool:
    return db.execute("SELECT 1 FROM granted WHERE claim_id = ?", (claim_id,)).fetchone() is not None


def _claim(turn: Round, request: ClaimRequest) -> Grant | None:
    if _is_known(turn.db, request.claim_id):
        return _again(turn, request.claim_id)
    grant = None
    while grant is None and (head := _next(turn, turn.fits.get(request.offer, frozenset()))) is not None:
        grant = _take(turn, head, request)
    return grant


def _again(turn: Round, claim_id: str) -> Grant | None:
    """The same grant while its lease holds; a claim id that is spent is spent for ever."""
    attempt = fate.attempt_of_claim(turn.db, claim_id)
    if attempt is None or not attempt.alive or attempt.state != fate.LEASED:
        return None
    fate.extend(turn.db, attempt, turn.lease_until)
    return grant_of(turn.db, turn.queue, attempt.job)


def _next(turn: Round, shapes: frozenset[int]) -> Head | None:
    heads = (_head(turn, shape) for shape in shapes)
    return min((head for head in heads if head is not None), default=None)


def _head(turn: Round, shape: int) -> Head | None:
    if shape not in turn.heads:
        row = turn.db.execute(HEAD, (turn.queue.name, shape)).fetchone()
        turn.heads[shape] = (-row["priority"], row["job"], shape) if row else None
    return turn.heads[shape]


def _take(turn: Round, head: Head, request: ClaimRequest) -> Grant | None:
    """The job of that head; None for a row that no pilot can read, which fails so that nobody waits behind it."""
    _, job, shape = head
    pilot = request.offer.pilot_id
    row = turn.db.execute(TAKE, (turn.lease_until, pilot, job)).fetchone()
    del turn.heads[shape]
    try:
        grant = _grant(row, turn.queue)
    except (ValueError, RecursionError) as problem:
        detail = f"the queue's copy of the job cannot be read: {clean(str(problem))[:200]}"
        fate.finish(turn.db, job, Verdict.FAILED, fault(Code.JOB_INVALID, detail), turn.now)
        return None
    turn.db.execute(NOTE, (request.claim_id, job, grant.attempt, pilot, turn.now))
    return grant


def _grant(row: sqlite3.Row, queue: QueueSettings) -> Grant:
    spec = from_plain(JobSpec, json.loads(row["spec"]))
    if not spec.needs or not spec.command:
        raise PlainError("needs and command may not be empty")
    return Grant(
        job_id=row["job_id"],
        attempt=row["attempt"],
        spec=spec,
        lease_seconds=queue.lease_seconds,
        owner=row["owner"],
        resume=from_plain(Resume, json.loads(row["resume"])) if row["resume"] else None,
        destination=queue.destination,
    )
