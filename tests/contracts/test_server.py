"""What every queue owes to a pilot, whichever it is and however it is reached."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from pilot.model.faults import Code, fault
from pilot.model.files import CodePack, Resume
from pilot.model.job import Grant, Verdict
from pilot.model.queue import JobState, QueueState, Submission
from pilot.model.report import Report
from pilot.ports import Beat, Final, Server, Unclaim
from tests.contracts.server_beds import BEDS, LEASE, LocalBed, ask, job, needs, offer


@pytest.fixture(params=BEDS)
def bed(request: pytest.FixtureRequest, folder: Path) -> Iterator[LocalBed]:
    made = BEDS[request.param](folder)
    yield made
    made.close()


def report(grant: Grant, verdict: Verdict = Verdict.SUCCEEDED, code: Code | None = None, **more: object) -> Report:
    return Report(
        job_id=grant.job_id,
        attempt=grant.attempt,
        name=grant.spec.name,
        verdict=verdict,
        started="2026-11-20T00:00:00+00:00",
        ended="2026-11-20T00:01:00+00:00",
        fault=fault(code) if code else None,
        **more,  # type: ignore[arg-type]
    )


def claim_one(server: Server, claim_id: str, by: object = None) -> Grant:
    (grant,) = server.claim(ask(claim_id, by=by))  # type: ignore[arg-type]
    assert grant is not None
    return grant


def beat(grant: Grant) -> list[Beat]:
    return [Beat(grant.job_id, grant.attempt, "running", '{"step": 3}')]


# --- claiming ---


def test_registration_tells_the_lease(bed: LocalBed) -> None:
    registration = bed.pilot().register(offer())
    assert (registration.lease_seconds, registration.queue_state) == (LEASE, "online")
    assert registration.poll_seconds == 0.25


def test_the_first_grant_is_attempt_1_and_carries_the_job(bed: LocalBed) -> None:
    (row,) = bed.user().add([job("train", environment=(("A", "1"),))])
    grant = claim_one(bed.pilot(), "c1")
    assert (grant.job_id, grant.attempt, grant.owner, grant.lease_seconds) == (row.job_id, 1, "owner", LEASE)
    assert grant.spec == job("train", environment=(("A", "1"),)).spec
    assert grant.destination == "file:///out"


def test_an_empty_queue_gives_nothing(bed: LocalBed) -> None:
    assert list(bed.pilot().claim(ask("c1", "c2"))) == [None, None]


def test_one_answer_per_request_in_order(bed: LocalBed) -> None:
    bed.user().add([job("a"), job("b")])
    answers = bed.pilot().claim(ask("c1", "c2", "c3"))
    assert [each and each.spec.name for each in answers] == ["a", "b", None]


def test_the_same_claim_id_gives_the_same_grant(bed: LocalBed) -> None:
    bed.user().add([job("a"), job("b")])
    first = claim_one(bed.pilot(), "c1")
    assert claim_one(bed.pilot(), "c1") == first
    assert [each and each.spec.name for each in bed.pilot().claim(ask("c1", "c1", "c2"))] == ["a", "a", "b"]


def test_asking_again_renews_the_lease(bed: LocalBed) -> None:
    bed.user().add([job()])
    pilot = bed.pilot()
    first = claim_one(pilot, "c1")
    for _ in range(3):
        bed.clock.move(LEASE * 0.9)
        assert claim_one(pilot, "c1") == first
    assert list(bed.pilot().claim(ask("c2"))) == [None]


def test_a_claim_id_is_spent_once_its_attempt_is_reported(bed: LocalBed) -> None:
    bed.user().add([job("a"), job("b")])
    pilot = bed.pilot()
    pilot.report([report(claim_one(pilot, "c1"))])
    assert list(pilot.claim(ask("c1"))) == [None]


def test_a_claim_id_is_spent_once_its_lease_has_run_out(bed: LocalBed) -> None:
    bed.user().add([job()])
    pilot = bed.pilot()
    claim_one(pilot, "c1")
    bed.clock.move(LEASE + 1)
    assert list(pilot.claim(ask("c1"))) == [None]
    assert claim_one(pilot, "c2").attempt == 2


def test_a_claim_given_back_is_never_granted_again(bed: LocalBed) -> None:
    bed.user().add([job()])
    pilot = bed.pilot()
    first = claim_one(pilot, "c1")
    pilot.give_back([Unclaim("c1")])
    pilot.give_back([Unclaim("c1")])
    assert list(pilot.claim(ask("c1"))) == [None]
    again = claim_one(pilot, "c2")
    assert (again.job_id, again.attempt) == (first.job_id, 2)
    view = bed.user().show(first.job_id)
    assert (view.failures, view.interruptions) == (0, 0)


def test_a_claim_given_back_before_it_arrived_gets_nothing(bed: LocalBed) -> None:
    bed.user().add([job()])
    pilot = bed.pilot()
    pilot.give_back([Unclaim("late"), Unclaim("late")])
    pilot.give_back([Unclaim("late")])
    assert list(pilot.claim(ask("late"))) == [None]
    assert claim_one(pilot, "c2").attempt == 1


def test_giving_back_what_is_reported_changes_nothing(bed: LocalBed) -> None:
    bed.user().add([job("a")])
    pilot = bed.pilot()
    pilot.report([report(claim_one(pilot, "c1"))])
    pilot.give_back([Unclaim("c1")])
    assert bed.user().show("a").job.verdict == "succeeded"


def test_priorities_come_first_then_the_order_of_arrival(bed: LocalBed) -> None:
    user = bed.user()
    user.add([job("a"), job("b", priority=5), job("c", needs=needs(2)), job("d", priority=5, needs=needs(2))])
    user.add([job("e", priority=-1), job("f", priority=9)])
    names = [each and each.spec.name for each in bed.pilot().claim(ask(*"123456"))]
    assert names == ["f", "b", "d", "a", "c", "e"]


def test_owners_take_turns_whatever_their_priorities(bed: LocalBed) -> None:
    bed.user("guest").add([job(f"g{each}", priority=9) for each in range(3)])
    bed.user().add([job(f"o{each}") for each in range(3)])
    grants = bed.pilot().claim(ask(*"123456"))
    assert [each and each.spec.name for each in grants] == ["g0", "o0", "g1", "o1", "g2", "o2"]


def test_what_does_not_fit_is_passed_over(bed: LocalBed) -> None:
    bed.user().add([job("big", needs=needs(64)), job("gpu", needs=needs(1, gpus=1)), job("small")])
    assert [each and each.spec.name for each in bed.pilot().claim(ask("1", "2"))] == ["small", None]
    assert claim_one(bed.pilot(), "3", offer("p2", cpus=64)).spec.name == "big"


def test_requirements_choose_the_node_and_the_node_chooses_the_job(bed: LocalBed) -> None:
    bed.user().add([job("new", requirements='TARGET.Microarch >= "x86_64-v4"'), job("any", network="outbound")])
    closed = offer(attributes=(("Requirements", 'TARGET.WantNetwork == "none"'),))
    assert list(bed.pilot().claim(ask("1", by=closed))) == [None]
    assert claim_one(bed.pilot(), "2", offer(microarch="x86_64-v4")).spec.name == "new"
    assert claim_one(bed.pilot(), "3").spec.name == "any"


# --- leases and fencing ---


def test_a_lease_that_ran_out_gives_the_job_to_the_next_pilot(bed: LocalBed) -> None:
    bed.user().add([job()])
    first, second = bed.pilot(), bed.pilot()
    old = claim_one(first, "c1")
    bed.clock.move(LEASE - 1)
    assert list(second.claim(ask("c2"))) == [None]
    bed.clock.move(2)
    new = claim_one(second, "c3", offer("p2"))
    assert (new.job_id, new.attempt) == (old.job_id, 2)
    assert bed.user().show(new.job_id).interruptions == 1


def test_an_old_attempts_report_is_refused_and_changes_nothing(bed: LocalBed) -> None:
    bed.user().add([job("a")])
    first, second = bed.pilot(), bed.pilot()
    old = claim_one(first, "c1")
    bed.clock.move(LEASE + 1)
    new = claim_one(second, "c2", offer("p2"))
    before = bed.user().show("a")
    assert list(first.report([report(old)])) == [False]
    assert bed.user().show("a") == before
    assert list(second.report([report(new)])) == [True]
    assert [each.attempt for each in bed.user().results("a")] == [2]


def test_a_late_report_is_accepted_and_the_interruption_forgotten(bed: LocalBed) -> None:
    bed.user().add([job("b"), job("a")])
    pilot = bed.pilot()
    claim_one(pilot, "c1")
    late = claim_one(pilot, "c2")
    bed.clock.move(LEASE + 1)
    assert claim_one(bed.pilot(), "c3", offer("p2")).spec.name == "b"  # takes back both, grants one
    assert bed.user().show("a").interruptions == 1
    assert list(pilot.report([report(late)])) == [True]
    view = bed.user().show("a")
    assert (view.job.state, view.job.verdict, view.interruptions) == (JobState.DONE, "succeeded", 0)


def test_the_same_report_twice_is_acknowledged_and_counts_once(bed: LocalBed) -> None:
    bed.user().add([job("a", attempts=3)])
    pilot = bed.pilot()
    failed = report(claim_one(pilot, "c1"), Verdict.FAILED, Code.PAYLOAD_EXIT)
    assert list(pilot.report([failed])) == [True]
    before = bed.user().show("a")
    assert list(pilot.report([failed, failed])) == [True, True]
    assert bed.user().show("a") == before
    second = claim_one(bed.pilot(), "c2")
    assert list(pilot.report([failed])) == [True]  # its acknowledgement was lost; the new attempt is not touched
    assert pilot.renew(beat(second))[0].ours


@pytest.mark.parametrize("attempt", [0, 2, 99])
def test_reports_of_attempts_that_never_were_are_refused(bed: LocalBed, attempt: int) -> None:
    bed.user().add([job("a")])
    pilot = bed.pilot()
    grant = claim_one(pilot, "c1")
    forged = Grant(grant.job_id, attempt, grant.spec, 0.0)
    assert list(pilot.report([report(forged)])) == [False]
    unknown = Grant("nobody", 1, grant.spec, 0.0)
    assert list(pilot.report([report(unknown), report(grant)])) == [False, True]


def test_a_report_after_giving_back_is_refused(bed: LocalBed) -> None:
    bed.user().add([job("a")])
    pilot = bed.pilot()
    grant = claim_one(pilot, "c1")
    pilot.give_back([Unclaim("c1")])
    assert list(pilot.report([report(grant)])) == [False]


# --- what becomes of a job ---


def test_failures_of_the_payload_use_up_attempts(bed: LocalBed) -> None:
    bed.user().add([job("a", attempts=2)])
    pilot = bed.pilot()
    pilot.report([report(claim_one(pilot, "c1"), Verdict.FAILED, Code.PAYLOAD_EXIT)])
    assert bed.user().show("a").job.state is JobState.WAITING
    pilot.report([report(claim_one(pilot, "c2"), Verdict.FAILED, Code.PAYLOAD_SIGNAL)])
    view = bed.user().show("a")
    assert (view.job.state, view.job.verdict, view.failures) == (JobState.DONE, "failed", 2)
    assert view.fault is not None
    assert view.fault.code is Code.PAYLOAD_SIGNAL
    assert [each.attempt for each in bed.user().results("a")] == [1, 2]


def test_a_job_that_is_wrong_is_not_tried_again(bed: LocalBed) -> None:
    bed.user().add([job("a", attempts=5)])
    pilot = bed.pilot()
    pilot.report([report(claim_one(pilot, "c1"), Verdict.FAILED, Code.COMMAND_MISSING)])
    assert bed.user().show("a").job.verdict == "failed"


def test_a_node_that_failed_costs_an_interruption_and_a_moment(bed: LocalBed) -> None:
    bed.user().add([job("a", attempts=1, max_interruptions=1)])
    pilot = bed.pilot()
    pilot.report([report(claim_one(pilot, "c1"), Verdict.FAILED, Code.RUNTIME_FAILED)])
    assert list(pilot.claim(ask("c2"))) == [None]
    assert bed.user().explain("a").clause == "delay"
    bed.clock.move(1.5)
    assert pilot.changed()
    pilot.report([report(claim_one(pilot, "c3"), Verdict.FAILED, Code.RUNTIME_FAILED)])
    assert bed.user().show("a").job.verdict == "failed"


def test_an_interrupted_job_goes_on_at_once_where_it_was(bed: LocalBed) -> None:
    bed.user().add([job("a")])
    pilot = bed.pilot()
    resume = Resume("file:///out/ck", "0" * 64, 7, 1)
    pilot.report([report(claim_one(pilot, "c1"), Verdict.INTERRUPTED, Code.BATCH_PREEMPTED, resume=resume)])
    again = claim_one(bed.pilot(), "c2")
    assert (again.attempt, again.resume) == (2, resume)
    bed.clock.move(LEASE + 1)  # this attempt dies unheard: its checkpoint is the one before
    assert claim_one(bed.pilot(), "c3").resume == resume


def test_leases_that_run_out_use_up_patience(bed: LocalBed) -> None:
    bed.user().add([job("a", max_interruptions=1)])
    pilot = bed.pilot()
    claim_one(pilot, "c1")
    bed.clock.move(LEASE + 1)
    last = claim_one(pilot, "c2")
    bed.clock.move(LEASE + 1)
    assert list(pilot.claim(ask("c3"))) == [None]
    view = bed.user().show("a")
    assert view.job.verdict == "failed"
    assert view.fault is not None
    assert "was not heard of" in view.fault.detail
    assert list(pilot.report([report(last)])) == [False]  # one end is enough


# --- heartbeats ---


def test_renewing_keeps_the_lease_and_shows_progress(bed: LocalBed) -> None:
    bed.user().add([job("a")])
    pilot = bed.pilot()
    grant = claim_one(pilot, "c1")
    for _ in range(5):
        bed.clock.move(LEASE * 0.7)
        (reply,) = pilot.renew(beat(grant))
        assert (reply.ours, reply.lease_seconds, reply.command) == (True, LEASE, "")
        assert list(bed.pilot().claim(ask("other"))) == [None]
    view = bed.user().show("a")
    assert (view.phase, view.progress, view.job.attempt) == ("running", '{"step": 3}', 1)


def test_a_fenced_attempt_is_told_so(bed: LocalBed) -> None:
    bed.user().add([job("a")])
    first = bed.pilot()
    old = claim_one(first, "c1")
    bed.clock.move(LEASE + 1)
    claim_one(bed.pilot(), "c2", offer("p2"))
    (reply,) = first.renew(beat(old))
    assert not reply.ours


def test_a_late_heartbeat_takes_the_job_up_again_if_nobody_has_it(bed: LocalBed) -> None:
    bed.user().add([job("b"), job("a")])
    pilot = bed.pilot()
    claim_one(pilot, "c1")
    grant = claim_one(pilot, "c2")
    bed.clock.move(LEASE + 1)
    claim_one(bed.pilot(), "c3", offer("p2"))
    (reply,) = pilot.renew(beat(grant))
    assert reply.ours
    view = bed.user().show("a")
    assert (view.job.state, view.interruptions) == (JobState.GRANTED, 0)


def test_cancel_reaches_a_running_job_through_the_heartbeat(bed: LocalBed) -> None:
    bed.user().add([job("a")])
    pilot = bed.pilot()
    grant = claim_one(pilot, "c1")
    bed.user().cancel(["a"])
    assert bed.user().show("a").job.state is JobState.GRANTED
    for _ in range(2):
        (reply,) = pilot.renew(beat(grant))
        assert (reply.ours, reply.command) == (True, "cancel")
    pilot.report([report(grant, Verdict.CANCELLED, Code.JOB_CANCELLED)])
    assert bed.user().show("a").job.verdict == "cancelled"


def test_a_job_that_ends_well_while_it_is_cancelled_has_succeeded(bed: LocalBed) -> None:
    bed.user().add([job("a")])
    pilot = bed.pilot()
    grant = claim_one(pilot, "c1")
    bed.user().cancel(["a"])
    pilot.report([report(grant)])
    assert bed.user().show("a").job.verdict == "succeeded"


@pytest.mark.parametrize("end", ["interrupted", "failed", "silent", "returned"])
def test_a_cancelled_job_is_not_given_out_again(bed: LocalBed, end: str) -> None:
    bed.user().add([job("a")])
    pilot = bed.pilot()
    grant = claim_one(pilot, "c1")
    bed.user().cancel(["a"])
    if end == "interrupted":
        pilot.report([report(grant, Verdict.INTERRUPTED, Code.BATCH_PREEMPTED)])
    if end == "failed":
        pilot.report([report(grant, Verdict.FAILED, Code.PAYLOAD_EXIT)])
    if end == "returned":
        pilot.give_back([Unclaim("c1")])
    bed.clock.move(LEASE + 1)
    assert list(pilot.claim(ask("c2"))) == [None]
    assert bed.user().show("a").job.verdict == "cancelled"


def test_a_checkpoint_is_asked_for_once(bed: LocalBed) -> None:
    bed.user().add([job("a")])
    pilot = bed.pilot()
    grant = claim_one(pilot, "c1")
    bed.user().checkpoint(["a"])
    assert [pilot.renew(beat(grant))[0].command for _ in range(2)] == ["checkpoint", ""]


# --- adopting ---


def adopted(server: Server, grant: Grant, by: str = "p1") -> bool:
    (reply,) = server.adopt(by, beat(grant))
    assert (reply.job_id, reply.attempt) == (grant.job_id, grant.attempt)
    return reply.ours


def test_a_parked_attempt_is_taken_up_again_under_its_number(bed: LocalBed) -> None:
    bed.user().add([job("a")])
    grant = claim_one(bed.pilot(), "c1")
    bed.clock.move(LEASE / 2)
    heir = bed.pilot()
    heir.register(offer("heir"))
    assert adopted(heir, grant, by="heir")
    assert bed.user().show("a").pilot == "heir"
    bed.clock.move(LEASE * 0.9)
    assert list(bed.pilot().claim(ask("c2"))) == [None]  # adopting renewed the lease
    assert list(heir.report([report(grant)])) == [True]


def test_a_parked_attempt_whose_lease_ran_out_is_still_ours_if_nobody_has_the_job(bed: LocalBed) -> None:
    bed.user().add([job("b"), job("a")])
    pilot = bed.pilot()
    claim_one(pilot, "c1")
    grant = claim_one(pilot, "c2")
    bed.clock.move(LEASE + 1)
    claim_one(pilot, "c3", offer("p2"))
    assert adopted(bed.pilot(), grant)


def test_what_somebody_else_has_had_is_not_adopted(bed: LocalBed) -> None:
    bed.user().add([job("a")])
    pilot = bed.pilot()
    old = claim_one(pilot, "c1")
    bed.clock.move(LEASE + 1)
    new = claim_one(pilot, "c2", offer("p2"))
    answers = pilot.adopt("p1", [*beat(old), *beat(new), Beat("nobody", 1, "parked")])
    assert [(each.attempt, each.ours) for each in answers] == [(1, False), (2, True), (1, False)]
    pilot.report([report(new)])
    assert not adopted(pilot, new)


# --- noticing ---


def test_changed_says_whether_asking_again_may_help(bed: LocalBed) -> None:
    pilot, other = bed.pilot(), bed.pilot()
    pilot.register(offer())
    assert pilot.changed()
    pilot.claim(ask("c1"))
    assert not pilot.changed()
    bed.user().add([job("a"), job("b")])
    assert pilot.changed()
    grant = claim_one(pilot, "c1")
    assert pilot.changed()  # there may be more
    pilot.claim(ask("c2", "c3"))
    other.register(offer("p2"))
    pilot.claim(ask("c4"))
    assert not pilot.changed()
    pilot.report([report(grant, Verdict.FAILED, Code.PAYLOAD_EXIT)])
    assert pilot.changed()
    pilot.claim(ask("c5"))
    pilot.claim(ask("c6"))
    assert not pilot.changed()
    bed.clock.move(LEASE + 1)
    assert pilot.changed()


def test_idle_pilots_do_not_wake_one_another(bed: LocalBed) -> None:
    pilots = [bed.pilot() for _ in range(3)]
    for number, each in enumerate(pilots):
        each.register(offer(f"p{number}"))
    for _ in range(2):
        for number, each in enumerate(pilots):
            each.claim(ask(f"c{number}", by=offer(f"p{number}")))
    assert [each.changed() for each in pilots] == [False] * 3


# --- order, queue states, code ---


def test_a_job_waits_for_those_it_comes_after(bed: LocalBed) -> None:
    bed.user().add([job("b", after=("a", "x")), job("a"), job("x")])
    pilot = bed.pilot()
    first, second, none = pilot.claim(ask("1", "2", "3"))
    assert first is not None
    assert second is not None
    assert (first.spec.name, second.spec.name, none) == ("a", "x", None)
    pilot.report([report(first)])
    assert list(pilot.claim(ask("4"))) == [None]
    assert bed.user().explain("b").wanted.startswith("x (")
    pilot.report([report(second)])
    assert claim_one(pilot, "5").spec.name == "b"


def test_a_job_whose_predecessor_failed_says_so(bed: LocalBed) -> None:
    user = bed.user()
    user.add([job("a", attempts=1), job("b", after=("a",)), job("c", after=("b",)), job("d", after=("a", "c"))])
    pilot = bed.pilot()
    pilot.report([report(claim_one(pilot, "1"), Verdict.FAILED, Code.PAYLOAD_EXIT)])
    a = user.show("a").job.job_id
    for name in "bcd":
        view = user.show(name)
        assert (view.job.state, view.job.verdict) == (JobState.DONE, "failed")
        assert view.fault is not None
        assert view.fault.code is Code.JOB_PREDECESSOR
    assert user.show("b").fault.detail == f"a ({a}): failed"  # type: ignore[union-attr]
    assert list(pilot.claim(ask("2"))) == [None]
    (late,) = user.add([job("late", after=(a,))])
    assert late.state is JobState.DONE


def test_a_predecessor_with_attempts_left_still_counts(bed: LocalBed) -> None:
    bed.user().add([job("a", attempts=2), job("b", after=("a",))])
    pilot = bed.pilot()
    pilot.report([report(claim_one(pilot, "1"), Verdict.FAILED, Code.PAYLOAD_EXIT)])
    assert bed.user().show("b").job.state is JobState.WAITING
    pilot.report([report(claim_one(pilot, "2"))])
    assert claim_one(pilot, "3").spec.name == "b"


@pytest.mark.parametrize("state", [QueueState.DRAIN, QueueState.OFFLINE])
def test_a_queue_that_gives_nothing_still_takes_reports(bed: LocalBed, state: QueueState) -> None:
    bed.user().add([job("a"), job("b")])
    pilot = bed.pilot()
    grant = claim_one(pilot, "1")
    bed.set_state(state)
    assert pilot.changed()
    assert list(pilot.claim(ask("2"))) == [None]
    assert claim_one(pilot, "1") == grant
    assert pilot.renew(beat(grant))[0].ours
    assert list(pilot.report([report(grant)])) == [True]
    assert pilot.register(offer()).queue_state == state
    assert bed.user().explain("b").clause == "queue"


def test_a_queue_under_test_gives_its_owners_jobs_alone(bed: LocalBed) -> None:
    bed.user("guest").add([job("theirs")])
    bed.user().add([job("mine")])
    bed.set_state(QueueState.TEST)
    assert [each and each.spec.name for each in bed.pilot().claim(ask("1", "2"))] == ["mine", None]


def test_held_jobs_wait_for_their_release(bed: LocalBed) -> None:
    user, pilot = bed.user(), bed.pilot()
    user.add([job("a")])
    user.hold(["a"])
    assert list(pilot.claim(ask("1"))) == [None]
    user.release(["a"])
    grant = claim_one(pilot, "2")
    user.hold(["a"])  # runs on, but is not given out again
    pilot.report([report(grant, Verdict.INTERRUPTED, Code.BATCH_PREEMPTED)])
    assert user.show("a").job.state is JobState.HELD
    assert list(pilot.claim(ask("3"))) == [None]
    user.release(["a"])
    assert claim_one(pilot, "4").attempt == 2


def test_code_travels_with_the_job(bed: LocalBed) -> None:
    data = b"an archive"
    pack = CodePack(hashlib.sha256(data).hexdigest(), len(data), ("train.py",))
    bed.user().add([Submission(job("a", code=pack).spec, code=data), Submission(job("b", code=pack).spec, code=data)])
    pilot = bed.pilot()
    grant = claim_one(pilot, "1")
    assert grant.spec.code == pack
    assert pilot.code(pack) == data
    with pytest.raises(Final, match="holds no code archive"):
        pilot.code(CodePack("0" * 64, 1))
