"""Reservations: room is made for a big job by giving a node nothing else until the job fits.

A node that is full of small jobs never has much free at once, so a big job that it could run alone would wait for
ever. The rule: when nothing was given from a lane for half an hour, and a pilot asks whose whole slot the lane's jobs
fit but whose free part they do not, that pilot is kept free for the lane: it gets jobs of that lane only. A lane has
at most one reservation and a pilot one, and no more than one pilot in four (but always one) is reserved. A
reservation ends with the grant it was made for; when nothing of the lane waits any more; after six hours; and after
ten minutes with a pilot that holds no job, since then nothing is left to wait for.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

RESERVE_AFTER_SECONDS = 1800.0  # three times the patience of core/turns: who fits a free offer has had it by then
RESERVED_SECONDS = 6 * 3600.0
EMPTY_SECONDS = 600.0
ONE_IN = 4


@dataclass(frozen=True, slots=True)
class Reservation:
    """That pilot is kept free for jobs of that shape since then."""

    shape: int
    pilot: str
    since: float


@dataclass(frozen=True, slots=True)
class Waiting:
    """A lane in which jobs wait; nothing was given from it since then."""

    shape: int
    since: float


@dataclass(frozen=True, slots=True)
class Asker:
    """A pilot that asks: whether a shape fits all of its slot, and whether it fits what is free of it now."""

    pilot: str
    fits_whole: Callable[[int], bool]
    fits_free: Callable[[int], bool]


def reserve(asker: Asker, waiting: Sequence[Waiting], held: Sequence[Reservation], pilots: int, now: float) -> int:
    """The shape for which that pilot is to be kept free from now on, 0 = none; `pilots` counts those that live."""
    if len(held) >= max(1, pilots // ONE_IN) or any(each.pilot == asker.pilot for each in held):
        return 0
    cared_for = {each.shape for each in held}
    late = sorted((each.since, each.shape) for each in waiting if now - each.since >= RESERVE_AFTER_SECONDS)
    candidates = (shape for _, shape in late if shape not in cared_for)
    return next((each for each in candidates if not asker.fits_free(each) and asker.fits_whole(each)), 0)


def lapsed(reservation: Reservation, waits: bool, holds_jobs: bool, now: float) -> bool:
    """Whether a reservation is over: nothing of its lane waits, its pilot is empty in vain, or it took too long."""
    age = now - reservation.since
    return not waits or age >= RESERVED_SECONDS or (not holds_jobs and age >= EMPTY_SECONDS)
