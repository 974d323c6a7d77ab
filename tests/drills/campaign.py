"""Many rounds: every point at least once, then points, passages, victims and moments drawn by a seeded chance."""

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path

from tests.drills.menu import SCENARIOS, Scenario
from tests.drills.rounds import Blow, Drill, Plan, Result

AT_ONCE = 3  # rounds; most of a round is waiting
# A pilot of its own to be recovered from: what the second one passes is drilled too.
FIRST_BLOW = {
    "plain": "launcher.start.after", "checked": "order.store.before", "saver": "order.report.before",
    "told": "launcher.start.after", "preempted": "launcher.start.after", "parked": "order.store.after",
    "directory": "launcher.start.after", "sif": "order.validate.before",
}  # fmt: skip
LATEST_KILL_SECONDS = {"bare": 0.6, "apptainer": 1.2}
_VICTIMS = (("kill", 8), ("kill-supervisor", 1), ("kill-both", 2))


@dataclass
class Course:
    """What the pilots of one kind of round pass, in order; `before` is what struck the first of two."""

    scenario: Scenario
    before: str
    passed: Counter[str]


@dataclass
class Tally:
    """What a campaign came to."""

    rounds: int = 0
    struck: int = 0
    slowest: float = 0.0
    slowest_plan: str = ""
    seconds: list[float] = field(default_factory=list)
    by_scenario: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)

    def add(self, result: Result) -> None:
        self.rounds += 1
        self.struck += result.struck
        if result.slowest > self.slowest:
            self.slowest, self.slowest_plan = result.slowest, str(result.plan)
        self.seconds.append(result.seconds)
        self.by_scenario[result.plan.scenario.name] += 1
        self.violations += [f"{result.plan}: {each}" for each in result.violations]

    def __str__(self) -> str:
        middle = sorted(self.seconds)[len(self.seconds) // 2] if self.seconds else 0.0
        return (
            f"{self.struck} kills in {self.rounds} rounds (median {middle:.2f} s), {len(self.violations)} violations, "
            f"slowest settlement after a restart {self.slowest:.2f} s ({self.slowest_plan}); {dict(self.by_scenario)}"
        )


def survey(drill: Drill, folder: Path, scenarios: Sequence[Scenario] = SCENARIOS) -> tuple[list[Course], Tally]:
    """Plays every kind of round with no kill, and with one kill first, and notes what the pilot passes."""
    courses, tally = [], Tally()
    for scenario in scenarios:
        for before in ("", FIRST_BLOW.get(scenario.name, "")) if scenario.name in FIRST_BLOW else ("",):
            census = folder / f"census-{scenario.name}-{bool(before)}"
            blows = (Blow(f"{before}:kill"),) if before else ()
            tally.add(drill.run(Plan(scenario, blows, census=census)))
            courses.append(Course(scenario, before, Counter(census.read_text().split())))
    return courses, tally


def plans(courses: Sequence[Course], chance: random.Random) -> Iterator[Plan]:
    """Without end: first each point once, in the cheapest round that passes it, then what chance draws."""
    yield from _each_once(courses)
    while True:
        draw = chance.random()
        if draw < 0.25:
            yield _at_some_time(chance)
        else:
            yield _at_some_point(courses, chance, real=draw > 0.95)


def _each_once(courses: Sequence[Course]) -> Iterator[Plan]:
    seen: set[str] = set()
    for course in courses:
        for point in sorted(set(course.passed) - seen):
            seen.add(point)
            yield Plan(course.scenario, (*_first(course), Blow(f"{point}:kill")))


def _first(course: Course) -> tuple[Blow, ...]:
    return (Blow(f"{course.before}:kill"),) if course.before else ()


def _at_some_point(courses: Sequence[Course], chance: random.Random, real: bool) -> Plan:
    course = chance.choices(courses, [each.scenario.weight for each in courses])[0]
    point = chance.choice(sorted(course.passed))
    nth = chance.randint(1, course.passed[point])
    verb = "kill" if real else _victim(chance)
    return Plan(course.scenario, (*_first(course), Blow(f"{point}:{verb}@{nth}")), real=real)


def _at_some_time(chance: random.Random) -> Plan:
    scenario = chance.choices(SCENARIOS, [each.weight for each in SCENARIOS])[0]
    latest = LATEST_KILL_SECONDS[scenario.runtime]
    count = chance.choices((1, 2, 3), (6, 3, 1))[0]
    return Plan(scenario, tuple(Blow("", chance.uniform(0, latest), _victim(chance)) for _ in range(count)))


def _victim(chance: random.Random) -> str:
    return chance.choices([name for name, _ in _VICTIMS], [weight for _, weight in _VICTIMS])[0]


def campaign(
    drill: Drill, source: Iterator[Plan], kills: int, at_once: int = AT_ONCE, fails: int = 10
) -> Iterator[Result]:
    """Rounds until so many kills have struck, several at once; stops early after so many with violations."""
    struck = failed = 0
    with ThreadPoolExecutor(at_once) as pool:
        playing: set[Future[Result]] = set()
        while struck < kills and failed < fails:
            while len(playing) < at_once and (plan := next(source, None)):
                playing.add(pool.submit(drill.run, plan))
            if not playing:
                return
            done, playing = wait(playing, return_when=FIRST_COMPLETED)
            for each in done:
                result = each.result()
                struck += result.struck
                failed += bool(result.violations)
                yield result
        yield from (each.result() for each in playing)
