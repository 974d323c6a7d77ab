"""Jobs come in: all that were handed in together, or none."""

import re
import secrets
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import replace
from hashlib import sha256

from pilot.model.faults import Code, fault
from pilot.model.job import VARIANTS_CAP, Needs, Verdict
from pilot.model.queue import JobRow, JobState, Submission
from pilot.model.rules import broken, placed
from pilot.ports import Final, Matcher
from pilot.queue.fate import finish
from pilot.queue.order import batch_of, predecessors
from pilot.queue.rows import Desk
from pilot.queue.templates import own_part

Db = sqlite3.Connection

ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,127}")  # an id becomes a directory name where outputs are stored
DIGITS = "0123456789abcdefghjkmnpqrstvwxyz"  # no i, l, o, u: ids are read aloud and typed
ID_LENGTH = 13  # 64 bits, five to a digit
PAIRS = tuple(one + other for one in DIGITS for other in DIGITS)
CHANCE_BITS = 22  # beside 42 bits of milliseconds, which last until 2109
LARGEST_PRIORITY = 1 << 31
LARGEST_FIGURE = 1 << 50  # bytes, seconds or pieces: a pebibyte, as in the job file
CONDITION_LETTERS = 64

BEFORE = "SELECT job, name, state, verdict FROM job WHERE job_id = ?"


def check(job: Submission, matcher: Matcher) -> None:
    """Refuses a job that no queue could take, whatever the job file's own check let through."""
    label = job.spec.name
    if job.job_id and not ID.fullmatch(job.job_id):
        raise Final(Code.JOB_INVALID, f"{label}: id {job.job_id!r}: letters, digits and . _ + - only, at most 128")
    if abs(job.spec.priority) >= LARGEST_PRIORITY:
        raise Final(Code.JOB_INVALID, f"{label}: priority {job.spec.priority}: too large")
    if problem := broken(job.spec) or placed(job.spec):
        raise Final(Code.JOB_INVALID, f"{label[:40]}: {problem}")
    if problem := _unsound(job.spec.needs):
        raise Final(Code.JOB_INVALID, f"{label}: needs: {problem}")
    pack = job.spec.code
    if pack is not None and (sha256(job.code).hexdigest() != pack.sha256 or len(job.code) != pack.size):
        raise Final(Code.JOB_INVALID, f"{label}: the code archive is not the one that its digest names")
    if job.spec.requirements:
        matcher.check(job.spec.requirements)


def _unsound(needs: Sequence[Needs]) -> str:
    """Why nothing could be matched with these needs; every variant costs every claim, and is shown to people."""
    if len(needs) > VARIANTS_CAP:
        return f"{len(needs)} variants; {VARIANTS_CAP} at most"
    for each in needs:
        gpus = each.gpus
        figures = (each.memory_bytes, each.scratch_bytes, each.walltime_seconds, gpus.count, gpus.memory_bytes)
        if each.cpus < 1 or not all(0 <= figure <= LARGEST_FIGURE for figure in (each.cpus, *figures)):
            return "a number below zero, no core at all, or more than any machine has"
        if max(len(gpus.capability), len(gpus.cuda)) > CONDITION_LETTERS:
            return f"a condition on the device of more than {CONDITION_LETTERS} letters"
    return ""


def add_all(desk: Desk, jobs: Sequence[Submission]) -> list[JobRow]:
    """Puts the jobs into the queue, in order, and their code beside them."""
    numbered = _with_ids(jobs, desk.now)
    before = predecessors(batch_of(numbered), lambda job_id: known(desk.db, job_id))
    for each in numbered:
        _refuse_twice(desk.db, each)
        desk.keep_code(each)
        spec = replace(each.spec, name="", after=())
        own = own_part(after=before[each.job_id])
        desk.put([(each.job_id, each.spec.name, own)], desk.batch(spec))
    desk.close()
    for job_id, wanted in before.items():
        link(desk, job_id, wanted)
    return [
        JobRow(each.job_id, 0, each.spec.name, desk.owner, _state(desk.db, each.job_id, before[each.job_id]))
        for each in numbered
    ]


def _with_ids(jobs: Sequence[Submission], now: float) -> list[Submission]:
    fresh = fresh_ids(now)
    return [each if each.job_id else replace(each, job_id=next(fresh)) for each in jobs]


def fresh_ids(now: float) -> Iterator[str]:
    """Ids that no other queue file gives either, in order of time; those of one call follow one another."""
    number = (int(now * 1000) << CHANCE_BITS) | secrets.randbits(CHANCE_BITS)
    while True:
        high, low = divmod(number, len(PAIRS))
        head = "".join(DIGITS[(high >> 5 * place) & 31] for place in reversed(range(ID_LENGTH - 2)))
        yield from (head + pair for pair in PAIRS[low:])
        number += len(PAIRS) - low


def known(db: Db, job_id: str) -> bool:
    """Whether the file holds a job of that id."""
    return db.execute("SELECT 1 FROM job WHERE job_id = ?", (job_id,)).fetchone() is not None


def _state(db: Db, job_id: str, after: Sequence[str]) -> JobState:
    """Only a job that comes after others may have ended already."""
    if not after:
        return JobState.WAITING
    return JobState(db.execute("SELECT state FROM job WHERE job_id = ?", (job_id,)).fetchone()["state"])


def _refuse_twice(db: Db, job: Submission) -> None:
    if known(db, job.job_id):
        there = f"there is a job with the id {job.job_id} already; choose another"
        raise Final(Code.JOB_INVALID, f"{job.spec.name}: {there}")


def link(desk: Desk, job_id: str, wanted: Sequence[str]) -> None:
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
