"""Offers in the file: what each pilot offered last, and the most that it ever did, which is its whole slot."""

import json
import sqlite3

from pilot.model.capability import Offer
from pilot.model.plain import from_plain, to_plain

Db = sqlite3.Connection

KEPT_SECONDS = 7 * 86400.0
OLD = "DELETE FROM offer WHERE seen < ?"
NOTE = "INSERT OR REPLACE INTO offer (pilot, host, body, whole, seen) VALUES (?, ?, ?, ?, ?)"
WHOLE = "SELECT whole FROM offer WHERE pilot = ?"


def forget_old(db: Db, now: float) -> None:
    """Pilots that were not heard of for a week are gone."""
    db.execute(OLD, (now - KEPT_SECONDS,))


def note_offer(db: Db, offer: Offer, now: float) -> None:
    """The pilot's newest offer; its whole slot where this one shows more of it."""
    text = json.dumps(to_plain(offer))
    whole = whole_of(db, offer)
    larger = max(offer, whole, key=_extent)
    db.execute(NOTE, (offer.pilot_id, offer.host, text, json.dumps(to_plain(larger)), now))


def whole_of(db: Db, offer: Offer) -> Offer:
    """The largest offer of that pilot; this one where none was seen before."""
    row = db.execute(WHOLE, (offer.pilot_id,)).fetchone()
    return from_plain(Offer, json.loads(row["whole"])) if row is not None else offer


def _extent(offer: Offer) -> tuple[int, int, int]:
    return offer.cpus, len(offer.devices), offer.memory_bytes
