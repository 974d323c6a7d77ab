"""Long looks at a served queue: who is woken, when, and by what; and work that is done together."""

import asyncio
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pilot.adapters.matcher_classad import ClassAdMatcher
from pilot.model.faults import Code
from pilot.model.job import Verdict
from pilot.model.report import Report
from pilot.ports import Beat, Final
from pilot.queue.service.desk import Desk
from pilot.queue.service.numbers import NoNumbers
from pilot.queue.store import open_store
from pilot.queue.users import LocalQueue
from tests.beds.served import Served, new_queue
from tests.contracts.server_beds import HandClock, ask, job, offer

LONG, SOON = 20.0, 3.0


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def served(folder: Path, clock: HandClock) -> Iterator[Served]:
    made = Served(new_queue(folder), clock)
    yield made
    made.close()


class Looker:
    """A pilot that found nothing and now looks for long, in a thread."""

    def __init__(self, served: Served, name: str = "p1") -> None:
        self.server = served.pilot()
        assert list(self.server.claim(ask(f"{name}-1", by=offer(name)))) == [None]
        assert not self.server.changed()
        self.pool = ThreadPoolExecutor(1)
        self.begun = time.monotonic()
        self.answer = self.pool.submit(self.server.changed, LONG)
        time.sleep(0.1)

    def seen_after(self) -> float:
        assert self.answer.result(LONG + 10)
        return time.monotonic() - self.begun

    def sees_nothing_for(self, seconds: float) -> bool:
        with pytest.raises(TimeoutError):
            self.answer.result(seconds)
        return True

    def close(self) -> None:
        self.pool.shutdown()
        self.server.close()


def test_a_job_that_comes_in_wakes_who_looks(served: Served) -> None:
    looker, anna = Looker(served), served.user("anna")
    anna.add([job("a")])
    assert looker.seen_after() < SOON
    assert looker.server.claim(ask("p1-2"))[0] is not None
    looker.close()
    anna.close()


def test_what_another_process_writes_wakes_too(served: Served, folder: Path) -> None:
    looker = Looker(served)
    store = open_store(folder / "queue.db")
    LocalQueue(store, ClassAdMatcher(), "owner").add([job("a")])
    store.close()
    assert looker.seen_after() < SOON
    looker.close()


def test_a_lease_that_runs_out_wakes_too(served: Served, clock: HandClock) -> None:
    anna, other = served.user("anna"), served.pilot()
    anna.add([job("a")])
    assert other.claim(ask("other"))[0] is not None
    looker = Looker(served)
    clock.move(61)
    assert looker.seen_after() < SOON
    for each in (looker, anna, other):
        each.close()


def test_what_frees_nothing_wakes_nobody(served: Served) -> None:
    """Grants, heartbeats, offers, jobs that succeed: a thousand idle pilots must not ask for each of them."""
    anna, other = served.user("anna"), served.pilot()
    anna.add([job(name) for name in "abcd"])
    grants = [each for each in other.claim(ask("1", "2", "3", "4", by=offer("other"))) if each is not None]
    looker = Looker(served)
    other.register(offer("new"))
    other.renew([])
    other.report([Report(grants[0].job_id, 1, "a", Verdict.SUCCEEDED, "", "")])
    other.claim(ask("5", by=offer("third")))
    anna.find()
    assert looker.sees_nothing_for(1.0)
    other.report([Report(grants[1].job_id, 1, "b", Verdict.FAILED, "", "")])
    assert looker.seen_after() < SOON
    for each in (looker, anna, other):
        each.close()


def test_a_success_that_others_wait_for_wakes(served: Served) -> None:
    anna, other = served.user("anna"), served.pilot()
    anna.add([job("a"), job("b", after=("a",))])
    (grant,) = other.claim(ask("1"))
    assert grant is not None
    looker = Looker(served)
    other.report([Report(grant.job_id, 1, "a", Verdict.SUCCEEDED, "", "")])
    assert looker.seen_after() < SOON
    for each in (looker, anna, other):
        each.close()


def test_who_looks_while_the_service_ends_is_answered(folder: Path) -> None:
    served = Served(new_queue(folder))
    looker = Looker(served)
    begun = time.monotonic()
    served.close()
    assert looker.answer.result(5) is False
    assert time.monotonic() - begun < 3
    looker.close()


def test_a_version_of_an_earlier_life_is_always_old(folder: Path) -> None:
    first = Served(new_queue(folder))
    pilot = first.pilot()
    pilot.claim(ask("1"))
    before = pilot._since
    pilot.close()
    first.close()
    second = Served(new_queue(folder))
    again = second.pilot()
    again.claim(ask("2"))
    again._since = before
    assert again.changed()
    again.close()
    second.close()


def test_who_could_not_renew_while_nobody_served_comes_before_those_who_are_idle(folder: Path) -> None:
    clock = HandClock()
    first = Served(new_queue(folder, lease=60.0), clock)
    owner, busy = first.user("owner"), first.pilot()
    owner.add([job("a"), job("b")])
    grants = [each for each in busy.claim(ask("1", "2")) if each is not None]
    for each in (owner, busy):
        each.close()
    first.close()
    clock.move(300)
    second = Served(new_queue(folder, lease=60.0), clock)
    idle, busy = second.pilot(), second.pilot()
    assert list(idle.claim(ask("3", by=offer("p2")))) == [None]
    clock.move(59)
    assert list(idle.claim(ask("4", by=offer("p2")))) == [None]
    assert [each.ours for each in busy.renew([Beat(grants[0].job_id, 1, "running")])] == [True]
    clock.move(2)
    [found] = idle.claim(ask("5", by=offer("p2")))
    assert found is not None
    assert (found.job_id, found.attempt) == (grants[1].job_id, 2), "who was not heard of by then has lost it"
    for each in (idle, busy):
        each.close()
    second.close()


def test_many_looks_hold_no_threads(served: Served) -> None:
    lookers = [Looker(served, f"p{number}") for number in range(5)]
    own = {each.name for each in threading.enumerate() if each.name.startswith(("queue", "reader", "asyncio"))}
    more = [Looker(served, f"q{number}") for number in range(5)]
    after = {each.name for each in threading.enumerate() if each.name.startswith(("queue", "reader", "asyncio"))}
    assert len(after - own) < 3, "verifying tokens may take one more of them, looking none"
    anna = served.user("anna")
    anna.add([job("a")])
    assert max(each.seen_after() for each in [*lookers, *more]) < SOON + 2
    for each in (*lookers, *more, anna):
        each.close()


# --- the desk ---


def test_what_waits_together_is_done_together() -> None:
    rounds: list[list[int]] = []
    gate = threading.Event()

    def work(items: Sequence[int]) -> list[int]:
        gate.wait(5)
        rounds.append(list(items))
        return [each * 2 for each in items]

    async def all_of_them() -> list[Sequence[int]]:
        desk = Desk("test", NoNumbers())
        waiting = [asyncio.create_task(desk.join("kind", "name", [each, each + 100], work)) for each in range(20)]
        await asyncio.sleep(0.1)
        gate.set()
        answers = await asyncio.gather(*waiting)
        desk.close()
        return list(answers)

    assert asyncio.run(all_of_them()) == [[2 * each, 2 * each + 200] for each in range(20)]
    assert len(rounds) == 2, "the first was at work already, the others waited together"


def test_a_round_that_fails_is_tried_one_by_one() -> None:
    def work(items: Sequence[int]) -> list[int]:
        if 13 in items:
            raise Final(Code.JOB_INVALID, "thirteen")
        return list(items)

    async def all_of_them() -> list[object]:
        desk = Desk("test", NoNumbers())
        asked = [desk.join("kind", "name", [each], work) for each in (1, 13, 2)]
        answers = await asyncio.gather(*asked, return_exceptions=True)
        desk.close()
        return list(answers)

    one, thirteen, two = asyncio.run(all_of_them())
    assert (one, two) == ([1], [2])
    assert isinstance(thirteen, Final)


def test_nobody_hangs_when_the_work_breaks_in_a_way_that_nobody_expects() -> None:
    def work(_items: Sequence[int]) -> list[int]:
        raise KeyError("a bug")

    async def all_of_them() -> list[object]:
        desk = Desk("test", NoNumbers())
        asked = [asyncio.wait_for(desk.join("kind", "name", [each], work), 5) for each in (1, 2)]
        answers = await asyncio.gather(*asked, return_exceptions=True)
        desk.close()
        return list(answers)

    assert [type(each) for each in asyncio.run(all_of_them())] == [KeyError, KeyError]
