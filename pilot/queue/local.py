"""The queue in process, as a pilot uses it: the `Server` port over one SQLite file.

Leases are kept in wall-clock time, because pilots of several processes and lives share the file. A clock that
jumps forward lets leases run out early: jobs are run twice, and the attempt number still lets only one report
count. A clock that jumps back keeps the jobs of a dead pilot for as much longer.
"""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from pilot.core.attempts import after_report, after_return
from pilot.failpoints import effect
from pilot.model.capability import Offer
from pilot.model.faults import Code
from pilot.model.files import CodePack
from pilot.model.job import Grant
from pilot.model.plain import to_plain
from pilot.model.queue import QueueSettings, QueueState
from pilot.model.report import Report
from pilot.ports import Beat, BeatReply, ClaimRequest, Final, Matcher, Registration, Unclaim
from pilot.queue import fate
from pilot.queue.claims import Fits, Round, any_known, claim_all
from pilot.queue.fate import Db
from pilot.queue.settings import DEFAULT_QUEUE, read_settings
from pilot.queue.shapes import Fitting, waiting_shapes
from pilot.queue.store import Store

OFFER_AGAIN_SECONDS = 60.0  # an offer that has not changed is noted again after that time, for `explain`
OFFERS_KEPT_SECONDS = 7 * 86400.0

NOTE_OFFER = "INSERT OR REPLACE INTO offer (pilot, host, body, seen) VALUES (?, ?, ?, ?)"
NOTE_REPORT = "INSERT INTO report (job, attempt, body, received) VALUES (?, ?, ?, ?)"
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
        self._fitting = Fitting(matcher)
        self._noted: dict[str, tuple[Offer, float]] = {}  # by pilot: the offer last noted, and when
        self._seen = -1  # the file's version at the last claim
        self._due: float | None = None  # when a lease or a wait runs out next
        self._stirred = True  # we ourselves changed what a claim may find

    def register(self, offer: Offer) -> Registration:
        """Makes the pilot known, with what it offers."""
        now = self._wall()
        with effect("queue.register"), self._store.writing() as db:
            db.execute("DELETE FROM offer WHERE seen < ?", (now - OFFERS_KEPT_SECONDS,))
            _note(db, offer, now)
            queue = read_settings(db, self._name)
        self._noted[offer.pilot_id] = (replace(offer, seconds=0.0), now)
        return Registration(queue.lease_seconds, queue.poll_seconds, queue.state)

    def claim(self, requests: Sequence[ClaimRequest]) -> Sequence[Grant | None]:
        """Matches in a snapshot, without holding anybody up; then grants all requests in one transaction."""
        now = self._wall()
        self._stirred, self._seen = False, self._store.version()
        fresh = self._fresh_offers([each.offer for each in requests], now)
        fits, busy = self._match(requests, now)
        if not (busy or fresh):
            return [None] * len(requests)
        with effect("queue.claim"), self._store.writing() as db:
            for offer in fresh:
                _note(db, offer, now)
            answers = self._grant(db, requests, fits, now)
        self._noted.update({offer.pilot_id: (replace(offer, seconds=0.0), now) for offer in fresh})
        self._stirred = any(answers)
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

    def _match(self, requests: Sequence[ClaimRequest], now: float) -> tuple[Fits, bool]:
        """Which shapes each offer fits, and whether there is anything to be written."""
        with self._store.reading() as db:
            queue = read_settings(db, self._name)
            shapes = waiting_shapes(db, self._name, now) if _gives(queue) else set()
            self._fitting.load(db, shapes)
            known = any_known(db, requests)
            self._due = fate.next_due(db)
        owner = queue.owner if queue.state is QueueState.TEST else ""
        fits = {offer: self._fitting.fitting(shapes, offer, owner) for offer in {each.offer for each in requests}}
        return fits, known or any(fits.values())

    def _grant(self, db: Db, requests: Sequence[ClaimRequest], fits: Fits, now: float) -> list[Grant | None]:
        queue = read_settings(db, self._name)
        self.expired += fate.expire(db, now)
        answers = claim_all(Round(db, queue, now, fits if _gives(queue) else {}), requests)
        self._due = fate.next_due(db)
        return answers

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


def _gives(queue: QueueSettings) -> bool:
    return queue.state in (QueueState.ONLINE, QueueState.TEST)


def _note(db: Db, offer: Offer, now: float) -> None:
    db.execute(NOTE_OFFER, (offer.pilot_id, offer.host, json.dumps(to_plain(offer)), now))


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
