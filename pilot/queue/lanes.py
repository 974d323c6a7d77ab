"""The lanes of a queue as this process remembers them: which job of each is next, and which has waited too long.

Lanes carry stamps, so what another process (or another part of this one) has changed is read at the next look, and
nothing else. What is remembered is used inside the transaction in which it was refreshed, so it is exact.
"""

import sqlite3
from bisect import bisect_left, insort
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from pilot.core.turns import overdue
from pilot.queue.shapes import CLAIMABLE, HEAD

Db = sqlite3.Connection
Head = tuple[int, int, int]  # place, job, shape: the smallest is next

OVERDUE_KEPT_SECONDS = 1.0  # lanes that are overdue are looked for once in that time; ten minutes are not so exact

WAITING = f"""
SELECT lane.shape, lane.since, lane.stamp, shape.owner, shape.weight, job.job, job.place
FROM lane JOIN shape ON shape.shape = lane.shape LEFT JOIN job ON job.job = (
    SELECT head.job FROM job AS head INDEXED BY claimable WHERE head.{CLAIMABLE.replace("?", "lane.queue")}
    AND head.shape = lane.shape ORDER BY head.place, head.job LIMIT 1)
WHERE lane.queue = ? AND lane.waiting > 0
"""  # noqa: S608 - made of constants
CHANGED = WAITING.replace("FROM lane", "FROM lane INDEXED BY lane_stamp", 1).replace("waiting > 0", "stamp > ?")
SERVED = "UPDATE lane SET since = ? WHERE queue = ? AND shape = ?"
NEWEST = "SELECT max(stamp) FROM lane"


@dataclass(slots=True)
class Lane:
    """The jobs of one shape that may be given out; `head` is the next of them, nothing was given since `since`."""

    shape: int
    owner: str
    weight: int
    since: float
    head: Head


@dataclass(slots=True)
class Lanes:
    """All lanes of one queue in which a job waits."""

    queue: str
    lanes: dict[int, Lane] = field(default_factory=dict)
    heads: dict[str, list[Head]] = field(default_factory=dict)  # by owner, in order
    _stamp: int = -1
    _late: list[int] = field(default_factory=list)
    _looked: float | None = None
    _served: dict[int, float] = field(default_factory=dict)

    def forget(self) -> None:
        """What was remembered may be wrong: a transaction was undone."""
        self.lanes.clear()
        self.heads.clear()
        self._served.clear()
        self._stamp, self._looked = -1, None

    def refresh(self, db: Db) -> list[int]:
        """Reads the lanes that have changed; gives the shapes of those in which a job waits."""
        found = []
        for row in self._read(db):
            self._drop(row["shape"])
            if row["job"] is not None:
                head = (row["place"], row["job"], row["shape"])
                self._put(Lane(row["shape"], row["owner"], row["weight"], row["since"], head))
                found.append(row["shape"])
        return found

    def _read(self, db: Db) -> Sequence[sqlite3.Row]:
        """All lanes in which a job waits, the first time; then those that changed, whatever became of them."""
        if self._stamp < 0:
            self._stamp = db.execute(NEWEST).fetchone()[0] or 0
            return db.execute(WAITING, (self.queue,)).fetchall()
        rows = db.execute(CHANGED, (self.queue, self._stamp)).fetchall()
        self._stamp = max((row["stamp"] for row in rows), default=self._stamp)
        return rows

    def served(self, db: Db, shape: int, now: float) -> None:
        """The lane's next job was given out: on to the one after it."""
        lane = self.lanes[shape]
        self._drop(shape)
        self._served[shape] = now
        row = db.execute(HEAD, (self.queue, shape)).fetchone()
        if row is not None:
            self._put(Lane(shape, lane.owner, lane.weight, now, (row["place"], row["job"], shape)))

    def note_served(self, db: Db) -> bool:
        """Writes down which lanes were served, if any; what this transaction changed so far is known here."""
        served = [(since, self.queue, shape) for shape, since in self._served.items()]
        if served:
            db.executemany(SERVED, served)
            self._served.clear()
            self._stamp = db.execute(NEWEST).fetchone()[0]
        return bool(served)

    def late(self, now: float) -> Iterator[Lane]:
        """The lanes that are overdue, the one that waited longest first."""
        if self._looked is None or not 0.0 <= now - self._looked < OVERDUE_KEPT_SECONDS:
            found = [(each.since, shape) for shape, each in self.lanes.items() if overdue(each.since, now)]
            self._late, self._looked = [shape for _, shape in sorted(found)], now
        return (lane for lane in self._still_there() if overdue(lane.since, now))

    def _still_there(self) -> Iterator[Lane]:
        return (self.lanes[shape] for shape in self._late if shape in self.lanes)

    def _put(self, lane: Lane) -> None:
        self.lanes[lane.shape] = lane
        insort(self.heads.setdefault(lane.owner, []), lane.head)

    def _drop(self, shape: int) -> None:
        lane = self.lanes.pop(shape, None)
        if lane is not None:
            heads = self.heads[lane.owner]
            del heads[bisect_left(heads, lane.head)]
            if not heads:
                del self.heads[lane.owner]
