"""Outputs that could not be stored: what becomes of them when nobody wants them, or nobody ever can."""

import pytest

from pilot.core.lifecycle import advance
from pilot.model.facts import Broke, End
from pilot.model.faults import Code, fault
from pilot.model.files import What
from pilot.model.job import Cause, Grant, Job, JobSpec, Phase, Verdict
from pilot.model.orders import Kind, Order

GRANT = Grant("1", 1, JobSpec("n", ("true",)), 60.0)


def held(phase: Phase, verdict: Verdict = Verdict.SUCCEEDED) -> Job:
    return Job("k", phase, GRANT, verdict, keeps=What.ALL, open=((Kind.STORE, 1),), tickets=1)


@pytest.mark.parametrize(
    ("before", "after"), [(Verdict.SUCCEEDED, Verdict.FAILED), (Verdict.INTERRUPTED, Verdict.INTERRUPTED)]
)
def test_a_kill_ends_the_wait_for_a_storage(before: Verdict, after: Verdict) -> None:
    job, orders = advance(held(Phase.PARKED, before), End("k", Cause.CANCELLED, fault(Code.JOB_CANCELLED)))
    assert (job.phase, job.verdict) == (Phase.CLOSED, after)
    if before is Verdict.SUCCEEDED:
        assert job.fault is not None
        assert job.fault.code is Code.JOB_CANCELLED
    assert [each.kind for each in orders if isinstance(each, Order)] == [Kind.REPORT, Kind.SWEEP]


def test_a_site_that_ends_the_pilot_leaves_them_parked() -> None:
    job, orders = advance(held(Phase.PARKED), End("k", Cause.PREEMPTED, fault(Code.BATCH_PREEMPTED)))
    assert (job.phase, orders) == (Phase.PARKED, ())


@pytest.mark.parametrize(
    ("code", "phase"), [(Code.JOB_INVALID, Phase.STAGING_OUT), (Code.STORAGE_UNREACHABLE, Phase.PARKED)]
)
def test_what_no_storage_ever_takes_is_not_parked(code: Code, phase: Phase) -> None:
    job, _ = advance(held(Phase.STAGING_OUT), Broke("k", 1, Kind.STORE, fault(code, "root://x: no storage")))
    assert job.phase is phase
