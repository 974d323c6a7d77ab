"""Jobs come in: all that were handed in together, or none."""

import json
import re
import secrets
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256

from pilot.core.matching import shape_of
from pilot.model.faults import Code, fault
from pilot.model.job import Verdict
from pilot.model.plain import to_plain
from pilot.model.queue import JobRow, JobState, Submission
from pilot.ports import Final, Matcher
from pilot.queue.fate import finish
from pilot.queue.order import batch_of, predecessors
from pilot.queue.shapes import shape_number

Db = sqlite3.Connection

ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,127}")  # an id becomes a directory name where outputs are stored
DIGITS = "0123456789abcdefghjkmnpqrstvwxyz"  # no i, l, o, u: ids are read aloud and typed
ID_LENGTH = 13  # 64 bits, five to a digit
CHANCE_BITS = 22  # beside 42 bits of milliseconds, which last until 2109
LARGEST_PRIORITY = 1 << 31

INSERT = """
INSERT INTO job (job_id, name, owner, queue, shape, spec, priority, attempts, max_interruptions, state, added)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 'waiting', ?)
"""
BEFORE = "SELECT job, name, state, verdict FROM job WHERE job_id = ?"


@dataclass(frozen=True, slots=True)
class Desk:
    """Where jobs are handed in: the transaction, the queue, by whom, and when."""

    db: Db
    queue: str
    owner: str
    now: float


def check(job: Submission, matcher: Matcher) -> None:
    """Refuses a job that no queue could take, whatever the job file's own check let through."""
    label = job.spec.name
    if job.job_id and not ID.fullmatch(job.job_id):
        raise Final(Code.JOB_INVALID, f"{label}: id {job.job_id!r}: letters, digits and . _ + - only, at most 128")
    if abs(job.spec.priority) >= LARGEST_PRIORITY:
        raise Final(Code.JOB_INVALID, f"{label}: priority {job.spec.priority}: too large")
    pack = job.spec.code
    if pack is not None and (sha256(job.code).hexdigest() != pack.sha256 or len(job.code) != pack.size):
        raise Final(Code.JOB_INVALID, f"{label}: the code archive is not the one that its digest names")
    if job.spec.requirements:
        matcher.check(job.spec.requirements)


def add_all(desk: Desk, jobs: Sequence[Submission]) -> list[JobRow]:
    """Puts the jobs into the queue, in order, and their code beside them."""
    numbered = _with_ids(jobs, desk.now)
    before = predecessors(batch_of(numbered), lambda job_id: _known(desk.db, job_id))
    for each in numbered:
        _insert(desk, replace(each, spec=replace(each.spec, after=before[each.job_id])))
    for job_id, wanted in before.items():
        _link(desk, job_id, wanted)
    return [JobRow(each.job_id, 0, each.spec.name, desk.owner, _state(desk.db, each.job_id)) for each in numbered]


def _with_ids(jobs: Sequence[Submission], now: float) -> list[Submission]:
    fresh = _fresh_ids(now)
    return [each if each.job_id else replace(each, job_id=next(fresh)) for each in jobs]


def _fresh_ids(now: float) -> Iterator[str]:
    """Ids that no other queue file gives either, in order of time; those of one call follow one another."""
    number = (int(now * 1000) << CHANCE_BITS) | secrets.randbits(CHANCE_BITS)
    while True:
        yield "".join(DIGITS[(number >> 5 * place) & 31] for place in reversed(range(ID_LENGTH)))
        number += 1


def _known(db: Db, job_id: str) -> bool:
    return db.execute("SELECT 1 FROM job WHERE job_id = ?", (job_id,)).fetchone() is not None


def _state(db: Db, job_id: str) -> JobState:
    return JobState(db.execute("SELECT state FROM job WHERE job_id = ?", (job_id,)).fetchone()["state"])


def _insert(desk: Desk, job: Submission) -> None:
    spec = job.spec
    if _known(desk.db, job.job_id):
        raise Final(Code.JOB_INVALID, f"{spec.name}: there is a job with the id {job.job_id} already; choose another")
    if spec.code is not None:
        desk.db.execute("INSERT OR IGNORE INTO code VALUES (?, ?)", (spec.code.sha256, job.code))
    shape = shape_number(desk.db, shape_of(spec, desk.owner))
    body = json.dumps(to_plain(spec), separators=(",", ":"))
    limits = (spec.priority, spec.attempts, spec.max_interruptions)
    desk.db.execute(INSERT, (job.job_id, spec.name, desk.owner, desk.queue, shape, body, *limits, desk.now))


def _link(desk: Desk, job_id: str, wanted: Sequence[str]) -> None:
    """Notes whom the job waits for; one that has already ended badly ends this one too."""
    if not wanted:
        return
    (job,) = desk.db.execute("SELECT job FROM job WHERE job_id = ?", (job_id,)).fetchone()
    for each in wanted:
        before = desk.db.execute(BEFORE, (each,)).fetchone()
        desk.db.execute("INSERT INTO edge (job, after) VALUES (?, ?)", (job, before["job"]))
        if before["state"] != JobState.DONE:
            desk.db.execute("UPDATE job SET blockers = blockers + 1 WHERE job = ?", (job,))
        elif before["verdict"] != Verdict.SUCCEEDED:
            lost = fault(Code.JOB_PREDECESSOR, f"{before['name']} ({each}): {before['verdict']}")
            finish(desk.db, job, Verdict.FAILED, lost, desk.now)
