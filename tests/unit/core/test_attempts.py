"""What becomes of a job, as a table: how the attempt ended, what was used up before, what follows."""

import pytest

from pilot.core.attempts import LONGEST_DELAY_SECONDS, Next, Patience, after_report, after_return, after_silence
from pilot.model.faults import Code, Party, fault
from pilot.model.job import Verdict
from pilot.model.report import Report

FRESH = Patience(attempts=2, max_interruptions=3)
LAST_TRY = Patience(2, 3, failures=1)
TIRED = Patience(2, 3, interruptions=3)


def report(verdict: Verdict, code: Code | None = None, party: Party | None = None) -> Report:
    return Report("1", 1, "a", verdict, "", "", fault=fault(code, party=party) if code else None)


@pytest.mark.parametrize(
    ("ended", "before", "verdict", "failures", "interruptions"),
    [
        (report(Verdict.SUCCEEDED), FRESH, Verdict.SUCCEEDED, 0, 0),
        (report(Verdict.CANCELLED, Code.JOB_CANCELLED), FRESH, Verdict.CANCELLED, 0, 0),
        (report(Verdict.FAILED, Code.PAYLOAD_EXIT), FRESH, None, 1, 0),
        (report(Verdict.FAILED, Code.STAGE_IN_MISSING), FRESH, None, 1, 0),
        (report(Verdict.FAILED, Code.PAYLOAD_EXIT), LAST_TRY, Verdict.FAILED, 2, 0),
        (report(Verdict.FAILED), FRESH, None, 1, 0),
        (report(Verdict.FAILED), LAST_TRY, Verdict.FAILED, 2, 0),
        (report(Verdict.FAILED, Code.COMMAND_MISSING), FRESH, Verdict.FAILED, 1, 0),
        (report(Verdict.FAILED, Code.IMAGE_MISSING), FRESH, None, 0, 1),
        (report(Verdict.FAILED, Code.STORAGE_UNREACHABLE), LAST_TRY, None, 1, 1),
        (report(Verdict.FAILED, Code.PILOT_BUG), TIRED, Verdict.FAILED, 0, 4),
        (report(Verdict.INTERRUPTED, Code.BATCH_PREEMPTED), FRESH, None, 0, 1),
        (report(Verdict.INTERRUPTED, Code.BATCH_PREEMPTED, Party.PAYLOAD), FRESH, None, 0, 1),
        (report(Verdict.INTERRUPTED, Code.BATCH_PREEMPTED), TIRED, Verdict.INTERRUPTED, 0, 4),
        (report(Verdict.DECLINED), FRESH, None, 0, 1),
    ],
)
def test_after_a_report(
    ended: Report, before: Patience, verdict: Verdict | None, failures: int, interruptions: int
) -> None:
    following = after_report(ended, before, cancelled=False)
    assert following.verdict is verdict
    assert (following.patience.failures, following.patience.interruptions) == (failures, interruptions)
    assert following.fault == (ended.fault if verdict else None)


@pytest.mark.parametrize("verdict", [Verdict.FAILED, Verdict.INTERRUPTED, Verdict.DECLINED])
def test_a_cancelled_job_is_done_however_it_ended(verdict: Verdict) -> None:
    assert after_report(report(verdict), FRESH, cancelled=True).verdict is Verdict.CANCELLED


def test_a_cancelled_job_that_ended_well_has_succeeded() -> None:
    assert after_report(report(Verdict.SUCCEEDED), FRESH, cancelled=True).verdict is Verdict.SUCCEEDED


def test_waits_grow_after_failures_that_are_not_the_jobs_own() -> None:
    ended = report(Verdict.FAILED, Code.RUNTIME_FAILED)
    waits = [after_report(ended, Patience(1, 1000, 0, n), cancelled=False).delay_seconds for n in (0, 1, 2, 8, 9, 500)]
    assert waits == [1.0, 2.0, 4.0, 256.0, LONGEST_DELAY_SECONDS, LONGEST_DELAY_SECONDS]
    for again in (report(Verdict.INTERRUPTED), report(Verdict.FAILED, Code.PAYLOAD_EXIT)):
        assert after_report(again, FRESH, cancelled=False).delay_seconds == 0.0


def test_silence_counts_as_an_interruption_and_costs_no_wait() -> None:
    assert after_silence(FRESH, cancelled=False, detail="x") == Next(Patience(2, 3, 0, 1))
    gone = after_silence(TIRED, cancelled=False, detail="pilot p")
    assert gone.verdict is Verdict.FAILED
    assert gone.fault == fault(Code.PILOT_RESTARTED, "pilot p")
    assert after_silence(FRESH, cancelled=True, detail="x").verdict is Verdict.CANCELLED


def test_giving_back_costs_nothing() -> None:
    assert after_return(FRESH, cancelled=False) == Next(FRESH)
    assert after_return(FRESH, cancelled=True).verdict is Verdict.CANCELLED
