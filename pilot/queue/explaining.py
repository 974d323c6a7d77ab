"""Why a job stands where it stands: its own state first, then the offer that came nearest, and what refused."""

import json
import sqlite3
from dataclasses import dataclass
from datetime import UTC, datetime

from pilot.core.matching import Fit, Refusal, Shape, fit
from pilot.model.capability import Offer
from pilot.model.plain import from_plain
from pilot.model.queue import Explanation, JobState, Nearest, QueueSettings, QueueState
from pilot.ports import Matcher

Db = sqlite3.Connection

OFFERS = "SELECT body, seen FROM offer ORDER BY seen DESC, pilot"
WAITED_FOR = """
SELECT job_id, name, state FROM job JOIN edge ON edge.after = job.job
WHERE edge.job = ? AND verdict != 'succeeded' ORDER BY job.job LIMIT 1
"""
AHEAD = """
SELECT count(*) FROM job WHERE queue = ? AND state = 'waiting' AND blockers = 0 AND not_before IS NULL
    AND (priority > ? OR priority = ? AND job < ?)
"""


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
    fitting = next((each for each in seen if each.refusal is None), None)
    if fitting is not None:
        ahead = db.execute(AHEAD, (queue.name, row["priority"], row["priority"], row["job"])).fetchone()[0]
        return _say(row, "order", "turn", "to be next", f"{ahead} jobs are ahead; an offer fits", fitting.nearest)
    return _refused(row, max(seen, key=lambda each: (each.refusal.depth if each.refusal else 0, each.at)))


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
        pilot = f"pilot {row['pilot']} has attempt {row['attempt']} until {iso(row['lease_until'])} or longer"
        return _say(row, "state", "lease", "free", pilot)
    if state == JobState.HELD:
        return _say(row, "state", "held", "released", "held; pilot queue release lets it go on")
    return _waiting(db, row, queue, now)


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
    body = db.execute("SELECT body FROM shape WHERE shape = ?", (row["shape"],)).fetchone()[0]
    shape = from_plain(Shape, json.loads(body))
    return [_seen(each, shape, matcher) for each in db.execute(OFFERS)]


def _seen(row: sqlite3.Row, shape: Shape, matcher: Matcher) -> Seen:
    offer = from_plain(Offer, json.loads(row["body"]))
    answer = fit(shape, offer, matcher)
    return Seen(offer, row["seen"], None if isinstance(answer, Fit) else answer)
