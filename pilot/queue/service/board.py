"""The queue at a glance: what the web page shows and the gauges of `/metrics` are drawn from.

It reads through a connection of its own, never more rows than are shown, and counts again only when counting has
become cheap against the time that passed: a page over many jobs costs no pilot its turn.
"""

import json
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from pilot import __version__
from pilot.core.matching import Fit, Shape, fit
from pilot.core.reporting import clean
from pilot.model.capability import Offer
from pilot.model.queue import QueueSettings
from pilot.ports import Matcher
from pilot.queue.explaining import iso
from pilot.queue.service import tally
from pilot.queue.service.history import History, Sample
from pilot.queue.service.meter import Meter
from pilot.queue.service.views import (
    LIVE_SECONDS,
    TEXT_CAP,
    BoardView,
    FaultRow,
    PilotRow,
    ShapeRow,
    amount,
    fault_row,
    job_line,
    old_fault_row,
    owner_counts,
    pilot_row,
    read,
    sum_of,
    variants_text,
)
from pilot.queue.settings import read_settings
from pilot.queue.store import Store

COUNT_AGAIN = 50.0  # counting may take a fiftieth of the time
STALE_SECONDS = 10.0  # pilots fall silent without anybody writing
FAULTS_SHOWN = 20


@dataclass(slots=True)
class Tally:
    """What was counted last: when, how long it took, and the groups."""

    at: float = float("-inf")
    version: int = -1
    cost: float = 0.0
    groups: Sequence[sqlite3.Row] = ()
    shapes: tuple[ShapeRow, ...] = ()
    oldest: float = 0.0


@dataclass(frozen=True, slots=True)
class Seen:
    """How a board sees time: the clock, since when the service runs, which pilots have said when that they leave."""

    wall: Callable[[], float] = time.time
    started: float = 0.0
    left: Mapping[str, float] = field(default_factory=dict)


class Board:
    """One queue of a file, looked at."""

    def __init__(self, store: Store, matcher: Matcher, name: str, meter: Meter, seen: Seen = Seen()) -> None:
        self.meter = meter
        self.history = History()
        self._store = store
        self._matcher = matcher
        self._name = name
        self._wall = seen.wall
        self._left = seen.left
        self._started = seen.started or self._wall()
        self._tally = Tally()
        self._old_faults: tuple[FaultRow, ...] | None = None

    def check(self) -> None:
        """Raises in one line where the file holds no queue of that name."""
        with self._store.reading() as db:
            read_settings(db, self._name)

    def view(self, wanted: tally.Wanted) -> BoardView:
        """The board as it stands; where `wanted` names an owner, with that owner's jobs and faults alone."""
        now = self._wall()
        with self._store.reading() as db:
            queue = read_settings(db, self._name)
            pilots = self._pilots(db, now)
            self._count(db, now, queue)
            rows = tally.jobs(db, wanted)
            known, live = self._seen(db, now)
            overdue = db.execute(tally.OVERDUE, (now, wanted.owner, wanted.owner)).fetchone()[0]
            old = self._faults_of_before(db)
        faults = [*map(fault_row, self.meter.faults()), *old]
        return BoardView(
            version=__version__,
            now=iso(now),
            started=iso(self._started),
            queue=queue,
            owner=wanted.owner,
            counts=sum_of([each for each in self._tally.groups if wanted.owner in ("", each["owner"])]),
            owners=owner_counts(self._tally.groups, wanted.owner),
            shapes=tuple(each for each in self._tally.shapes if wanted.owner in ("", each.owner)),
            pilots=pilots,
            pilots_seen=known,
            pilots_live=live,
            faults=tuple(each for each in faults if wanted.owner in ("", each.owner))[:FAULTS_SHOWN],
            jobs=tuple(job_line(row, now) for row in rows[: wanted.limit]),
            more=len(rows) > wanted.limit,
            overdue=overdue,
            oldest_seconds=max(now - self._tally.oldest, 0.0) if self._tally.oldest else 0.0,
            file_bytes=self.file_bytes(),
            grants_per_second=self.history.rate(),
            samples=self.history.samples(),
        )

    def sample(self) -> None:
        """Adds this moment to the history."""
        now = self._wall()
        with self._store.reading() as db:
            self._count(db, now, read_settings(db, self._name))
        counts = sum_of(self._tally.groups)
        self.history.add(
            Sample(now, counts.waiting, counts.granted, counts.succeeded, counts.failed, self.meter.granted())
        )

    def file_bytes(self) -> int:
        """The size of the queue file, its write-ahead log included."""
        path = self._store.path
        parts = (path, path.with_name(f"{path.name}-wal"))
        return sum(each.stat().st_size for each in parts if each.exists())

    def _count(self, db: tally.Db, now: float, queue: QueueSettings) -> None:
        """Counts again where something was written, unless counting takes long and was done a short while ago."""
        began, version = time.monotonic(), int(db.execute("PRAGMA data_version").fetchone()[0])
        age, written = began - self._tally.at, version != self._tally.version
        if age < COUNT_AGAIN * self._tally.cost or (age < STALE_SECONDS and not written):
            return
        self._tally.version = version
        self._tally.groups = tally.counts(db, queue.name)
        self._tally.shapes = self._shapes(db, queue, now)
        oldest = db.execute(tally.OLDEST, (queue.name,)).fetchone()
        self._tally.oldest = oldest[0] if oldest else 0.0
        self._tally.at = time.monotonic()
        self._tally.cost = self._tally.at - began

    def _shapes(self, db: tally.Db, queue: QueueSettings, now: float) -> tuple[ShapeRow, ...]:
        live = (row for row in db.execute(tally.OFFERS) if self._is_live(row["pilot"], row["seen"], now))
        offers = [each for row in live if (each := read(Offer, row)) is not None]
        rows = db.execute(tally.SHAPES, (queue.name,)).fetchall()
        return tuple(self._shape(row, shape, offers) for row in rows if (shape := read(Shape, row)) is not None)

    def _shape(self, row: sqlite3.Row, shape: Shape, offers: Sequence[Offer]) -> ShapeRow:
        answers = [fit(shape, each, self._matcher) for each in offers]
        refusals = [each for each in answers if not isinstance(each, Fit)]
        fits = len(answers) - len(refusals)
        if fits:
            why = "waits for its turn"
        elif refusals:
            nearest = max(refusals, key=lambda each: each.depth)
            wanted, offered = (amount(nearest.attribute, each) for each in (nearest.wanted, nearest.offered))
            why = f"{nearest.clause}: wants {wanted}, the nearest offer has {offered}"
        else:
            why = "no pilot has asked lately"
        text = variants_text(shape.needs)
        oldest = iso(row["oldest"])
        return ShapeRow(row["shape"], text, shape.owner, row["jobs"], oldest, fits, len(answers), clean(why)[:TEXT_CAP])

    def _pilots(self, db: tally.Db, now: float) -> tuple[PilotRow, ...]:
        running = {row["pilot"]: row["jobs"] for row in db.execute(tally.RUNNING, (self._name,))}
        rows = db.execute(tally.OFFERS).fetchall()
        read_ones = ((row, offer) for row in rows if (offer := read(Offer, row)) is not None)
        return tuple(
            pilot_row(row, offer, jobs, jobs > 0 or self._is_live(row["pilot"], row["seen"], now))
            for row, offer in read_ones
            for jobs in (running.get(row["pilot"], 0),)
        )

    def _seen(self, db: tally.Db, now: float) -> tuple[int, int]:
        """How many pilots are known, and how many of them are alive."""
        seen = db.execute(tally.SEEN, (now - LIVE_SECONDS,)).fetchone()
        gone = [pilot for pilot, at in dict(self._left).items() if at >= now - LIVE_SECONDS]
        rows = db.execute(tally.SEEN_OF, (json.dumps(gone), now - LIVE_SECONDS)).fetchall() if gone else []
        gone_live = sum(not self._is_live(row["pilot"], row["seen"], now) for row in rows)
        return seen["pilots"], (seen["live"] or 0) - gone_live

    def _is_live(self, pilot: str, seen: float, now: float) -> bool:
        """Heard of lately, and has not said since that it leaves."""
        return seen >= now - LIVE_SECONDS and self._left.get(pilot, float("-inf")) < seen

    def _faults_of_before(self, db: tally.Db) -> tuple[FaultRow, ...]:
        """The last faults that the file knows from before this service's time, read once; later ones the meter has."""
        if self._old_faults is None:
            rows = db.execute(tally.OLD_FAULTS, (self._name, self._started, tally.NEWEST_LOOKED_AT, FAULTS_SHOWN))
            self._old_faults = tuple(old_fault_row(row) for row in rows)
        return self._old_faults
