"""Which pilot is kept free for which big job, and for how long: as tables."""

import pytest

from pilot.core.reserving import (
    EMPTY_SECONDS,
    RESERVE_AFTER_SECONDS,
    RESERVED_SECONDS,
    Asker,
    Reservation,
    Waiting,
    lapsed,
    reserve,
)

NOW = 100_000.0
LONG, SHORT = NOW - RESERVE_AFTER_SECONDS, NOW - RESERVE_AFTER_SECONDS + 1
BIG, SMALL, HUGE = 1, 2, 3  # shapes: what fits the whole slot only, what fits what is free, what fits nowhere


def asker(pilot: str = "p") -> Asker:
    return Asker(pilot, lambda shape: shape in (BIG, SMALL), lambda shape: shape == SMALL)


@pytest.mark.parametrize(
    ("waiting", "held", "pilots", "wanted"),
    [
        ([], [], 9, 0),
        ([(BIG, LONG)], [], 9, BIG),
        ([(BIG, SHORT)], [], 9, 0),  # it has not waited long enough
        ([(SMALL, LONG)], [], 9, 0),  # it fits what is free: no need
        ([(HUGE, LONG)], [], 9, 0),  # the pilot could never run it
        ([(HUGE, LONG - 9), (SMALL, LONG - 8), (BIG, LONG)], [], 9, BIG),
        ([(BIG, LONG)], [(BIG, "q")], 9, 0),  # it has a pilot already
        ([(BIG, LONG)], [(HUGE, "p")], 9, 0),  # this pilot is kept for another
        ([(BIG, LONG)], [(HUGE, "q")], 9, BIG),  # the second of nine pilots
        ([(BIG, LONG)], [(HUGE, "q")], 7, 0),  # not the second of seven: one in four
        ([(BIG, LONG)], [], 0, BIG),  # but always one
    ],
)
def test_reserving(waiting: list[tuple[int, float]], held: list[tuple[int, str]], pilots: int, wanted: int) -> None:
    lanes = [Waiting(*each) for each in waiting]
    reservations = [Reservation(shape, pilot, NOW) for shape, pilot in held]
    assert reserve(asker(), lanes, reservations, pilots, NOW) == wanted


def test_who_waited_longest_is_first() -> None:
    everything = Asker("p", lambda _: True, lambda _: False)
    lanes = [Waiting(5, LONG), Waiting(7, LONG - 1), Waiting(6, LONG - 1)]
    assert reserve(everything, lanes, [], 4, NOW) == 6


@pytest.mark.parametrize(
    ("age", "waits", "holds_jobs", "over"),
    [
        (0.0, True, True, False),
        (0.0, False, True, True),  # nothing is left to wait for room
        (RESERVED_SECONDS - 1, True, True, False),
        (RESERVED_SECONDS, True, True, True),
        (EMPTY_SECONDS - 1, True, False, False),  # it may be about to ask
        (EMPTY_SECONDS, True, False, True),
    ],
)
def test_ends(age: float, waits: bool, holds_jobs: bool, over: bool) -> None:
    assert lapsed(Reservation(BIG, "p", NOW - age), waits, holds_jobs, NOW) is over
