"""How much one user, and all callers together, may ask of the service."""

from dataclasses import dataclass

from pilot.model.faults import Code
from pilot.model.queue import JobState
from pilot.ports import Final, Passing
from pilot.queue.store import Store

MEBI = 1 << 20
WAITING = f"""
SELECT ifnull(sum(jobs), 0) FROM tally WHERE queue = ? AND owner = ?
    AND state IN ('{JobState.WAITING}', '{JobState.HELD}')
"""  # noqa: S608 - made of constants


@dataclass(frozen=True, slots=True)
class Limits:
    """Of each user: jobs that wait or are held in one queue, and bytes of code put; of all: calls that wait."""

    waiting_jobs: int = 1_000_000
    upload_bytes: int = 64 * MEBI
    pending_calls: int = 4000  # of pilots and changes; at 300 in a second more would be answered too late


class Busy(Passing):
    """Too much waits already: the caller is to come back in a moment (429, with Retry-After)."""

    def __init__(self, what: str) -> None:
        super().__init__(Code.SERVER_UNREACHABLE, f"{what}; come back in a moment")


def check_room(store: Store, queue: str, user: str, more: int, limits: Limits) -> None:
    """Raises where a user would have more jobs waiting than one may; for the database thread."""
    with store.reading() as db:
        waiting = int(db.execute(WAITING, (queue, user)).fetchone()[0])
    if waiting + more > limits.waiting_jobs:
        line = f"{user} has {waiting} jobs waiting, and {more} more would be over the {limits.waiting_jobs} of a user"
        raise Final(Code.STORAGE_DENIED, f"{line}; add them when some have run, or ask the queue's operator")
