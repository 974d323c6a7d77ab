"""The steward as a table: what it knows, what it sees, what it wants."""

from dataclasses import replace

import pytest

from pilot.core import hearing
from pilot.core.steward import Rules, Stage, Steward, decide
from pilot.core.tally import Tally, tally
from pilot.core.wishes import Claim, Drop, EndAll, Leave, Look, Wish
from pilot.model.faults import Code
from pilot.model.job import Cause, Grant, Job, JobSpec, Needs, Phase
from pilot.model.orders import Kind
from pilot.model.visit import Notice

RULES = Rules("p")


def opened(**changes: object) -> Steward:
    return hearing.probed(Steward(replace(RULES, **changes)))  # type: ignore[arg-type]


def wishes(steward: Steward, seen: Tally, now: float = 0.0) -> tuple[Wish, ...]:
    return decide(steward, seen, now)[1]


def test_nothing_is_claimed_before_the_node_is_known() -> None:
    steward, wanted, wake = decide(Steward(RULES), Tally(free=2), 0)
    assert (steward.stage, wanted, wake) == (Stage.PROBING, (), None)


def test_being_known_opens_once() -> None:
    assert hearing.probed(Steward(RULES)).stage is Stage.OPEN
    left = Steward(RULES, Stage.LEFT)
    assert hearing.probed(left) == left
    assert decide(left, Tally(free=3), 0) == (replace(left, idle_since=0), (), None)


def test_the_first_claim_is_one_since_the_size_of_jobs_is_not_known() -> None:
    steward, wanted, _ = decide(opened(), Tally(free=8), 0)
    assert wanted == (Claim("p-1"),)
    assert decide(steward, Tally(free=8, claiming=("p-1",)), 0)[1] == ()


@pytest.mark.parametrize(
    ("rules", "seen", "count"),
    [
        ({}, Tally(free=8), 4),
        ({}, Tally(free=8, claiming=("x",)), 3),
        ({}, Tally(free=8, wanted=4, waiting=2), 2),
        ({}, Tally(free=1), 1),
        ({}, Tally(free=0, busy=4), 0),
        ({}, Tally(free=2, wanted=2, waiting=1), 0),
        ({"prefetch": 1}, Tally(free=0, busy=4), 1),
        ({"prefetch": 1}, Tally(free=0, busy=4, waiting=1, wanted=2), 0),
        ({"prefetch": 1}, Tally(free=8), 5),
        ({"max_jobs": 2}, Tally(free=8), 1),
    ],
)
def test_as_many_claims_as_jobs_could_start(rules: dict[str, object], seen: Tally, count: int) -> None:
    steward = hearing.granted(opened(**rules), "p-0", 2)
    assert len(wishes(steward, seen)) == count


def test_an_empty_queue_is_looked_at_before_it_is_asked_again() -> None:
    steward, _, _ = decide(opened(), Tally(free=2), 0)
    steward = hearing.nothing(steward, "p-1", 1.0, 1.0)
    steward, wanted, wake = decide(steward, Tally(free=2), 1.0)
    assert (wanted, wake) == ((), 1.25)
    steward, wanted, wake = decide(steward, Tally(free=2), 1.25)
    assert (wanted, wake) == ((Look(),), None)
    assert decide(steward, Tally(free=2), 9.0)[1] == ()
    unchanged, wanted, wake = decide(hearing.looked(steward, False, 1.3, 1.0), Tally(free=2), 1.3)
    assert (wanted, wake) == ((), 1.5)
    assert wishes(hearing.looked(unchanged, True, 3.0, 1.0), Tally(free=2), 3.0) == (Claim("p-2"),)


def test_a_look_that_lasted_needs_no_pause_after_it() -> None:
    steward = replace(opened(), empty=1, offered=2, looking=True, looked_at=10.0)
    assert wishes(hearing.looked(steward, False, 20.0, 1.0), Tally(free=2), 20.0) == (Look(),)


def test_a_look_waits_for_a_claim_on_its_way() -> None:
    steward = replace(hearing.granted(opened(), "p-0", 1), empty=1, offered=2)
    assert wishes(steward, Tally(free=2, claiming=("x",)), 9.0) == ()


def test_more_to_offer_is_a_reason_to_ask_at_once() -> None:
    steward, _, _ = decide(opened(), Tally(free=1), 0)
    steward = hearing.nothing(steward, "p-1", 1.0, 1.0)
    assert wishes(steward, Tally(free=2), 1.0) == (Claim("p-2"),)


def test_a_look_that_failed_is_tried_again_after_growing_pauses() -> None:
    steward, now, pauses = replace(opened(poll=0.25, poll_cap=0.25, retry=2.0, retry_cap=20.0), empty=1), 0.0, []
    for _ in range(5):
        steward, wanted, _ = decide(replace(steward, offered=2), Tally(free=2), now)
        assert wanted == (Look(),)
        steward = hearing.unseen(steward, now, 1.0)
        pauses.append(steward.next_ask - now)
        now = steward.next_ask
    assert pauses == [2.0, 4.0, 8.0, 16.0, 20.0]
    assert steward.failures == 5
    assert hearing.looked(steward, False, now, 1.0).failures == 0
    patient = replace(opened(poll=50.0, poll_cap=50.0), empty=1)
    assert hearing.unseen(patient, 0.0, 1.0).next_ask == 50.0


def test_what_becomes_free_does_not_wait_for_a_look_that_lasts() -> None:
    steward = replace(hearing.granted(opened(), "p-0", 1), empty=1, offered=1, looking=True)
    assert wishes(steward, Tally(free=1), 9.0) == ()
    asking, wanted, _ = decide(steward, Tally(free=2), 9.0)
    assert wanted == (Claim("p-1"), Claim("p-2"))
    assert wishes(asking, Tally(free=2, claiming=("p-1", "p-2")), 9.0) == ()


def test_pauses_grow_where_the_rules_let_them() -> None:
    steward, now, pauses = opened(poll=1.0, poll_cap=5.0), 0.0, []
    for _ in range(4):
        steward = hearing.nothing(steward, "p-1", now, 1.0)
        pauses.append(steward.next_ask - now)
        now = steward.next_ask
    assert pauses == [1.0, 2.0, 4.0, 5.0]
    assert hearing.nothing(opened(poll=7.0), "p-1", 0.0, 1.0).next_ask == 7.0
    assert hearing.nothing(opened(poll=7.0), "p-1", 0.0, 0.0).next_ask == 3.5, "half of it is chance"


def test_pauses_grow_for_a_queue_that_cannot_tell_whether_it_changed() -> None:
    steward, now, asked = replace(opened(poll=1.0, poll_cap=60.0), offered=2), 0.0, []
    for _ in range(5):
        steward = hearing.nothing(steward, "p-1", now, 1.0)
        now = steward.next_ask
        steward, wanted, _ = decide(steward, Tally(free=2), now)
        assert wanted == (Look(),)
        steward = hearing.looked(steward, True, now, 1.0)
        steward, wanted, _ = decide(steward, Tally(free=2), now)
        assert [type(each) for each in wanted] == [Claim]
        asked.append(now)
    assert asked == [1.0, 3.0, 7.0, 15.0, 31.0]
    given = hearing.granted(steward, "p-9", 1)
    assert (given.quiet, given.empty) == (0, 0), "a job is reason to hope again"


def test_claims_asked_together_are_one_empty_answer() -> None:
    steward = opened(poll=1.0, poll_cap=60.0)
    for each in range(8):
        steward = hearing.nothing(steward, f"p-{each}", 5.0, 1.0)
    assert steward.next_ask == 6.0


def test_a_claim_without_an_answer_keeps_its_id_and_its_delay_grows() -> None:
    steward, _, _ = decide(opened(), Tally(free=2), 0)
    steward = hearing.broke(steward, "p-1", 0.0, 1.0)
    seen = Tally(free=2, claiming=("p-1",))
    steward, wanted, wake = decide(steward, seen, 0.0)
    assert (wanted, wake) == ((), 0.5)
    steward, wanted, _ = decide(steward, seen, 0.5)
    assert wanted == (Claim("p-1"),)
    assert wishes(steward, seen, 0.6) == ()
    steward = hearing.broke(steward, "p-1", 1.0, 1.0)
    assert (steward.broken, steward.next_ask) == (("p-1",), 2.0)
    assert hearing.nothing(steward, "p-1", 2.0, 1.0).broken == ()
    assert hearing.granted(steward, "p-1", 1).failures == 0


@pytest.mark.parametrize(
    ("rules", "changes", "seen", "why"),
    [
        ({"max_jobs": 1}, {"claimed": 1}, Tally(busy=1), "max-jobs"),
        ({"deadline": 100.0}, {}, Tally(busy=1), "lifetime"),
        ({"floor": 50.0}, {"claimed": 1}, Tally(busy=1), "timefloor"),
        ({}, {}, Tally(busy=1, tainted=True), "tainted"),
        ({}, {"notice": Notice.DRAIN}, Tally(busy=1), "drain"),
        ({"idle_exit": 5.0}, {"empty": 1, "idle_since": 45.0}, Tally(claiming=("x",)), "idle"),
        ({"idle_exit": 5.0}, {"failures": 5, "idle_since": 45.0}, Tally(claiming=("x",)), "idle"),
        ({"idle_exit": 5.0}, {"asked_at": 40.0, "idle_since": 39.0}, Tally(claiming=("x",)), "idle"),
    ],
)
def test_reasons_to_drain(rules: dict[str, object], changes: dict[str, object], seen: Tally, why: str) -> None:
    steward, wanted, _ = decide(replace(opened(**rules), **changes), seen, 50.0)  # type: ignore[arg-type]
    assert (steward.stage, steward.why) == (Stage.DRAINING, why)
    assert wanted == tuple(Drop(each) for each in seen.claiming)


@pytest.mark.parametrize(
    ("rules", "changes", "seen"),
    [
        ({"max_jobs": 2}, {"claimed": 1}, Tally(busy=1)),
        ({"deadline": 111.0}, {}, Tally(busy=1)),
        ({"floor": 50.5}, {"claimed": 1}, Tally(busy=1)),
        ({"floor": 10.0}, {"empty": 1}, Tally()),
        ({"idle_exit": 5.0}, {"empty": 1, "idle_since": 45.5}, Tally()),
        ({"idle_exit": 5.0}, {"empty": 0, "failures": 4, "idle_since": 1.0}, Tally()),
        ({"idle_exit": 5.0}, {"asked_at": 40.1, "idle_since": 1.0}, Tally(claiming=("x",))),
        ({"idle_exit": 60.0}, {"asked_at": 30.0, "idle_since": 1.0}, Tally(claiming=("x",))),
        ({}, {"asked_at": 1.0, "idle_since": 1.0}, Tally(claiming=("x",))),
        ({"idle_exit": 5.0}, {"asked_at": 1.0, "idle_since": 1.0, "broken": ("x",)}, Tally(claiming=("x",))),
        ({"idle_exit": 5.0}, {"empty": 1}, Tally(busy=1)),
        ({"idle_exit": 5.0}, {"empty": 1, "idle_since": 1.0}, Tally(parked=1)),
    ],
)
def test_reasons_to_stay(rules: dict[str, object], changes: dict[str, object], seen: Tally) -> None:
    steward, _, _ = decide(replace(opened(**rules), **changes), seen, 50.0)  # type: ignore[arg-type]
    assert steward.stage is Stage.OPEN


def test_the_next_wake_is_the_first_of_what_may_happen_by_itself() -> None:
    steward = replace(opened(idle_exit=5.0, deadline=1000.0), empty=1, offered=2, next_ask=60.0, idle_since=50.0)
    assert decide(steward, Tally(free=2), 50.0)[2] == 55.0
    assert decide(replace(steward, next_ask=51.0), Tally(free=2), 50.0)[2] == 51.0
    assert decide(replace(steward, rules=replace(steward.rules, floor=52.0)), Tally(free=2), 50.0)[2] == 52.0
    assert decide(steward, Tally(free=0, busy=1), 50.0)[2] == 940.0


def test_a_pilot_that_is_told_to_drain_finishes_its_job_and_leaves() -> None:
    steward = hearing.notice(opened(), Notice.DRAIN)
    steward, wanted, _ = decide(steward, Tally(free=2, busy=1, claiming=("p-2",)), 1.0)
    assert wanted == (Drop("p-2"),)
    steward, wanted, _ = decide(steward, Tally(free=2), 2.0)
    assert (steward.stage, wanted) == (Stage.LEFT, (Leave(),))


def test_it_may_be_told_before_it_is_open() -> None:
    assert wishes(hearing.notice(Steward(RULES), Notice.STOP), Tally()) == (Leave(),)


def test_stop_ends_the_jobs_once_then_what_still_stores_then_leaves() -> None:
    steward = hearing.notice(opened(), Notice.STOP)
    steward, wanted, wake = decide(steward, Tally(busy=1), 1.0)
    assert (wanted, wake) == ((EndAll(Cause.PREEMPTED, Code.BATCH_PREEMPTED),), 28.0)
    steward, wanted, _ = decide(steward, Tally(busy=1), 27.9)
    assert wanted == ()
    steward, wanted, wake = decide(steward, Tally(busy=1), 28.0)
    assert (wanted, wake) == ((EndAll(Cause.TIME_UP, Code.BATCH_PREEMPTED),), 31.0)
    steward, wanted, _ = decide(steward, Tally(busy=1), 29.0)
    assert wanted == ()
    assert wishes(steward, Tally(parked=1), 29.5) == (Leave(),)


def test_a_pilot_that_must_leave_does_not_wait_for_a_queue_that_does_not_answer() -> None:
    steward = hearing.notice(opened(), Notice.STOP)
    steward, _, _ = decide(steward, Tally(busy=2, telling=1), 1.0)
    unheard = Tally(busy=1, telling=1)
    steward, wanted, _ = decide(steward, unheard, 28.0)
    steward, wanted, wake = decide(steward, unheard, 30.9)
    assert (wanted, wake) == ((), 31.0)
    assert wishes(steward, Tally(busy=2, telling=1), 31.0) == (), "what still ends or stores is waited for"
    assert wishes(steward, unheard, 31.0) == (Leave(),)


def test_a_pilot_that_need_not_leave_goes_on_telling() -> None:
    steward = hearing.notice(opened(), Notice.DRAIN)
    steward, _, _ = decide(steward, Tally(busy=1, telling=1), 1.0)
    assert wishes(steward, Tally(busy=1, telling=1), 10.0**6) == ()


def test_a_claim_that_hangs_does_not_keep_an_idle_pilot() -> None:
    """It is woken for it, and nothing is waited for but the moment that giving it back takes where it can be done."""
    steward, wanted, _ = decide(opened(idle_exit=2.0), Tally(free=1), 100.0)
    assert wanted == (Claim("p-1"),)
    hanging = Tally(free=1, claiming=("p-1",))
    steward, wanted, wake = decide(steward, hanging, 102.0)
    assert (steward.stage, wanted, wake) == (Stage.OPEN, (), 110.0)
    steward, wanted, _ = decide(steward, hanging, 110.0)
    assert (steward.why, wanted) == ("idle", (Drop("p-1"),))
    dropped = Tally(free=1, busy=1, telling=1, returning=1)
    steward, wanted, wake = decide(steward, dropped, 110.0)
    assert (wanted, wake) == ((), 113.0)
    assert wishes(steward, dropped, 113.0) == (Leave(),)


def test_a_stop_gives_claims_that_hang_less_time_than_reports() -> None:
    steward = hearing.notice(opened(), Notice.STOP)
    steward, wanted, _ = decide(steward, Tally(claiming=("p-1",), busy=1, telling=1), 1.0)
    assert wanted == (Drop("p-1"), EndAll(Cause.PREEMPTED, Code.BATCH_PREEMPTED))
    both, alone = Tally(busy=2, telling=2, returning=1), Tally(busy=1, telling=1, returning=1)
    steward, wanted, _ = decide(steward, both, 10.0)
    assert wanted == (), "a report has the whole window"
    steward, wanted, wake = decide(steward, alone, 11.0)
    assert (wanted, wake) == ((), 14.0)
    assert wishes(steward, replace(alone, parked=1), 14.0) == ()
    assert wishes(steward, alone, 14.0) == (Leave(),)


def test_a_second_stop_leaves_at_once() -> None:
    steward = hearing.notice(hearing.notice(opened(), Notice.STOP), Notice.STOP)
    assert wishes(steward, Tally(busy=1)) == (Leave(at_once=True),)


@pytest.mark.parametrize(
    ("first", "second", "heard"),
    [
        (Notice.DRAIN, Notice.DRAIN, Notice.DRAIN),
        (Notice.DRAIN, Notice.STOP, Notice.STOP),
        (Notice.STOP, Notice.DRAIN, Notice.STOP),
        (Notice.LEAVE, Notice.STOP, Notice.LEAVE),
    ],
)
def test_nothing_takes_a_notice_back(first: Notice, second: Notice, heard: Notice) -> None:
    assert hearing.notice(hearing.notice(opened(), first), second).notice is heard


def test_the_deadline_ends_what_draining_has_not() -> None:
    steward, wanted, wake = decide(opened(deadline=100.0), Tally(busy=1), 50.0)
    assert (steward.why, wanted, wake) == ("lifetime", (), 70.0)
    assert wishes(steward, Tally(busy=1), 70.0) == (EndAll(Cause.PREEMPTED, Code.BATCH_WALLTIME),)


def test_a_finished_pilot_waits_a_while_for_parked_outputs() -> None:
    steward = hearing.notice(opened(), Notice.DRAIN)
    steward, wanted, wake = decide(steward, Tally(parked=1), 10.0)
    assert (wanted, wake) == ((), 70.0)
    steward, wanted, _ = decide(steward, Tally(parked=1), 69.0)
    assert wanted == ()
    assert wishes(steward, Tally(parked=1), 70.0) == (Leave(),)


def test_asking_for_more_does_not_keep_a_pilot_whose_outputs_stay_parked() -> None:
    steward, _, _ = decide(replace(opened(idle_exit=5.0), empty=1, next_ask=1e9), Tally(parked=1), 10.0)
    for now in range(11, 70):
        steward, _, _ = decide(steward, Tally(parked=1, claiming=("p-1",) if now % 2 else ()), float(now))
        assert steward.stage is Stage.OPEN
    steward, _, wake = decide(steward, Tally(parked=1), 70.0)
    assert (steward.stage, wake) == (Stage.OPEN, 75.0)
    steward, wanted, _ = decide(steward, Tally(parked=1), 75.0)
    assert (steward.why, wanted) == ("idle", (Leave(),))


def test_the_tally_of_jobs() -> None:
    grant = Grant("1", 1, JobSpec("n", ("true",), needs=(Needs(3),)), 60.0)
    jobs = (
        Job("a"),
        Job("b", Phase.STAGING_IN, grant),
        Job("c", Phase.READY, grant),
        Job("d", Phase.RUNNING, grant, tainted=True),
        Job("e", Phase.PARKED, grant),
        Job("f", Phase.CLOSED, grant, open=((Kind.REPORT, 1),)),
        Job("g", Phase.CLOSED, grant),
        Job("h", Phase.CLOSED, grant, open=((Kind.REPORT, 1), (Kind.SWEEP, 2))),
        Job("i", Phase.CLOSED, open=((Kind.RETURN, 1),)),
    )
    assert tally(jobs, 5) == Tally(5, 6, 2, ("a",), 6, 1, tainted=True, telling=2, returning=1)


def test_jobs_of_an_earlier_pilot_count_as_claimed() -> None:
    steward = hearing.recovered(Steward(Rules("p", max_jobs=1)), 1)
    assert steward.claimed == 1
