"""Reservations in the file: pilots that are kept free for a big job. The rule is in core/reserving."""

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass

from pilot.core.reserving import RESERVE_AFTER_SECONDS, Asker, Reservation, Waiting, lapsed, reserve
from pilot.model.capability import Offer
from pilot.queue.lanes import SERVED, Lanes
from pilot.queue.offers import whole_of
from pilot.queue.shapes import Fitting

Db = sqlite3.Connection

LIVE_SECONDS = 600.0  # a pilot whose offer was seen since then counts as one
THINK_AGAIN_SECONDS = 5.0  # for half an hour's wait that is often enough
PILOTS_REMEMBERED = 10_000
READ = "SELECT shape, pilot, since FROM reservation WHERE queue = ?"
MAKE = "INSERT OR IGNORE INTO reservation (queue, shape, pilot, since) VALUES (?, ?, ?, ?)"
END = "DELETE FROM reservation WHERE queue = ? AND shape = ?"
LIVE = "SELECT count(*) FROM offer WHERE seen >= ?"
HOLDS = "SELECT 1 FROM job WHERE state = 'granted' AND pilot = ? LIMIT 1"


@dataclass(frozen=True, slots=True)
class Ask:
    """A pilot asks at that time: its offer, and whether that fits a shape."""

    offer: Offer
    fits: Callable[[int], bool]
    now: float


class Reservations:
    """Those of one queue, as they stood when they were read last."""

    def __init__(self, queue: str, fitting: Fitting) -> None:
        self._queue = queue
        self._fitting = fitting
        self._held: tuple[Reservation, ...] = ()
        self._thought: dict[str, tuple[float, int]] = {}  # by pilot: when it was last thought over, and what came of it

    def refresh(self, db: Db) -> None:
        """Reads all of them; there are few."""
        rows = db.execute(READ, (self._queue,))
        self._held = tuple(Reservation(row["shape"], row["pilot"], row["since"]) for row in rows)

    def shape_for(self, pilot: str) -> int:
        """The shape for which that pilot is kept free, 0 = none."""
        return next((each.shape for each in self._held if each.pilot == pilot), 0)

    def end_old(self, db: Db, lanes: Lanes, now: float) -> None:
        """Ends those that are over; the lane waits anew."""
        for each in self.over(db, lanes, now):
            self.end(db, each.shape)
            db.execute(SERVED, (now, self._queue, each.shape))
            if each.shape in lanes.lanes:
                lanes.lanes[each.shape].since = now

    def over(self, db: Db, lanes: Lanes, now: float) -> list[Reservation]:
        """Those that have come to their end."""
        return [each for each in self._held if lapsed(each, each.shape in lanes.lanes, _holds(db, each.pilot), now)]

    def end(self, db: Db, shape: int) -> None:
        """The lane has no pilot of its own any more."""
        if any(each.shape == shape for each in self._held):
            db.execute(END, (self._queue, shape))
            self._held = tuple(each for each in self._held if each.shape != shape)

    def wanted(self, db: Db, lanes: Lanes, ask: Ask) -> int:
        """The shape for which the pilot that asks should be kept free, 0 = none; thought over now and then."""
        at, found = self._thought.get(ask.offer.pilot_id, (0.0, 0))
        if not 0.0 <= ask.now - at < THINK_AGAIN_SECONDS:
            found = self._wanted(db, lanes, ask)
            if len(self._thought) >= PILOTS_REMEMBERED:
                self._thought.clear()
            self._thought[ask.offer.pilot_id] = (ask.now, found)
        return found

    def _wanted(self, db: Db, lanes: Lanes, ask: Ask) -> int:
        late = [Waiting(each.shape, each.since) for each in lanes.late(ask.now)]
        if not late or ask.now - late[0].since < RESERVE_AFTER_SECONDS:
            return 0
        asker = Asker(ask.offer.pilot_id, self._fitting.of(whole_of(db, ask.offer)), ask.fits)
        pilots = db.execute(LIVE, (ask.now - LIVE_SECONDS,)).fetchone()[0]
        return reserve(asker, late, self._held, pilots, ask.now)

    def make(self, db: Db, shape: int, pilot: str, now: float) -> None:
        """The pilot is kept free for that shape."""
        self._thought[pilot] = (now, 0)
        db.execute(MAKE, (self._queue, shape, pilot, now))
        self.refresh(db)


def _holds(db: Db, pilot: str) -> bool:
    return db.execute(HOLDS, (pilot,)).fetchone() is not None
