"""What becomes of a job when an attempt at it has ended: once more, or done.

Failures charged to job, payload or input count against the job's `attempts`; whatever node, site, service or pilot
did to it counts against `max_interruptions`. A job that was itself wrong is not tried again: asking again cannot
help. After a failure that is not its own a job waits a little, longer each time, so that one broken node does
not use up its patience in a second; a job that was interrupted goes to the next pilot at once.
"""

from dataclasses import dataclass, replace

from pilot.model.faults import CHARGED, Code, Fault, Party, fault
from pilot.model.job import Verdict
from pilot.model.report import Report

FIRST_DELAY_SECONDS = 1.0
LONGEST_DELAY_SECONDS = 300.0
_DOUBLINGS = 10  # more would pass the longest delay anyway


@dataclass(frozen=True, slots=True)
class Patience:
    """How often a job may still be tried, and how often it has been."""

    attempts: int
    max_interruptions: int
    failures: int = 0
    interruptions: int = 0


@dataclass(frozen=True, slots=True)
class Next:
    """What follows: done with a verdict, or waiting again (None) after a delay."""

    patience: Patience
    verdict: Verdict | None = None
    fault: Fault | None = None
    delay_seconds: float = 0.0


def after_report(report: Report, patience: Patience, cancelled: bool) -> Next:
    """What follows from a report; `cancelled` says that the job's end had been asked for."""
    if report.verdict in (Verdict.SUCCEEDED, Verdict.CANCELLED):
        return Next(patience, report.verdict, report.fault)
    if cancelled:
        return Next(patience, Verdict.CANCELLED, fault(Code.JOB_CANCELLED))
    if report.verdict is Verdict.FAILED and _charged(report.fault):
        return _failed(report, replace(patience, failures=patience.failures + 1))
    return _disturbed(report.verdict, report.fault, patience)


def after_silence(patience: Patience, cancelled: bool, detail: str) -> Next:
    """What follows when a lease ran out unheard; `detail` says whose."""
    if cancelled:
        return Next(patience, Verdict.CANCELLED, fault(Code.JOB_CANCELLED))
    following = _disturbed(Verdict.FAILED, fault(Code.PILOT_RESTARTED, detail), patience)
    return replace(following, delay_seconds=0.0)


def after_return(patience: Patience, cancelled: bool) -> Next:
    """What follows when a pilot gave the job back untouched: nothing is charged."""
    return Next(patience, Verdict.CANCELLED, fault(Code.JOB_CANCELLED)) if cancelled else Next(patience)


def _charged(why: Fault | None) -> bool:
    return why is None or why.party in CHARGED


def _failed(report: Report, patience: Patience) -> Next:
    hopeless = report.fault is not None and report.fault.party is Party.JOB
    if hopeless or patience.failures >= patience.attempts:
        return Next(patience, Verdict.FAILED, report.fault)
    return Next(patience)


def _disturbed(verdict: Verdict, why: Fault | None, patience: Patience) -> Next:
    counted = replace(patience, interruptions=patience.interruptions + 1)
    if counted.interruptions > counted.max_interruptions:
        return Next(counted, verdict, why)
    return Next(counted, delay_seconds=0.0 if verdict is Verdict.INTERRUPTED else _delay(counted.interruptions))


def _delay(times: int) -> float:
    return min(FIRST_DELAY_SECONDS * 2.0 ** min(times - 1, _DOUBLINGS), LONGEST_DELAY_SECONDS)
