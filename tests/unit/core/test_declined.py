"""Jobs that are declined: told at once, or after the log that their queue waits for."""

from dataclasses import replace

import pytest

from pilot.core.lifecycle import advance
from pilot.model.facts import Broke, Granted, Stored
from pilot.model.faults import Code, fault
from pilot.model.files import Output, What
from pilot.model.job import Grant, Job, JobSpec, Phase, Verdict
from pilot.model.orders import Kind, Order

SPEC = JobSpec("n", ("true",), log_archive=Output("log.tgz", url="file:///out/log.tgz"))
WHY = fault(Code.JOB_INVALID, "co-processes are not translated")


def declined(spec: JobSpec) -> tuple[Job, list[Order]]:
    claiming = Job("k", open=((Kind.CLAIM, 1),), tickets=1)
    job, orders = advance(claiming, Granted("k", 1, Grant("1", 1, spec, 60.0, refusal=WHY)))
    return job, [each for each in orders if isinstance(each, Order)]


def test_without_an_archive_it_is_told_at_once() -> None:
    job, orders = declined(replace(SPEC, log_archive=None))
    assert (job.phase, job.verdict, job.fault) == (Phase.CLOSED, Verdict.DECLINED, WHY)
    assert Kind.REPORT in [each.kind for each in orders]


@pytest.mark.parametrize("stores", [True, False])
def test_the_log_is_stored_first_and_what_becomes_of_it_changes_nothing(stores: bool) -> None:
    job, (order,) = declined(SPEC)
    assert (job.phase, order.kind, order.what) == (Phase.STAGING_OUT, Kind.STORE, What.LOGS)
    broke = Broke("k", order.ticket, Kind.STORE, fault(Code.STORAGE_DENIED, "no"))
    after, orders = advance(job, Stored("k", order.ticket) if stores else broke)
    assert (after.phase, after.verdict, after.fault) == (Phase.CLOSED, Verdict.DECLINED, WHY)
    assert Kind.REPORT in [each.kind for each in orders if isinstance(each, Order)]
