"""Claiming: many requests, one transaction; per request the job whose turn it is among those that fit."""

import json
import sqlite3
from bisect import insort
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from pilot.core.reporting import clean
from pilot.core.turns import Given, Use, turn
from pilot.model.capability import Offer
from pilot.model.faults import Code, fault
from pilot.model.files import Resume
from pilot.model.job import Grant, Verdict
from pilot.model.plain import PlainError, from_plain
from pilot.model.queue import QueueSettings, QueueState
from pilot.ports import ClaimRequest
from pilot.queue import fate
from pilot.queue.lanes import Lane, Lanes
from pilot.queue.reservations import Ask, Reservations
from pilot.queue.shapes import Fitting
from pilot.queue.templates import Templates

Db = sqlite3.Connection
Fits = Callable[[int], bool]

TAKE = """
UPDATE job SET state = 'granted', attempt = attempt + 1, lease_until = ?, pilot = ?, command = '' WHERE job = ?
RETURNING job, job_id, name, attempt, owner, template, own, resume
"""
SELECT = "SELECT job, job_id, name, attempt, owner, template, own, resume FROM job WHERE job = ?"
NOTE = "INSERT INTO granted (claim_id, job, attempt, pilot, state, granted) VALUES (?, ?, ?, ?, 'leased', ?)"
KNOWN = "SELECT claim_id FROM granted WHERE claim_id IN (SELECT value FROM json_each(?))"
GIVEN = "INSERT INTO given VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET grants = excluded.grants, late = excluded.late"
CHOICES_PER_GRANT = 100  # rows that no pilot can read are ended and passed over; so many in a row are enough for once


@dataclass(slots=True)
class Memory:
    """What a server remembers from claim to claim: lanes, what fits, descriptions, reservations."""

    lanes: Lanes
    fitting: Fitting
    templates: Templates
    reservations: Reservations

    def forget(self) -> None:
        """A transaction was undone: what it had put into the memory goes."""
        self.lanes.forget()

    def refresh(self, db: Db) -> None:
        """Reads what has changed."""
        for shape in self.lanes.refresh(db):
            self.fitting.load(db, shape)
        self.reservations.refresh(db)


@dataclass(slots=True)
class Round:
    """One call of claim inside its transaction; `given` counts the queue's grants, `turns` are the owners in order."""

    db: Db
    queue: QueueSettings
    now: float
    memory: Memory
    uses: dict[str, Use]
    given: Given
    turns: list[tuple[float, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        owners = [each for each in self.memory.lanes.heads if self._may_run(each)]
        self.turns = sorted((turn(self.uses.get(each, Use()), self.now), each) for each in owners)

    def _may_run(self, owner: str) -> bool:
        state = self.queue.state
        return state is QueueState.ONLINE or (state is QueueState.TEST and owner == self.queue.owner)

    @property
    def lease_until(self) -> float:
        """When a lease given now runs out."""
        return self.now + self.queue.lease_seconds

    def choose(self, offer: Offer, fits: Fits) -> tuple[Lane | None, bool]:
        """The lane whose turn it is, for that offer; and whether it is because it was overdue."""
        kept_for = self.memory.reservations.shape_for(offer.pilot_id)
        if kept_for:
            lane = self.memory.lanes.lanes.get(kept_for)
            return lane if lane is not None and self._may_run(lane.owner) and fits(kept_for) else None, False
        late = self._overdue(fits) if self.given.late_turn else None
        return late or next(self._in_order(fits), None), late is not None

    def _overdue(self, fits: Fits) -> Lane | None:
        late = self.memory.lanes.late(self.now)
        return next((each for each in late if self._may_run(each.owner) and fits(each.shape)), None)

    def _in_order(self, fits: Fits) -> Iterator[Lane]:
        lanes = self.memory.lanes
        for _, owner in self.turns:
            for head in lanes.heads.get(owner, ()):
                if fits(head[2]):
                    yield lanes.lanes[head[2]]

    def count(self, lane: Lane, late: bool) -> None:
        """The grant counts at once: the next owner's turn comes nearer."""
        self.given = self.given.after(late)
        use = self.uses.get(lane.owner, Use())
        self.uses[lane.owner] = replace(use, running=use.running + lane.weight)
        self.turns.remove((turn(use, self.now), lane.owner))

    def in_turn(self, owner: str) -> None:
        """The owner has more to be given out, perhaps: at the new place among the others."""
        if owner in self.memory.lanes.heads:
            insort(self.turns, (turn(self.uses[owner], self.now), owner))

    def note(self) -> None:
        """Writes down what was given, if anything was."""
        if self.memory.lanes.note_served(self.db):
            self.db.execute(GIVEN, (self.queue.name, self.given.grants, self.given.late))


def known_claims(db: Db, requests: Sequence[ClaimRequest]) -> set[str]:
    """Which of the claim ids have been seen before."""
    ids = json.dumps([each.claim_id for each in requests])
    return {row[0] for row in db.execute(KNOWN, (ids,))}


def anything(turn_: Round, requests: Sequence[ClaimRequest]) -> bool:
    """Whether these requests would change anything."""
    kept, lanes = turn_.memory.reservations, turn_.memory.lanes
    if known_claims(turn_.db, requests) or kept.over(turn_.db, lanes, turn_.now):
        return True
    for offer in dict.fromkeys(each.offer for each in requests):
        fits = turn_.memory.fitting.of(offer)
        if turn_.choose(offer, fits)[0] is not None or kept.wanted(turn_.db, lanes, Ask(offer, fits, turn_.now)):
            return True
    return False


def claim_all(turn_: Round, requests: Sequence[ClaimRequest]) -> list[Grant | None]:
    """One answer per request, in order."""
    known = known_claims(turn_.db, requests)
    seen: dict[int, Fits] = {}
    answers: list[Grant | None] = []
    for each in requests:
        if each.claim_id in known:
            answers.append(_again(turn_, each.claim_id))
            continue
        fits = seen.get(id(each.offer))
        if fits is None:
            fits = seen[id(each.offer)] = _begin(turn_, each.offer)
        grant = _claim(turn_, each, fits)
        answers.append(grant)
        if grant is not None:
            known.add(each.claim_id)
    turn_.note()
    return answers


def _begin(turn_: Round, offer: Offer) -> Fits:
    """What the offer fits; a pilot that should be kept free for a big job is, from now on."""
    fits = turn_.memory.fitting.of(offer)
    kept = turn_.memory.reservations
    if not kept.shape_for(offer.pilot_id):
        shape = kept.wanted(turn_.db, turn_.memory.lanes, Ask(offer, fits, turn_.now))
        if shape:
            kept.make(turn_.db, shape, offer.pilot_id, turn_.now)
    return fits


def grant_of(db: Db, queue: QueueSettings, templates: Templates, job: int) -> Grant:
    """The job's newest attempt as its pilot is told."""
    return _grant(db, db.execute(SELECT, (job,)).fetchone(), queue, templates)


def _again(turn_: Round, claim_id: str) -> Grant | None:
    """The same grant while its lease holds; a claim id that is spent is spent for ever."""
    attempt = fate.attempt_of_claim(turn_.db, claim_id)
    if attempt is None or not attempt.alive or attempt.state != fate.LEASED:
        return None
    fate.extend(turn_.db, attempt, turn_.lease_until)
    return grant_of(turn_.db, turn_.queue, turn_.memory.templates, attempt.job)


def _claim(turn_: Round, request: ClaimRequest, fits: Fits) -> Grant | None:
    for _ in range(CHOICES_PER_GRANT):
        lane, late = turn_.choose(request.offer, fits)
        if lane is None:
            return None
        turn_.count(lane, late)
        grant = _take(turn_, lane, request)
        if grant is not None:
            return grant
    return None


def _take(turn_: Round, lane: Lane, request: ClaimRequest) -> Grant | None:
    """The lane's next job; None for a row that no pilot can read, which fails so that nobody waits behind it."""
    db, pilot, job = turn_.db, request.offer.pilot_id, lane.head[1]
    row = db.execute(TAKE, (turn_.lease_until, pilot, job)).fetchone()
    turn_.memory.lanes.served(db, lane.shape, turn_.now)
    turn_.in_turn(lane.owner)
    try:
        grant = _grant(db, row, turn_.queue, turn_.memory.templates)
    except (ValueError, RecursionError) as problem:
        detail = f"the queue's copy of the job cannot be read: {clean(str(problem))[:200]}"
        fate.finish(db, job, Verdict.FAILED, fault(Code.JOB_INVALID, detail), turn_.now)
        return None
    db.execute(NOTE, (request.claim_id, job, grant.attempt, pilot, turn_.now))
    if turn_.memory.reservations.shape_for(pilot) == lane.shape:
        turn_.memory.reservations.end(db, lane.shape)
    return grant


def _grant(db: Db, row: sqlite3.Row, queue: QueueSettings, templates: Templates) -> Grant:
    spec = templates.spec(db, row)
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
