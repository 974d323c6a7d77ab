"""Back-off, leases, last windows."""

import pytest

from pilot.core import timing


@pytest.mark.parametrize(
    ("attempt", "chance", "expected"),
    [(0, 1.0, 0.5), (0, 0.0, 0.25), (1, 1.0, 1.0), (3, 0.5, 3.0), (9, 1.0, 30.0), (10**6, 1.0, 30.0), (-1, 1.0, 0.5)],
)
def test_delay_doubles_up_to_its_cap(attempt: int, chance: float, expected: float) -> None:
    assert timing.delay(attempt, 0.5, 30.0, chance) == expected


def test_two_beats_may_be_lost() -> None:
    assert timing.renewal_interval(60) == 20


@pytest.mark.parametrize(("lease", "margin"), [(60, 10), (600, 10), (20, 5), (2, 0.5)])
def test_a_lease_is_not_trusted_to_its_end(lease: float, margin: float) -> None:
    assert timing.lease_margin(lease) == margin
    assert timing.may_write(100 + lease - margin - 0.01, 100, lease)
    assert not timing.may_write(100 + lease - margin, 100, lease)


@pytest.mark.parametrize(
    ("window", "grace", "expected"),
    [
        (30, 10, timing.Closing(10, 17, 3)),
        (30, 20, timing.Closing(13.5, 13.5, 3)),
        (4, 10, timing.Closing(1, 1, 2)),
        (0, 10, timing.Closing(0, 0, 0)),
        (-5, 10, timing.Closing(0, 0, 0)),
        (30, -1, timing.Closing(0, 27, 3)),
    ],
)
def test_the_last_window_keeps_time_for_the_report(window: float, grace: float, expected: timing.Closing) -> None:
    assert timing.closing(window, grace) == expected


def test_time_left() -> None:
    assert timing.time_left(None, 5) is None
    assert timing.time_left(7, 5) == 2
    assert timing.time_left(3, 5) == 0


def test_earliest() -> None:
    assert timing.earliest(None, 3, 2) == 2
    assert timing.earliest(None) is None
