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


def test_the_longest_lease_is_renewed_every_ten_minutes_since_commands_come_with_the_answers() -> None:
    assert timing.renewal_interval(7200) == 600
    assert timing.renewal_interval(1800) == timing.renewal_interval(1801) == 600


@pytest.mark.parametrize(
    ("failures", "lease", "now", "expected"),
    [
        (0, 60, 20.0, 22.5),
        (1, 60, 22.5, 27.5),
        (5, 60, 30.0, 40.0),
        (5, 60, 40.0, 49.0),  # the last try, a second before the lease is trusted no more
        (5, 60, 49.5, 59.5),
        (9, 7200, 600.0, 690.0),
        (9, 7200, 7150.0, 7189.0),
        (3, 1, 0.4, 0.4 + 1 / 6),
    ],
)
def test_a_heartbeat_that_failed_is_tried_again(failures: int, lease: float, now: float, expected: float) -> None:
    assert timing.beat_again(failures, 0.0, lease, now, 1.0) == pytest.approx(expected)


def test_half_of_a_rest_is_chance() -> None:
    assert (timing.rest(10, 0.0), timing.rest(10, 0.5), timing.rest(10, 1.0)) == (5, 7.5, 10)


@pytest.mark.parametrize(("lease", "margin"), [(60, 10), (600, 10), (20, 5), (2, 0.5)])
def test_a_lease_is_not_trusted_to_its_end(lease: float, margin: float) -> None:
    assert timing.lease_margin(lease) == margin
    assert timing.may_write(100 + lease - margin - 0.01, 100, lease)
    assert not timing.may_write(100 + lease - margin, 100, lease)


@pytest.mark.parametrize(("lease", "patience"), [(1, 600), (60, 600), (200, 600), (300, 900), (7200, 21600)])
def test_an_attempt_is_kept_for_three_leases_more_and_at_least_ten_minutes(lease: float, patience: float) -> None:
    assert timing.kept_until(100, lease) == 100 + lease + patience


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
