"""Shapes in the file: jobs that ask the same are one shape, so a claim looks at shapes, not at jobs."""

import hashlib
import json
import sqlite3

from pilot.core.matching import Fit, Shape, fit
from pilot.model.capability import Offer
from pilot.model.plain import from_plain, to_plain
from pilot.ports import Matcher

Db = sqlite3.Connection

CLAIMABLE = "queue = ? AND state = 'waiting' AND blockers = 0 AND not_before IS NULL"
# Jumps from shape to shape through the index, so its cost follows the number of shapes that wait.
WAITING = f"""
WITH RECURSIVE waiting (shape) AS (
    SELECT min(shape) FROM job INDEXED BY claimable WHERE {CLAIMABLE}
    UNION ALL
    SELECT (SELECT min(shape) FROM job INDEXED BY claimable WHERE {CLAIMABLE} AND shape > waiting.shape)
    FROM waiting WHERE waiting.shape IS NOT NULL
)
SELECT shape FROM waiting WHERE shape IS NOT NULL
"""  # noqa: S608 - made of constants
# Shapes of jobs that a claim will find waiting once it has taken back what is overdue.
OVERDUE = """
SELECT shape FROM job WHERE queue = ? AND state = 'granted' AND lease_until <= ?
UNION SELECT shape FROM job WHERE queue = ? AND not_before <= ?
"""
HEAD = f"""
SELECT job, priority FROM job INDEXED BY claimable WHERE {CLAIMABLE} AND shape = ? ORDER BY priority DESC, job LIMIT 1
"""  # noqa: S608 - made of constants


def shape_number(db: Db, shape: Shape) -> int:
    """The shape's number in this file; a new one gets its row."""
    body = json.dumps(to_plain(shape), sort_keys=True)
    digest = hashlib.sha256(body.encode()).hexdigest()
    db.execute("INSERT OR IGNORE INTO shape (digest, body) VALUES (?, ?)", (digest, body))
    return int(db.execute("SELECT shape FROM shape WHERE digest = ?", (digest,)).fetchone()[0])


def waiting_shapes(db: Db, queue: str, now: float) -> set[int]:
    """The shapes of which a job could be granted now."""
    waiting = db.execute(WAITING, (queue, queue))
    overdue = db.execute(OVERDUE, (queue, now, queue, now))
    return {int(row[0]) for row in (*waiting, *overdue)}


class Fitting:
    """Which shapes an offer fits. A row of `shape` never changes, so what was read once is kept."""

    def __init__(self, matcher: Matcher) -> None:
        self._matcher = matcher
        self._shapes: dict[int, Shape] = {}

    def load(self, db: Db, numbers: set[int]) -> None:
        """Reads the shapes that are not known yet."""
        for number in numbers - self._shapes.keys():
            body = db.execute("SELECT body FROM shape WHERE shape = ?", (number,)).fetchone()[0]
            self._shapes[number] = from_plain(Shape, json.loads(body))

    def fitting(self, numbers: set[int], offer: Offer, owner: str = "") -> frozenset[int]:
        """Those of the shapes (that owner's only, where one is named) which the offer fits."""
        return frozenset(
            number
            for number in numbers
            if owner in ("", self._shapes[number].owner)
            and isinstance(fit(self._shapes[number], offer, self._matcher), Fit)
        )
