"""A thousand pilots and one server that goes and comes back, in simulated time: who asks when, and what is lost.

Nothing of the pilots is imitated: stewards decide, tenures renew, alarms repeat reports. Only the server, the crew and
the clock are the simulation's, and answers take no time.
"""

import heapq
import random
from collections.abc import Callable
from itertools import pairwise
from types import SimpleNamespace
from typing import Any, cast

import pytest

from pilot.core import hearing
from pilot.core.steward import Rules, Steward, decide
from pilot.core.tally import Tally
from pilot.core.wishes import Claim, Look
from pilot.model.facts import End, Fact
from pilot.model.job import Grant, Job, JobSpec, Phase
from pilot.ports import BeatReply
from pilot.shell.alarms import Alarms
from pilot.shell.crew import Crew
from pilot.shell.desk import Desk
from pilot.shell.errands import LONG_LOOK, Beaten
from pilot.shell.tenure import Tenure
from pilot.shell.timers import Timers

Due = Callable[[], None]
STARTS_WITHIN = 600.0  # pilots do not begin together


class World:
    """Simulated time, and a server that is down between two moments."""

    def __init__(self, down: float, up: float, seed: int = 1) -> None:
        self.now = 0.0
        self.chance = random.Random(seed)
        self.down, self.up = down, up
        self.requests: list[tuple[float, int]] = []  # when, and whose
        self._heap: list[tuple[float, int, Due]] = []
        self._count = 0

    def at(self, moment: float, due: Due) -> None:
        self._count += 1
        heapq.heappush(self._heap, (max(moment, self.now), self._count, due))

    def run(self, until: float) -> None:
        while self._heap and self._heap[0][0] <= until:
            self.now, _, due = heapq.heappop(self._heap)
            due()

    def ask(self, who: int) -> bool:
        """One request; whether the server answers."""
        self.requests.append((self.now, who))
        return not self.down <= self.now < self.up

    def back(self) -> list[float]:
        """When each pilot first asked after the server was back, in seconds from then."""
        first: dict[int, float] = {}
        for moment, who in self.requests:
            if moment >= self.up:
                first.setdefault(who, moment - self.up)
        return sorted(first.values())

    def busiest_second(self, since: float, until: float) -> int:
        moments = [moment for moment, _ in self.requests if since <= moment < until]
        starts = range(len(moments))
        ends, most = 0, 0
        for start in starts:
            while ends < len(moments) and moments[ends] < moments[start] + 1.0:
                ends += 1
            most = max(most, ends - start)
        return most


class Idle:
    """A pilot with nothing to do, on a queue that answers late where nothing changes (or, `blind`, cannot tell)."""

    def __init__(self, world: World, name: int, blind: bool) -> None:
        self.world, self.name, self.blind = world, name, blind
        self.claiming: tuple[str, ...] = ()
        rules = Rules(f"p{name}", poll=2.0, poll_cap=60.0, retry=2.0)
        self.steward = hearing.probed(Steward(rules))
        self._wake: float | None = None
        world.at(world.chance.uniform(0, STARTS_WITHIN), self.turn)

    def turn(self) -> None:
        self.steward, wishes, wake = decide(self.steward, Tally(free=1, claiming=self.claiming), self.world.now)
        for each in wishes:
            self._look() if isinstance(each, Look) else self._claim(cast(Claim, each).claim_id)
        if not wishes and wake is not None and wake != self._wake:
            self._wake = wake
            self.world.at(wake, lambda: self.turn() if wake == self._wake else None)

    def _claim(self, key: str) -> None:
        chance = self.world.chance.random()
        if self.world.ask(self.name):
            self.claiming = ()
            self.steward = hearing.nothing(self.steward, key, self.world.now, chance)
        else:
            self.claiming = (key,)
            self.steward = hearing.broke(self.steward, key, self.world.now, chance)
        self.turn()

    def _look(self) -> None:
        now = self.world.now
        if not self.world.ask(self.name):
            self._looked(None)
        elif self.blind:
            self._looked(True)
        elif now < self.world.down <= now + LONG_LOOK:
            self.world.at(self.world.down, lambda: self._looked(None))
        else:
            self.world.at(now + LONG_LOOK, lambda: self._looked(False))

    def _looked(self, changed: bool | None) -> None:
        now, chance = self.world.now, self.world.chance.random()
        if changed is None:
            self.steward = hearing.unseen(self.steward, now, chance)
        else:
            self.steward = hearing.looked(self.steward, changed, now, chance)
        self.turn()


class Busy:
    """A pilot with one job, whose lease it keeps."""

    def __init__(self, world: World, name: int, lease: float) -> None:
        self.world, self.name, self.lease = world, name, lease
        self.timers, self.ends = Timers(), list[Fact]()
        self._alarm: float | None = None
        self.job = Job("k", Phase.RUNNING, Grant(str(name), 1, JobSpec("n", ("true",)), lease))
        errands = SimpleNamespace(beat=self._beat)
        desk = SimpleNamespace(errands=errands, unit_random=world.chance.random, eyes=None)
        self.tenure = Tenure(cast(Desk, desk), self.timers, lambda: world.now, self.ends.append)
        self.crew = cast(Crew, SimpleNamespace(beat=lambda action, _: action()))
        world.at(world.chance.uniform(0, STARTS_WITHIN), self._begin)

    def _begin(self) -> None:
        self.tenure.leases.take("k", self.world.now, self.lease)
        self._plan()

    def _plan(self) -> None:
        self.tenure.plan(self._due, lambda: None)
        moment = self.timers.next()
        if moment is not None and moment != self._alarm and not self.ends:
            self._alarm = moment
            self.world.at(moment, lambda: self._ring(moment))

    def _ring(self, moment: float) -> None:
        if moment == self._alarm:
            self.timers.ring(self.world.now)
            self._plan()

    def _due(self) -> None:
        self.tenure.beat([self.job], self.crew, cast(Any, self._heard))

    def _beat(self, beats: object, asked: float) -> Beaten:
        if not self.world.ask(self.name):
            return Beaten(asked, problem="connection refused")
        return Beaten(asked, (BeatReply(str(self.name), 1, True, self.lease),))

    def _heard(self, beaten: Beaten) -> None:
        if self.tenure.heard(beaten, self._due):
            self.tenure.settle("k", beaten.replies[0], beaten.asked)


class Telling:
    """A pilot whose job ended at some time during the outage, and that has only its report left."""

    def __init__(self, world: World, name: int) -> None:
        self.world, self.name = world, name
        self.taken: float | None = None
        self.timers = Timers()
        self.alarms = Alarms(self.timers, lambda: world.now, lambda _: None, world.chance.random, {})
        world.at(world.chance.uniform(world.down, world.up - 60), self._send)

    def _send(self) -> None:
        if self.world.ask(self.name):
            self.taken = self.world.now
            return
        self.alarms.report_pause("k", self._send)
        moment = self.timers.next()
        if moment is not None:
            self.world.at(moment, lambda: self.timers.ring(self.world.now))
        else:
            raise AssertionError("a report that failed is not sent again")


def _first_report_goes_at_once(each: Telling) -> None:
    each.alarms.report_pause("k", lambda: None)


@pytest.mark.parametrize("seed", [1, 2])
def test_a_thousand_pilots_come_back_over_a_minute(seed: int) -> None:
    world = World(2000.0, 2600.0, seed)
    pilots: list[object] = [Idle(world, number, blind=number % 2 == 0) for number in range(500)]
    pilots += [Busy(world, number, 7200.0) for number in range(500, 800)]
    telling = [Telling(world, number) for number in range(800, 1000)]
    for each in telling:
        _first_report_goes_at_once(each)
    world.run(4000.0)
    back = world.back()
    # Those whose next regular heartbeat or look is not due sooner come later still: nobody was made to hurry.
    assert len(back) == 1000
    assert back[989] - back[9] >= 60.0, "the middle 98 %"
    assert world.busiest_second(2600.0, 3300.0) <= 60
    assert world.busiest_second(2050.0, 2600.0) <= 60, "nor is a dead server hammered"
    assert all(each.taken is not None and each.taken <= 2600.0 + 90.0 for each in telling)


def test_when_it_goes_they_do_not_all_turn_on_it() -> None:
    """Every long look breaks at once; the next request of those pilots is spread all the same."""
    world = World(2000.0, 2600.0)
    for number in range(1000):
        Idle(world, number, blind=False)
    world.run(2100.0)
    assert world.busiest_second(2000.0, 2100.0) <= 200


@pytest.mark.parametrize(
    ("lease", "outage"),
    [(60.0, 3.0), (60.0, 45.0), (60.0, 55.0), (60.0, 590.0), (300.0, 295.0), (7200.0, 7000.0), (1.0, 0.9), (1.0, 60.0)],
)
def test_silence_alone_costs_nothing(lease: float, outage: float) -> None:
    """Shorter than the lease or longer: nobody but the queue can say that an attempt is somebody else's."""
    world = World(1000.0, 1000.0 + outage)
    pilots = [Busy(world, number, lease) for number in range(100 if lease > 1 else 20)]
    world.run(1000.0 + outage - 0.001)
    assert [each.ends for each in pilots if each.ends] == []
    world.run(1000.0 + outage + max(lease, 90.0))
    assert [each.ends for each in pilots if each.ends] == []
    assert all(each.tenure.leases.trusted("k", world.now) for each in pilots)


def test_while_the_queue_is_silent_leases_are_trusted_no_more_and_asked_for_calmly() -> None:
    world = World(1000.0, 1400.0)
    pilots = [Busy(world, number, 60.0) for number in range(300)]
    world.run(1060.0)
    assert not any(each.tenure.leases.trusted("k", world.now) for each in pilots)
    world.run(1400.0)
    asked = [sum(who == each.name for moment, who in world.requests if moment >= 1060.0) for each in pilots]
    assert min(asked) >= 340.0 / 10.0, "each goes on asking"
    assert max(asked) <= 340.0 / 5.0 + 1
    assert world.busiest_second(1060.0, 1400.0) <= 100
    world.run(1410.0)
    assert max(world.back()) <= 10.0, "who computes is back before those who are idle"


def test_a_silence_of_ten_minutes_beyond_the_lease_ends_the_jobs() -> None:
    """A pilot without a lifetime, cut off for good, does not compute for ever."""
    world = World(1000.0, 9000.0)
    pilots = [Busy(world, number, 60.0) for number in range(100)]
    world.run(1000.0 + 40.0 + 599.0)
    assert [each.ends for each in pilots if each.ends] == []
    world.run(1000.0 + 60.0 + 601.0)
    for each in pilots:
        [end] = each.ends
        assert isinstance(end, End)
        assert (end.cause, end.fault and end.fault.code) == ("fenced", "server.unreachable")


@pytest.mark.parametrize(("lease", "gap"), [(60.0, 20.0), (1800.0, 600.0), (7200.0, 600.0)])
def test_heartbeats_keep_to_their_rule(lease: float, gap: float) -> None:
    """A third of the lease, and at most ten minutes: a cancel arrives with the answer."""
    world = World(1e9, 1e9)
    Busy(world, 1, lease)
    world.run(STARTS_WITHIN + 10 * gap)
    moments = [moment for moment, _ in world.requests]
    assert len(moments) >= 9
    assert all(later - before == pytest.approx(gap) for before, later in pairwise(moments))
