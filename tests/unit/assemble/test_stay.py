"""By which rules a pilot stays at a queue, as settings and registration give them."""

import time
from dataclasses import replace

import pytest

from pilot.assemble.stay import POLL_CAP_AT_A_DISTANCE, least_lifetime, refusal, rules_of, seconds_left
from pilot.config.settings import Settings
from pilot.model.capability import Capabilities, LimitedBy, RuntimeFinding, View
from pilot.model.faults import Code
from pilot.ports import Final, Passing, Registration

HERE, FAR = Settings(queue="sqlite:/q.db"), Settings(queue="https://q:1")
TOLD = Registration(60.0, 0.25)


def boot() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@pytest.mark.parametrize(
    ("settings", "told", "cap"),
    [
        (HERE, TOLD, 0.25),
        (FAR, TOLD, POLL_CAP_AT_A_DISTANCE),
        (FAR, replace(TOLD, poll_cap_seconds=60.0), 60.0),
        (HERE, replace(TOLD, poll_cap_seconds=3.0), 3.0),
        (FAR, replace(TOLD, poll_seconds=30.0, poll_cap_seconds=20.0), 30.0),
    ],
)
def test_how_long_pauses_grow(settings: Settings, told: Registration, cap: float) -> None:
    assert rules_of(settings, told).poll_cap == cap


def test_a_queue_at_a_distance_is_tried_again_less_soon() -> None:
    assert rules_of(HERE, TOLD).retry < rules_of(FAR, TOLD).retry


@pytest.mark.parametrize(
    ("own", "queues", "floor"), [(0.0, 0.0, None), (0.0, 600.0, 600.0), (60.0, 0.0, 60.0), (60.0, 600.0, 60.0)]
)
def test_the_sites_time_floor_goes_before_the_queues(own: float, queues: float, floor: float | None) -> None:
    found = rules_of(replace(FAR, timefloor=own), replace(TOLD, timefloor_seconds=queues)).floor
    assert found is None if floor is None else found == pytest.approx(boot() + floor, abs=1.0)


def test_what_is_not_set_is_no_limit() -> None:
    found = rules_of(HERE, TOLD)
    assert (found.max_jobs, found.idle_exit, found.deadline) == (None, None, None)
    assert rules_of(replace(HERE, lifetime=100.0), TOLD).deadline == pytest.approx(boot() + 100.0, abs=1.0)
    assert least_lifetime(replace(HERE, grace=10.0)) == 43.0


def test_no_business_at_an_offline_queue_or_without_a_runtime() -> None:
    view = View(1, 1 << 30, 1 << 30, "x86_64", "x86_64-v2")
    node = Capabilities("n", view, view, LimitedBy("", "", ""), runtime=RuntimeFinding("apptainer", works=True))
    assert refusal(FAR, node, TOLD) is None
    closed = refusal(FAR, node, replace(TOLD, queue_state="offline"))
    assert isinstance(closed, Passing)
    assert closed.fault.code is Code.SERVER_REFUSED
    none_works = replace(node, runtime=RuntimeFinding("apptainer", detail="no user namespaces"))
    unfit = refusal(FAR, none_works, TOLD)
    assert isinstance(unfit, Final)
    assert "no user namespaces" in unfit.fault.detail


@pytest.mark.parametrize(
    ("own", "queues", "shorter"),
    [(0.0, 0.0, 0.0), (50.0, 0.0, 50.0), (0.0, 70.0, 70.0), (50.0, 70.0, 50.0), (90.0, 70.0, 70.0)],
)
def test_of_two_lifetimes_the_shorter(own: float, queues: float, shorter: float) -> None:
    rules = rules_of(replace(FAR, lifetime=own), replace(TOLD, lifetime_seconds=queues))
    assert (rules.deadline is None) is (shorter == 0.0)
    assert seconds_left(rules) == pytest.approx(shorter, abs=2.0)


def test_what_is_left_of_a_lifetime_is_never_without_end() -> None:
    over = replace(rules_of(HERE, TOLD), deadline=boot() - 10.0)
    assert seconds_left(over) == 1.0
