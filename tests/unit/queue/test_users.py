"""The queue as its users see it: adding, finding, changing, and why a job waits."""

from pathlib import Path

import pytest

from pilot.model.faults import Code
from pilot.model.files import CodePack
from pilot.model.job import Verdict
from pilot.model.queue import JobState, QueueState, Submission
from pilot.model.report import Report
from pilot.ports import Final
from tests.contracts.server_beds import LEASE, LocalBed, ask, job, needs, offer

# --- adding ---


def test_ids_are_in_order_of_arrival_and_fit_for_a_directory(bed: LocalBed) -> None:
    rows = bed.user("ada").add([job(f"j{n}") for n in range(40)])
    ids = [each.job_id for each in rows]
    assert len(set(ids)) == 40
    assert sorted(ids) == ids
    assert all(len(each) == 13 and each.isalnum() and each == each.lower() for each in ids)
    assert {(each.owner, each.attempt, each.state, each.verdict) for each in rows} == {("ada", 0, JobState.WAITING, "")}


@pytest.mark.parametrize("wrong", ["../x", "", "a/b", ".hidden", "a b", "x" * 129, "é"])
def test_ids_of_the_users_own(bed: LocalBed, wrong: str) -> None:
    assert bed.user().add([job(job_id="My-id_1.0+x")])[0].job_id == "My-id_1.0+x"
    if wrong:
        with pytest.raises(Final, match="letters, digits"):
            bed.user().add([job(job_id=wrong)])


@pytest.mark.parametrize(
    ("jobs", "why"),
    [
        ([job("a", job_id="x"), job("b", job_id="x")], "there is a job with the id x already"),
        ([job("a", after=("zz",))], "a: after: no job 'zz'"),
        ([job("a"), job("a"), job("b", after=("a",))], "2 jobs are named 'a'; give an id"),
        ([job("a", after=("b",)), job("b", after=("c",)), job("c", after=("a",))], "after: a circle: "),
        ([job("a", after=("a",))], "after: a circle: a after a"),
        ([job("a", priority=1 << 40)], "priority 1099511627776: too large"),
        ([job("a", requirements="time() > 1")], "may not be called"),
        ([Submission(job("a", code=CodePack("0" * 64, 3)).spec, code=b"abc")], "not the one that its digest names"),
    ],
)
def test_one_wrong_job_and_none_is_taken(bed: LocalBed, jobs: list[Submission], why: str) -> None:
    with pytest.raises(Final, match=why) as refused:
        bed.user().add([job("good"), *jobs])
    assert refused.value.fault.code is Code.JOB_INVALID
    assert list(bed.user().find()) == []


def test_after_takes_ids_and_names_and_shows_ids(bed: LocalBed) -> None:
    user = bed.user()
    (old,) = user.add([job("old")])
    rows = user.add([job("a", job_id="my-a"), job("b", after=("a", old.job_id, "my-a"))])
    assert user.show("b").spec.after == ("my-a", old.job_id)
    assert set(user.show("b").waits_for) == {"my-a", old.job_id}
    assert rows[1].state is JobState.WAITING


def test_what_has_succeeded_is_not_waited_for(bed: LocalBed) -> None:
    (old,) = bed.user().add([job("old")])
    (grant,) = bed.pilot().claim(ask("1"))
    assert grant is not None
    bed.pilot().report([Report(old.job_id, 1, "old", Verdict.SUCCEEDED, "", "")])
    bed.user().add([job("new", after=(old.job_id,))])
    (grant,) = bed.pilot().claim(ask("2"))
    assert grant is not None
    assert grant.spec.name == "new"


def test_an_id_wins_over_a_name(bed: LocalBed) -> None:
    bed.user().add([job("a", job_id="b"), job("b", job_id="c"), job("d", after=("b",))])
    assert bed.user().show("d").spec.after == ("b",)
    assert bed.user().show("b").job.name == "a"


# --- finding and changing ---


def test_find_filters(bed: LocalBed) -> None:
    bed.user("ada").add([job("a"), job("b")])
    bed.user("bob").add([job("c")])
    bed.user("ada").hold(["b"])
    user = bed.user()
    assert [each.name for each in user.find()] == ["a", "b", "c"]
    assert [each.name for each in user.find(owner="ada")] == ["a", "b"]
    assert [each.name for each in user.find([JobState.HELD])] == ["b"]
    assert [each.name for each in user.find([JobState.HELD, JobState.WAITING], limit=2)] == ["a", "b"]


def test_jobs_that_are_not_there_or_not_one(bed: LocalBed) -> None:
    bed.user().add([job("a"), job("a")])
    with pytest.raises(Final, match="no job 'zz'; see pilot queue ls"):
        bed.user().show("zz")
    with pytest.raises(Final, match="several jobs are named 'a'; give an id"):
        bed.user().hold(["a"])


def test_others_jobs_are_left_alone(bed: LocalBed) -> None:
    bed.user("ada").add([job("a"), job("b")])
    with pytest.raises(Final, match="belongs to ada, not to eve"):
        bed.user("eve").cancel(["a"])
    assert [each.verdict for each in bed.user("owner").cancel(["a"])] == ["cancelled"]
    assert [each.verdict for each in bed.user("root").cancel(["b"])] == ["cancelled"]


def test_changes_are_made_to_all_or_none(bed: LocalBed) -> None:
    bed.user().add([job("a")])
    with pytest.raises(Final, match="no job 'zz'"):
        bed.user().hold(["a", "zz"])
    assert bed.user().show("a").job.state is JobState.WAITING


def test_done_is_done(bed: LocalBed) -> None:
    user = bed.user()
    user.add([job("a")])
    user.cancel(["a"])
    before = user.show("a")
    user.hold(["a"])
    user.release(["a"])
    user.checkpoint(["a"])
    user.cancel(["a"])
    assert user.show("a") == before
    assert before.fault is not None
    assert before.fault.detail == "by owner, before it ran"


def test_cancelling_a_predecessor_ends_its_successors(bed: LocalBed) -> None:
    user = bed.user()
    user.add([job("a"), job("b", after=("a",)), job("c", after=("b",))])
    user.hold(["c"])
    user.cancel(["a"])
    assert [each.verdict for each in user.find()] == ["cancelled", "failed", "failed"]


# --- explaining ---


def test_the_state_is_the_first_reason(bed: LocalBed) -> None:
    user, pilot = bed.user(), bed.pilot()
    user.add([job("a"), job("b", after=("a",)), job("c"), job("d")])
    user.hold(["c"])
    assert user.explain("d").clause == "offers"
    grants = pilot.claim(ask("1", by=offer("p7")))
    assert grants[0] is not None
    explained = user.explain("a")
    assert explained.clause == "state"
    assert explained.offered.startswith("pilot p7 has attempt 1 until 2027-01-15T08:01:00+00:00")
    assert (user.explain("b").clause, user.explain("b").offered) == ("after", "granted")
    assert user.explain("c").attribute == "held"
    bed.set_state(QueueState.DRAIN)
    assert (user.explain("d").clause, user.explain("d").offered) == ("queue", "drain")
    bed.set_state(QueueState.TEST)
    bed.user("guest").add([job("g")])
    assert user.explain("g").attribute == "owner"


def test_how_a_job_ended_is_told(bed: LocalBed) -> None:
    bed.user().add([job("a", attempts=1)])
    pilot = bed.pilot()
    (grant,) = pilot.claim(ask("1"))
    assert grant is not None
    from pilot.model.faults import fault

    why = fault(Code.PAYLOAD_EXIT, "exit code 3")
    pilot.report([Report(grant.job_id, 1, "a", Verdict.FAILED, "", "", fault=why)])
    assert bed.user().explain("a").offered == "failed: payload.exit: exit code 3: 1 of 1 attempts failed"


def test_the_nearest_miss_is_the_offer_that_got_furthest(bed: LocalBed) -> None:
    user, pilot = bed.user(), bed.pilot()
    user.add([job("a", needs=needs(2), requirements='TARGET.Cpus > 1 && TARGET.Microarch >= "x86_64-v4"')])
    pilot.register(offer("small", cpus=1))
    explained = user.explain("a")
    assert (explained.clause, explained.attribute, explained.wanted, explained.offered) == (
        "needs.cpus",
        "Cpus",
        "2",
        "1",
    )
    bed.clock.move(10)
    pilot.register(offer("near"))
    bed.clock.move(10)
    pilot.register(offer("tiny", cpus=1))
    explained = user.explain("a")
    assert explained.clause == "requirements"
    assert explained.attribute == "Microarch"
    assert explained.wanted == 'TARGET.Microarch >= "x86_64-v4"'
    assert explained.offered == "x86_64-v3"
    assert explained.nearest is not None
    assert (explained.nearest.offer, explained.nearest.seen_at) == ("node/near", "2027-01-15T08:00:10+00:00")


def test_a_job_that_fits_waits_its_turn(bed: LocalBed) -> None:
    user = bed.user()
    user.add([job("a"), job("b", priority=3), job("c")])
    bed.pilot().register(offer())
    explained = user.explain("c")
    assert (explained.clause, explained.offered) == ("order", "2 jobs are ahead; an offer fits")


def test_a_wait_that_is_over_is_no_reason_any_more(bed: LocalBed) -> None:
    from pilot.model.faults import fault

    user, pilot = bed.user(), bed.pilot()
    user.add([job("a")])
    (grant,) = pilot.claim(ask("1"))
    assert grant is not None
    why = fault(Code.IMAGE_MISSING, "none here")
    pilot.report([Report(grant.job_id, 1, "a", Verdict.FAILED, "", "", fault=why)])
    assert user.explain("a").clause == "delay"
    bed.clock.move(3600)
    assert user.explain("a").clause == "order"


def test_offers_are_seen_when_claims_come_and_forgotten_after_a_week(bed: LocalBed) -> None:
    user, pilot = bed.user(), bed.pilot()
    user.add([job("a", needs=needs(64))])
    pilot.claim(ask("1"))
    nearest = user.explain("a").nearest
    assert nearest is not None
    bed.clock.move(61)
    pilot.claim(ask("2"))
    again = user.explain("a").nearest
    assert again is not None
    assert again.seen_at > nearest.seen_at
    bed.clock.move(8 * 86400)
    bed.pilot().register(offer("new", cpus=2))
    assert user.explain("a").offered == "2"


# --- the clock ---


def test_a_clock_that_jumps_costs_work_and_no_result(bed: LocalBed) -> None:
    bed.user().add([job("a")])
    first, second = bed.pilot(), bed.pilot()
    (old,) = first.claim(ask("1"))
    bed.clock.move(86400)
    (new,) = second.claim(ask("2"))
    bed.clock.move(-86400)
    assert old is not None
    assert new is not None
    done = [Report(each.job_id, each.attempt, "a", Verdict.SUCCEEDED, "", "") for each in (old, new)]
    assert list(first.report(done)) == [False, True]
    bed.clock.move(LEASE)
    assert [each.attempt for each in bed.user().results("a")] == [2]


def test_many_shapes_cost_one_look_each(bed: LocalBed, tmp_path: Path) -> None:
    bed.user().add([job(f"j{n}", needs=needs(1 + n % 30)) for n in range(300)])
    store = bed.store()
    with store.reading() as db:
        assert db.execute("SELECT count(*) FROM shape").fetchone()[0] == 30
        from pilot.queue import fate, lanes, shapes, users

        for text, given in (
            (lanes.CHANGED, ("default", 1)),
            (lanes.WAITING, ("default",)),
            (shapes.HEAD, ("default", 1)),
            (users.IN_STATE[JobState.GRANTED], ("default", "", "")),
            (users.IN_STATE[JobState.HELD], ("default", "", "")),
            (fate.OVERDUE, (0.0,)),
            (fate.OF_JOB, ("x", 1)),
        ):
            plan = [str(row["detail"]) for row in db.execute(f"EXPLAIN QUERY PLAN {text}", given)]
            assert not [each for each in plan if each.startswith("SCAN job") and "INDEX" not in each], plan
            assert text != lanes.CHANGED or any("SEARCH lane USING" in each and "lane_stamp" in each for each in plan)


@pytest.mark.parametrize(
    "spec", ["{", "[" * 100_000, '{"name":"x","command":["x"],"needs":[]}', '{"name":"x","evil":1}']
)
def test_a_row_that_nobody_can_read_fails_and_holds_nobody_up(bed: LocalBed, spec: str) -> None:
    bad, good = bed.user().add([job("bad"), job("good", network="outbound")])
    with bed.store().writing() as db:
        damage = "UPDATE template SET body = ? WHERE template = (SELECT template FROM job WHERE job_id = ?)"
        db.execute(damage, (spec, bad.job_id))
    [grant] = bed.pilot().claim(ask("claim-1"))
    assert grant is not None
    assert grant.job_id == good.job_id
    assert {each.job_id: each.verdict for each in bed.user().find()} == {bad.job_id: "failed", good.job_id: ""}
