"""Places, shares and patience, as tables."""

import pytest

from pilot.core.turns import (
    ACCELERATOR_CORES,
    HALF_LIFE_SECONDS,
    OVERDUE_EVERY,
    PATIENCE_SECONDS,
    Given,
    Use,
    charged,
    overdue,
    place,
    turn,
    weight,
)
from pilot.model.job import GpuNeeds, Needs

DAY = 86_400.0


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ((0.0, 0), (0.001, 0)),  # (arrival, priority): who came first
        ((0.0, 1), (0.0, 0)),  # the higher priority
        ((DAY - 1, 1), (0.0, 0)),  # also where it came later
        ((0.0, 0), (DAY + 1, 1)),  # but a point is a day, no more: nobody is passed over for ever
        ((9 * DAY, 10), (0.0, 0)),
        ((0.0, 0), (11 * DAY, 10)),
        ((0.0, 0), (0.0, -1)),
        ((2e9, (1 << 31) - 1), (2e9, 0)),
    ],
)
def test_places(first: tuple[float, int], second: tuple[float, int]) -> None:
    assert place(*first) < place(*second)
    assert all(abs(place(*each)) < 1 << 63 for each in (first, second))


@pytest.mark.parametrize(
    ("needs", "cores"),
    [
        ((), 1),
        ((Needs(4),), 4),
        ((Needs(4, gpus=GpuNeeds(1)),), ACCELERATOR_CORES),
        ((Needs(4, gpus=GpuNeeds(2)), Needs(64)), 2 * ACCELERATOR_CORES),
        ((Needs(64, gpus=GpuNeeds(1)),), 64),
    ],
)
def test_weights(needs: tuple[Needs, ...], cores: int) -> None:
    assert weight(needs) == cores


def test_what_was_used_is_forgotten_by_half_in_a_day() -> None:
    used = Use(recent=8.0, at=0.0)
    assert turn(used, 0.0) == 8.0
    assert turn(used, HALF_LIFE_SECONDS) == pytest.approx(4.0)
    assert turn(used, 3 * HALF_LIFE_SECONDS) == pytest.approx(1.0)
    assert turn(used, -99.0) == 8.0  # a clock that was set back forgets nothing


def test_what_runs_counts_at_once() -> None:
    assert turn(Use(running=3, recent=2.0, at=5.0), 5.0) == 5.0


def test_who_always_holds_ten_cores_comes_to_ten() -> None:
    """HTCondor's formula in small steps and in one."""
    steps = Use()
    for hour in range(24 * 30):
        steps = charged(steps, 10, 3600.0, (hour + 1) * 3600.0)
    whole = charged(Use(), 10, 30 * DAY, 30 * DAY)
    assert steps.recent == pytest.approx(whole.recent)
    assert whole.recent == pytest.approx(10.0, rel=1e-6)


@pytest.mark.parametrize(
    ("cores", "seconds", "recent"),
    [(4, 0.0, 0.0), (4, HALF_LIFE_SECONDS, 2.0), (4, -5.0, 0.0), (0, 100.0, 0.0), (8, 2 * HALF_LIFE_SECONDS, 6.0)],
)
def test_charges(cores: int, seconds: float, recent: float) -> None:
    after = charged(Use(running=7), cores, seconds, 100.0)
    assert (after.recent, after.running, after.at) == (pytest.approx(recent), 7, 100.0)


def test_a_clock_set_back_charges_and_forgets_nothing() -> None:
    after = charged(Use(recent=3.0, at=100.0), 1, HALF_LIFE_SECONDS, 50.0)
    assert (after.recent, after.at) == (pytest.approx(3.5), 100.0)


@pytest.mark.parametrize(("waited", "late"), [(0.0, False), (PATIENCE_SECONDS - 1, False), (PATIENCE_SECONDS, True)])
def test_patience(waited: float, late: bool) -> None:
    assert overdue(1000.0, 1000.0 + waited) is late


def test_one_grant_in_four_is_for_those_who_waited_too_long() -> None:
    given, turns = Given(), []
    for _ in range(12):
        turns.append(given.late_turn)
        given = given.after(given.late_turn)
    assert turns == [False, False, False, True] * 3
    assert len(turns) // OVERDUE_EVERY == sum(turns)


def test_a_late_turn_that_nobody_took_is_kept() -> None:
    """However the claims of several pilots fall, the first that an overdue lane fits serves it."""
    given = Given(late=0, grants=3)
    for _ in range(9):
        assert given.late_turn
        given = given.after(late=False)
    assert not given.after(late=True).late_turn
