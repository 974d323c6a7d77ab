"""Why a job stands where it stands: its own state first, then the offer that came nearest, and what refused."""

import json
import sqlite3
from dataclasses import dataclass
from datetime import UTC, datetime

from pilot.core.matching import Fit, Refusal, Shape, fit
from pilot.core.turns import turn
from pilot.model.capability import Offer
from pilot.model.plain import from_plain
from pilot.model.queue import Explanation, JobState, Nearest, QueueSettings, QueueState
from pilot.ports import Matcher
from pilot.queue.shapes import CLAIMABLE, read_shape
from pilot.queue.shares import uses

Db = sqlite3.Connection

OFFERS = "SELECT body, seen FROM offer ORDER BY seen DESC, pilot"
WAITED_FOR = """
SELECT job_id, name, state FROM job JOIN edge ON edge.after = job.job
WHERE edge.job = ? AND verdict != 'succeeded' ORDER BY job.job LIMIT 1
"""
OWN_LANES = """
SELECT shape FROM lane JOIN shape USING (shape) WHERE lane.queue = ? AND shape.owner = ? AND waiting > 0
"""
AHEAD = f"""
SELECT count(*) FROM (SELECT 1 FROM job INDEXED BY claimable WHERE {CLAIMABLE} AND shape = ?
    AND (place < ? OR place = ? AND job < ?) LIMIT ?)
"""  # noqa: S608 - made of constants
OTHERS = """
SELECT DISTINCT shape.owner FROM lane JOIN shape USING (shape) WHERE lane.queue = ? AND waiting > 0 AND shape.owner != ?
"""
KEPT_FREE = "SELECT pilot, since FROM reservation WHERE queue = ? AND shape = ?"
KEPT_FOR_OTHERS = "SELECT pilot FROM reservation WHERE queue = ? AND shape != ?"
COUNTED_TO = 100_000  # who has more ahead than that does not ask how many more


@dataclass(frozen=True, slots=True)
class Seen:
    """One offer, when it was seen, and what refused the job there (None = it fits)."""

    offer: Offer
    at: float
    refusal: Refusal | None

    @property
    def nearest(self) -> Nearest:
        """The offer as users are told."""
        host, pilot = self.offer.host, self.offer.pilot_id
        return Nearest(pilot if pilot.startswith(f"{host}/") else f"{host}/{pilot}", iso(self.at))


def iso(at: float | None) -> str:
    """UTC, ISO 8601; empty for None."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds") if at is not None else ""


def explain(db: Db, row: sqlite3.Row, queue: QueueSettings, matcher: Matcher, now: float) -> Explanation:
    """The first reason why that row of `job` does not run."""
    stands = _own_state(db, row, queue, now)
    if stands is not None:
        return stands
    seen = _offers(db, row, matcher)
    if not seen:
        return _say(row, "offers", "offers", "at least one", "none seen: no pilot has asked this queue yet")
    fitting = [each for each in seen if each.refusal is None]
    if fitting:
        return _order(db, row, queue, fitting, now)
    kept = db.execute(KEPT_FREE, (queue.name, row["shape"])).fetchone()
    nearest = max(seen, key=lambda each: (each.refusal.depth if each.refusal else 0, each.at))
    return _draining(row, kept, nearest) if kept is not None else _refused(row, nearest)


def _draining(row: sqlite3.Row, kept: sqlite3.Row, nearest: Seen) -> Explanation:
    refusal = nearest.refusal or Refusal("", "", "", "")
    wanted = f"{refusal.attribute} {refusal.wanted} at once"
    found = f"{refusal.offered} free; pilot {kept['pilot']} is kept free for it since {iso(kept['since'])}"
    return _say(row, "reservation", "room", wanted, found, nearest.nearest)


def _order(db: Db, row: sqlite3.Row, queue: QueueSettings, fitting: list[Seen], now: float) -> Explanation:
    """It fits: others are before it. Its own owner's by their place, other owners by what they use."""
    taken = {each["pilot"] for each in db.execute(KEPT_FOR_OTHERS, (queue.name, row["shape"]))}
    open_to_it = next((each for each in fitting if each.offer.pilot_id not in taken), None)
    if open_to_it is None:
        found = f"pilot {fitting[0].offer.pilot_id} is kept free for a larger job that has waited long"
        return _say(row, "reservation", "pilot", "one that is not reserved", found, fitting[0].nearest)
    ahead = _ahead(db, row)
    jobs = f"{ahead if ahead <= COUNTED_TO else f'more than {COUNTED_TO}'} jobs are ahead"
    using, others = _shares(db, row, queue, now)
    if not others:
        return _say(row, "order", "turn", "to be next", f"{jobs}; an offer fits", open_to_it.nearest)
    less, least = len(others), min(others, key=lambda each: each[0])
    found = (
        f"{row['owner']} uses {using:.1f} cores, now and of late; {less} who use less go first ({least[1]}: "
        f"{least[0]:.1f}); {jobs} of {row['owner']}'s own"
    )
    return _say(row, "share", "use", "the least of all whose jobs wait", found, open_to_it.nearest)


def _ahead(db: Db, row: sqlite3.Row) -> int:
    """How many jobs of the same owner are before it."""
    place = (row["place"], row["place"], row["job"])
    lanes = [each[0] for each in db.execute(OWN_LANES, (row["queue"], row["owner"])).fetchall()]
    counted = 0
    for shape in lanes:
        counted += db.execute(AHEAD, (row["queue"], shape, *place, COUNTED_TO + 1)).fetchone()[0]
    return counted


def _shares(db: Db, row: sqlite3.Row, queue: QueueSettings, now: float) -> tuple[float, list[tuple[float, str]]]:
    """What the owner uses, and the others with waiting jobs who use less."""
    used = {owner: turn(use, now) for owner, use in uses(db, queue.name).items()}
    own = used.get(row["owner"], 0.0)
    waiting = () if queue.state is QueueState.TEST else db.execute(OTHERS, (queue.name, row["owner"])).fetchall()
    others = [(used.get(each[0], 0.0), str(each[0])) for each in waiting]
    return own, [each for each in others if each[0] < own]


def _say(
    row: sqlite3.Row, clause: str, attribute: str, wanted: str, offered: str, nearest: Nearest | None = None
) -> Explanation:
    return Explanation(row["job_id"], clause, attribute, wanted, offered, nearest)


def _refused(row: sqlite3.Row, seen: Seen) -> Explanation:
    refusal = seen.refusal or Refusal("", "", "", "")
    return _say(row, refusal.clause, refusal.attribute, refusal.wanted, refusal.offered, seen.nearest)


def _own_state(db: Db, row: sqlite3.Row, queue: QueueSettings, now: float) -> Explanation | None:
    state = row["state"]
    if state == JobState.DONE:
        return _say(row, "state", "verdict", "not done", _ending(row))
    if state == JobState.GRANTED:
        return _say(row, "state", "lease", "free", _lease(row, now))
    if state == JobState.HELD:
        return _say(row, "state", "held", "released", "held; pilot queue release lets it go on")
    return _waiting(db, row, queue, now)


def _lease(row: sqlite3.Row, now: float) -> str:
    """Who has it; a lease that ran out is taken back when the next pilot claims."""
    who, until = f"pilot {row['pilot']}", row["lease_until"]
    if until is not None and until < now:
        line = f"{who} is silent: its lease of attempt {row['attempt']} ran out at {iso(until)}"
        return f"{line}; the job waits again as soon as a pilot asks for work, unless this one is heard of first"
    return f"{who} has attempt {row['attempt']} until {iso(until)} or longer"


def _ending(row: sqlite3.Row) -> str:
    """How it ended and why: attempts used up, a predecessor that failed, a cancel."""
    why = json.loads(row["fault"]) if row["fault"] else {}
    parts = [row["verdict"], why.get("code", ""), why.get("detail", "") or why.get("message", "")]
    used = f"{row['failures']} of {row['attempts']} attempts failed" if row["failures"] else ""
    return ": ".join(each for each in (*parts, used) if each)


def _waiting(db: Db, row: sqlite3.Row, queue: QueueSettings, now: float) -> Explanation | None:
    before = db.execute(WAITED_FOR, (row["job"],)).fetchone() if row["blockers"] else None
    if before is not None:
        return _say(row, "after", "after", f"{before['name']} ({before['job_id']}) succeeded", before["state"])
    if queue.state in (QueueState.DRAIN, QueueState.OFFLINE):
        return _say(row, "queue", "state", "online", queue.state)
    if queue.state is QueueState.TEST and row["owner"] != queue.owner:
        return _say(
            row, "queue", "owner", queue.owner, f"{row['owner']}; in state test only the queue's owner's jobs run"
        )
    if row["not_before"] is not None and row["not_before"] > now:  # a pilot that claims clears those that are over
        return _say(
            row, "delay", "not_before", "now", f"{iso(row['not_before'])}, after a failure that was not its own"
        )
    return None


def _offers(db: Db, row: sqlite3.Row, matcher: Matcher) -> list[Seen]:
    shape = read_shape(db, row["shape"])
    return [_seen(each, shape, matcher) for each in db.execute(OFFERS)]


def _seen(row: sqlite3.Row, shape: Shape, matcher: Matcher) -> Seen:
    offer = from_plain(Offer, json.loads(row["body"]))
    answer = fit(shape, offer, matcher)
    return Seen(offer, row["seen"], None if isinstance(answer, Fit) else answer)
