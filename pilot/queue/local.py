"""The queue in process, as a pilot uses it: the `Server` port over one SQLite file.

Leases are kept in wall-clock time, because pilots of several processes and lives share the file. A clock that
jumps forward lets leases run out early: jobs are run twice, and the attempt number still lets only one report
count. A clock that jumps back keeps the jobs of a dead pilot for as much longer.
"""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from pilot.core.attempts import after_report, after_return
from pilot.core.turns import Given
from pilot.failpoints import effect
from pilot.model.capability import Offer
from pilot.model.faults import Code
from pilot.model.files import CodePack
from pilot.model.job import Grant
from pilot.model.plain import to_plain
from pilot.model.queue import QueueSettings
from pilot.model.report import Report
from pilot.ports import Beat, BeatReply, ClaimRequest, Final, Matcher, Registration, Unclaim
from pilot.queue import fate
from pilot.queue.claims import Memory, Round, anything, claim_all
from pilot.queue.fate import Db
from pilot.queue.lanes import Lanes
from pilot.queue.offers import forget_old, note_offer
from pilot.queue.reservations import Reservations
from pilot.queue.settings import DEFAULT_QUEUE, read_settings
from pilot.queue.shapes import Fitting
from pilot.queue.shares import uses
from pilot.queue.store import Store
from pilot.queue.templates import Templates

OFFER_AGAIN_SECONDS = 60.0  # an offer that has not changed is noted again after that time, for `explain`

NOTE_REPORT = "INSERT INTO report (job, attempt, body, received) VALUES (?, ?, ?, ?)"
GIVEN = "SELECT grants, late FROM given WHERE queue = ?"
OWNERS = "SELECT job_id, owner FROM job WHERE job_id IN (SELECT value FROM json_each(?))"
TOMBSTONE = "INSERT OR IGNORE INTO granted (claim_id, state, granted) VALUES (?, 'returned', ?)"


class LocalServer:
    """The embedded queue as one pilot uses it."""

    def __init__(
        self, store: Store, matcher: Matcher, name: str = DEFAULT_QUEUE, wall: Callable[[], float] = time.time
    ) -> None:
        self.expired = 0  # leases that ran out and were found so here
        self._store = store
        self._name = name
        self._wall = wall
        fitting = Fitting(matcher)
        self._memory = Memory(Lanes(name), fitting, Templates(), Reservations(name, fitting))
        self._plenty = False  # every request of the last claim was granted: there is probably more
        self._noted: dict[str, tuple[Offer, float]] = {}  # by pilot: the offer last noted, and when
        self._seen = -1  # the file's version at the last claim
        self._due: float | None = None  # when a lease or a wait runs out next
        self._stirred = True  # we ourselves changed what a claim may find

    def register(self, offer: Offer) -> Registration:
        """Makes the pilot known, with what it offers."""
        now = self._wall()
        with effect("queue.register"), self._store.writing() as db:
            forget_old(db, now)
            note_offer(db, offer, now)
            queue = read_settings(db, self._name)
        self._noted[offer.pilot_id] = (replace(offer, seconds=0.0), now)
        return Registration(queue.lease_seconds, queue.poll_seconds, queue.state)

    def claim(self, requests: Sequence[ClaimRequest]) -> Sequence[Grant | None]:
        """Looks in a snapshot, without holding anybody up, unless there was plenty; then grants in one transaction."""
        now = self._wall()
        self._stirred, self._seen = False, self._store.version()
        fresh = self._fresh_offers([each.offer for each in requests], now)
        if not (fresh or self._plenty or self._look(requests, now)):
            return [None] * len(requests)
        self._plenty = False
        with effect("queue.claim"), self._remembering() as db:
            for offer in fresh:
                note_offer(db, offer, now)
            answers = self._grant(db, requests, now)
        self._noted.update({offer.pilot_id: (replace(offer, seconds=0.0), now) for offer in fresh})
        self._stirred = any(answers)
        self._plenty = all(answers)
        return answers

    def changed(self, patience: float = 0.0) -> bool:
        """Whether somebody has written since the last claim, or a lease has run out."""
        due = self._due is not None and self._wall() >= self._due
        return self._stirred or due or self._store.version() != self._seen

    def renew(self, beats: Sequence[Beat]) -> Sequence[BeatReply]:
        """Renews leases and brings commands."""
        with effect("queue.renew"), self._store.writing() as db:
            queue = read_settings(db, self._name)
            return [self._renew(db, queue, beat) for beat in beats]

    def report(self, reports: Sequence[Report]) -> Sequence[bool]:
        """True = recorded (or was already); False = refused, the attempt is no longer ours."""
        with effect("queue.report"), self._store.writing() as db:
            answers = [_record(db, each, self._wall()) for each in reports]
        self._stirred = True
        return answers

    def give_back(self, claims: Sequence[Unclaim]) -> None:
        """Returns claims by their id; one that never arrived is remembered, so that it is not granted late."""
        with effect("queue.give-back"), self._store.writing() as db:
            for each in claims:
                _give_back(db, each.claim_id, self._wall())
        self._stirred = True

    def adopt(self, pilot_id: str, attempts: Sequence[Beat]) -> Sequence[BeatReply]:
        """Gives parked attempts again, under their own number, unless somebody else has had the job since."""
        with effect("queue.adopt"), self._store.writing() as db:
            queue = read_settings(db, self._name)
            answers = [self._adopt(db, queue, pilot_id, each) for each in attempts]
        self._stirred = True
        return answers

    def code(self, pack: CodePack) -> bytes:
        """The archive of a job's own code; the caller verifies it."""
        with self._store.reading() as db:
            row = db.execute("SELECT archive FROM code WHERE sha256 = ?", (pack.sha256,)).fetchone()
        if row is None:
            raise Final(Code.SERVER_REFUSED, f"the queue holds no code archive {pack.sha256}")
        return bytes(row["archive"])

    def owners(self, job_ids: Sequence[str]) -> dict[str, str]:
        """Whose jobs these are."""
        if not job_ids:
            return {}
        with self._store.reading() as db:
            return {row["job_id"]: row["owner"] for row in db.execute(OWNERS, (json.dumps(list(job_ids)),))}

    def close(self) -> None:
        """Lets go of the file."""
        self._store.close()

    # --- inside claim ---

    def _fresh_offers(self, offers: Sequence[Offer], now: float) -> list[Offer]:
        """Offers that changed since they were noted, or were noted long ago; the last one of each pilot."""
        latest = {offer.pilot_id: offer for offer in offers}
        return [each for each in latest.values() if not self._is_noted(each, now)]

    def _is_noted(self, offer: Offer, now: float) -> bool:
        before, at = self._noted.get(offer.pilot_id, (None, 0.0))
        return before == replace(offer, seconds=0.0) and now - at < OFFER_AGAIN_SECONDS

    @contextmanager
    def _remembering(self) -> Iterator[Db]:
        """A transaction; what it put into the memory is forgotten if it is undone."""
        kept = False
        try:
            with self._store.writing() as db:
                yield db
            kept = True
        finally:
            if not kept:
                self._memory.forget()

    def _look(self, requests: Sequence[ClaimRequest], now: float) -> bool:
        """Whether there is anything to be written."""
        with self._store.reading() as db:
            self._memory.refresh(db)
            self._due = fate.next_due(db)
            overdue = self._due is not None and self._due <= now
            return overdue or anything(self._round(db, now), requests)

    def _grant(self, db: Db, requests: Sequence[ClaimRequest], now: float) -> list[Grant | None]:
        self.expired += fate.expire(db, now)
        self._memory.refresh(db)
        self._memory.reservations.end_old(db, self._memory.lanes, now)
        answers = claim_all(self._round(db, now), requests)
        self._due = fate.next_due(db)
        return answers

    def _round(self, db: Db, now: float) -> Round:
        row = db.execute(GIVEN, (self._name,)).fetchone()
        given = Given(row["grants"], row["late"]) if row else Given()
        return Round(db, read_settings(db, self._name), now, self._memory, uses(db, self._name), given)

    # --- inside renew and adopt ---

    def _renew(self, db: Db, queue: QueueSettings, beat: Beat) -> BeatReply:
        attempt = fate.attempt_of(db, beat.job_id, beat.attempt)
        if attempt is None or not attempt.alive:
            return BeatReply(beat.job_id, beat.attempt, ours=False)
        fate.extend(db, attempt, self._wall() + queue.lease_seconds)
        fate.note_life(db, attempt, beat.phase, beat.progress)
        return BeatReply(beat.job_id, beat.attempt, True, queue.lease_seconds, attempt.command)

    def _adopt(self, db: Db, queue: QueueSettings, pilot_id: str, beat: Beat) -> BeatReply:
        attempt = fate.attempt_of(db, beat.job_id, beat.attempt)
        if attempt is None or not attempt.alive:
            return BeatReply(beat.job_id, beat.attempt, ours=False)
        fate.extend(db, attempt, self._wall() + queue.lease_seconds)
        fate.hand_over(db, attempt, pilot_id)
        return BeatReply(beat.job_id, beat.attempt, True, queue.lease_seconds)


def _record(db: Db, report: Report, now: float) -> bool:
    attempt = fate.attempt_of(db, report.job_id, report.attempt)
    if attempt is None:
        return False
    if attempt.state == fate.REPORTED:
        return True
    if not attempt.alive:
        return False
    db.execute(NOTE_REPORT, (attempt.job, attempt.number, json.dumps(to_plain(report)), now))
    if report.resume is not None:
        db.execute("UPDATE job SET resume = ? WHERE job = ?", (json.dumps(to_plain(report.resume)), attempt.job))
    fate.mark(db, attempt, fate.REPORTED)
    fate.settle(db, attempt, after_report(report, fate.heard_again(attempt), attempt.command == "cancel"), now)
    return True


def _give_back(db: Db, claim_id: str, now: float) -> None:
    attempt = fate.attempt_of_claim(db, claim_id)
    if attempt is None:
        db.execute(TOMBSTONE, (claim_id, now))
    elif attempt.alive:
        fate.mark(db, attempt, fate.RETURNED)
        fate.settle(db, attempt, after_return(fate.heard_again(attempt), attempt.command == "cancel"), now)
