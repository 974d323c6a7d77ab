"""How a payload ended: the rows of docs/contract.md, and what Apptainer makes of them."""

import pytest

from pilot.core.outcome import Outcome, judge, signal_of
from pilot.model.facts import Ending
from pilot.model.faults import Code, Fault, Party, fault
from pilot.model.job import Cause

DONE, FAILED, RESUMABLE = Outcome.DONE, Outcome.FAILED, Outcome.RESUMABLE
WALLTIME = fault(Code.PAYLOAD_WALLTIME)
DISK = fault(Code.PAYLOAD_DISK)


def ending(exit_code: int | None = 0, marker: str = "started", **more: object) -> Ending:
    return Ending(marker=marker, exit_code=exit_code, **more)  # type: ignore[arg-type]


OWN_ENDS = [
    ("exit 0", ending(), DONE, None),
    ("exit 0 and a good result", ending(result_status="succeeded"), DONE, None),
    ("exit 1", ending(1), FAILED, Code.PAYLOAD_EXIT),
    ("exit 255 of the user's code", ending(255), FAILED, Code.PAYLOAD_EXIT),
    ("exit 255 of the runtime", ending(255, ""), FAILED, Code.RUNTIME_FAILED),
    ("exit 0 without a marker", ending(0, ""), FAILED, Code.PAYLOAD_EXIT),
    ("exit 0, and the marker says missing", ending(0, "missing x"), FAILED, Code.PAYLOAD_EXIT),
    ("exit 7, and the marker says nobody came", ending(7, ""), FAILED, Code.PAYLOAD_EXIT),
    ("exit 127, no such command", ending(127, "missing train.py"), FAILED, Code.COMMAND_MISSING),
    ("exit 127 of the user's code", ending(127), FAILED, Code.PAYLOAD_EXIT),
    ("killed by the kernel for memory", ending(137, out_of_memory=True), FAILED, Code.PAYLOAD_MEMORY),
    ("137 without a memory event", ending(137), FAILED, Code.PAYLOAD_SIGNAL),
    ("a segmentation fault, seen through the shell", ending(139), FAILED, Code.PAYLOAD_SIGNAL),
    ("a segmentation fault, seen directly", ending(None, signal=11), FAILED, Code.PAYLOAD_SIGNAL),
    ("143 that nobody asked for", ending(143), FAILED, Code.PAYLOAD_SIGNAL),
    ("exit 0 but a failed result", ending(result_status="failed"), FAILED, Code.PAYLOAD_EXIT),
    ("exit 0 but diverged", ending(result_status="diverged"), FAILED, Code.PAYLOAD_DIVERGED),
    ("exit 0 but a result that breaks the contract", ending(result_status="invalid"), FAILED, Code.PAYLOAD_RESULT),
    ("a launcher's 1 over a diverged rank", ending(1, result_status="diverged"), FAILED, Code.PAYLOAD_DIVERGED),
    ("a launcher's 1 over a good result", ending(1, result_status="succeeded"), FAILED, Code.PAYLOAD_EXIT),
    ("85 with a checkpoint", ending(85, fresh_checkpoint=True), RESUMABLE, Code.BATCH_PREEMPTED),
    ("85 without one", ending(85), FAILED, Code.PAYLOAD_EXIT),
    (
        "a launcher's 1 over a checkpointed rank",
        ending(1, result_status="checkpointed", fresh_checkpoint=True),
        RESUMABLE,
        Code.BATCH_PREEMPTED,
    ),
    ("exit 0, checkpointed, it says", ending(result_status="checkpointed"), FAILED, Code.PAYLOAD_EXIT),
    ("99 that nobody asked for", ending(99), FAILED, Code.PAYLOAD_EXIT),
    ("a transient result", ending(75, result_status="transient"), FAILED, Code.PAYLOAD_EXIT),
    ("ended because the pilot had died", ending(143, orphaned=True), RESUMABLE, Code.PILOT_RESTARTED),
    ("ended well although the pilot had died", ending(orphaned=True), DONE, None),
    ("more on disk than its share", ending(1, over_scratch=5), FAILED, Code.PAYLOAD_DISK),
    ("75", ending(75), FAILED, Code.PAYLOAD_EXIT),
]  # fmt: skip


@pytest.mark.parametrize(("name", "end", "outcome", "code"), OWN_ENDS, ids=[each[0] for each in OWN_ENDS])
def test_ends_of_its_own(name: str, end: Ending, outcome: Outcome, code: Code | None) -> None:
    judgement = judge(end, None, None)
    assert judgement.outcome is outcome
    assert (judgement.fault and judgement.fault.code) == code


STOPPED = [
    ("stopped by the site", ending(143), Cause.PREEMPTED, None, RESUMABLE, Code.BATCH_PREEMPTED),
    ("killed after the grace", ending(None, signal=9), Cause.PREEMPTED, None, RESUMABLE, Code.BATCH_PREEMPTED),
    ("ended well while being stopped", ending(), Cause.PREEMPTED, None, DONE, None),
    ("ended well while being cancelled", ending(), Cause.CANCELLED, None, DONE, None),
    (
        "stopped with 85 on notice",
        ending(85, fresh_checkpoint=True),
        Cause.PREEMPTED,
        None,
        RESUMABLE,
        Code.BATCH_PREEMPTED,
    ),
    (
        "out of memory while being stopped",
        ending(137, out_of_memory=True),
        Cause.PREEMPTED,
        None,
        FAILED,
        Code.PAYLOAD_MEMORY,
    ),
    (
        "its walltime over, a checkpoint there",
        ending(143, fresh_checkpoint=True),
        Cause.TIME_UP,
        WALLTIME,
        RESUMABLE,
        Code.PAYLOAD_WALLTIME,
    ),
    (
        "its walltime over and nothing to go on from",
        ending(143),
        Cause.TIME_UP,
        WALLTIME,
        FAILED,
        Code.PAYLOAD_WALLTIME,
    ),
    ("the slot's time over", ending(143), Cause.TIME_UP, fault(Code.BATCH_WALLTIME), RESUMABLE, Code.BATCH_WALLTIME),
    ("cancelled", ending(143), Cause.CANCELLED, None, FAILED, Code.JOB_CANCELLED),
    ("too much on disk", ending(143), Cause.LIMIT, DISK, FAILED, Code.PAYLOAD_DISK),
    ("stopped before any user code", ending(255, ""), Cause.PREEMPTED, None, RESUMABLE, Code.BATCH_PREEMPTED),
]


@pytest.mark.parametrize(("name", "end", "cause", "why", "outcome", "code"), STOPPED, ids=[each[0] for each in STOPPED])
def test_ends_that_we_asked_for(
    name: str, end: Ending, cause: Cause, why: Fault | None, outcome: Outcome, code: Code | None
) -> None:
    judgement = judge(end, cause, why)
    assert judgement.outcome is outcome
    assert (judgement.fault and judgement.fault.code) == code


@pytest.mark.parametrize(
    ("end", "number"),
    [(ending(139), 11), (ending(None, signal=9), 9), (ending(0), None), (ending(128), None), (ending(193), None)],
)
def test_the_signal_seen_directly_or_through_a_launcher(end: Ending, number: int | None) -> None:
    assert signal_of(end) == number


def test_the_fault_says_what_the_payload_said_last() -> None:
    judgement = judge(ending(1, stderr_tail="warning\nValueError: no data\n"), None, None)
    assert judgement.fault is not None
    assert judgement.fault.detail == "exit code 1: ValueError: no data"


def test_a_missing_command_is_named() -> None:
    assert "train.py: not found in the image" in str(judge(ending(127, "missing train.py"), None, None).fault)
    assert "the command: not found" in str(judge(ending(127, "missing"), None, None).fault)


def test_what_the_payload_reports_of_itself_comes_first() -> None:
    judgement = judge(ending(1, result_status="failed", result_message="loss is NaN"), None, None)
    assert judgement.fault is not None
    assert judgement.fault.detail == "loss is NaN"


def test_a_checkpointed_stop_is_the_payloads_own_wish() -> None:
    judgement = judge(ending(85, fresh_checkpoint=True), None, None)
    assert judgement.fault is not None
    assert judgement.fault.party is Party.PAYLOAD
