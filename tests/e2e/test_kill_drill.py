"""The pilot, its supervisor, or both killed with -9 at every point and at any moment: nothing is lost, nothing doubled.

`PILOT_DRILL_KILLS=N` sets how many kills (scripts/soak: 10,000), `PILOT_DRILL_SEED=N` repeats a run.
"""

import os
import random
import sys
from collections.abc import Iterator

import pytest

from tests.drills.campaign import Course, Tally, campaign, plans, survey
from tests.drills.menu import SCENARIOS, USURPED
from tests.drills.mistakes import MISTAKES
from tests.drills.points import elsewhere, points
from tests.drills.rounds import Blow, Drill, Nursery, Plan

KILLS = int(os.environ.get("PILOT_DRILL_KILLS", "300"))
pytestmark = [pytest.mark.drill, pytest.mark.apptainer]
BY_NAME = {each.name: each for each in (*SCENARIOS, USURPED)}


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    made = Nursery()
    yield made
    made.close()


@pytest.fixture(scope="module")
def drill(nursery: Nursery, tmp_path_factory: pytest.TempPathFactory) -> Drill:
    return Drill(tmp_path_factory.mktemp("drill"), nursery)


@pytest.fixture(scope="module")
def courses(drill: Drill, tmp_path_factory: pytest.TempPathFactory) -> list[Course]:
    found, tally = survey(drill, tmp_path_factory.mktemp("census"))
    assert tally.violations == []
    return found


def test_every_point_that_the_code_lists_is_passed_or_named_with_its_reason(courses: list[Course]) -> None:
    passed = {point for course in courses for point in course.passed}
    assert passed <= points(), "a census hears of points that the code does not list"
    assert points() - passed == elsewhere()


def test_kills_at_every_point_and_at_any_moment(
    drill: Drill, courses: list[Course], capsys: pytest.CaptureFixture[str]
) -> None:
    seed = int(os.environ.get("PILOT_DRILL_SEED") or random.SystemRandom().randrange(1 << 32))
    tally = Tally()
    for result in campaign(drill, plans(courses, random.Random(seed)), KILLS):
        tally.add(result)
    with capsys.disabled():
        sys.stdout.write(f"\nkill drill: PILOT_DRILL_SEED={seed}: {tally}\n")
    assert tally.violations == []
    assert tally.struck >= KILLS


@pytest.mark.parametrize("point", ["launcher.start.after", "order.store.after", "order.report.before"])
@pytest.mark.parametrize("victim", ["kill", "kill-both"])
def test_a_pilot_that_comes_back_too_late_is_fenced(drill: Drill, point: str, victim: str) -> None:
    result = drill.run(Plan(USURPED, (Blow(f"{point}:{victim}"),)))
    assert result.violations == []
    assert result.struck == 1


PLANTED = {  # in which round, struck where, each mistake shows
    "orders-before-the-journal": ("plain", "queue.claim.after"),
    "no-journal": ("plain", "order.fetch.after"),
    "no-fencing": ("usurped", "launcher.start.after"),
    "no-adoption": ("saver", "launcher.start.after"),
    "stored-in-place": ("checked", "part.sync.before"),
    "stored-nothing": ("checked", ""),
    "wrong-sum": ("checked", ""),
    "no-archive": ("plain", ""),
    "no-report": ("checked", ""),
    "no-sweep": ("checked", ""),
    "no-stop-for-the-dead": ("usurped", "launcher.start.after"),
    "damaged-journal": ("plain", "order.store.before"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_planted_mistake_is_caught(drill: Drill, mistake: str) -> None:
    scenario, point = PLANTED[mistake]
    blows = (Blow(f"{point}:kill"),) if point else ()
    sound, spoilt = (drill.run(Plan(BY_NAME[scenario], blows, mistake=each)) for each in ("", mistake))
    assert sound.violations == []
    assert spoilt.violations != []
