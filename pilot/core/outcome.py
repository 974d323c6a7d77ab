"""How a payload ended, judged from the evidence it left.

`result.json` outranks the exit code, because launchers destroy codes (torchrun ends with 1 whatever a rank
returned). The exit codes are those of docs/contract.md; 85 with a new checkpoint means "resume me". A payload that we
stopped is judged by what the stop was for, whatever its code.
"""

from dataclasses import dataclass
from enum import StrEnum

from pilot.model.facts import Ending
from pilot.model.faults import CHARGED, Code, Fault, Party, fault
from pilot.model.job import Cause

RESUME_ME = 85
NOT_FOUND = 127  # the entry script's, where the command is not in the image
RUNTIME_ENDS = frozenset({None, 1, 255})  # Apptainer's own failures, or a death by signal before the entry script
SIGNAL_BASE = 128  # a shell and Apptainer report a death by signal n as 128 + n
HIGHEST_SIGNAL = 64
_EARLY = frozenset({Cause.TIME_UP, Cause.PREEMPTED})


class Outcome(StrEnum):
    """Done, failed, or ended so that another attempt can go on from a checkpoint."""

    DONE = "done"
    FAILED = "failed"
    RESUMABLE = "resumable"


@dataclass(frozen=True, slots=True)
class Judgement:
    """The outcome, and the fault where it is not `done`."""

    outcome: Outcome
    fault: Fault | None = None


def judge(ending: Ending, cause: Cause | None, why: Fault | None) -> Judgement:
    """Judges one ending; `cause` and `why` say what we ourselves had asked for, if anything."""
    if ending.marker == "started" and _ended_well(ending):
        return Judgement(Outcome.DONE)
    if cause is not None:
        return _judge_stopped(ending, cause, why)
    if ending.orphaned:
        return _judge_stopped(ending, Cause.PREEMPTED, fault(Code.PILOT_RESTARTED))
    if ending.marker == "started" and _asks_to_resume(ending):
        return Judgement(
            Outcome.RESUMABLE, fault(Code.BATCH_PREEMPTED, "the payload left a checkpoint and stopped", Party.PAYLOAD)
        )
    return Judgement(Outcome.FAILED, _own_failure(ending))


def signal_of(ending: Ending) -> int | None:
    """The signal that ended the payload, seen directly or through a launcher's 128 + n."""
    if ending.signal is not None:
        return ending.signal
    number = (ending.exit_code or 0) - SIGNAL_BASE
    return number if 0 < number <= HIGHEST_SIGNAL else None


def _ended_well(ending: Ending) -> bool:
    return ending.exit_code == 0 and ending.result_status in ("", "succeeded")


def _asks_to_resume(ending: Ending) -> bool:
    return ending.fresh_checkpoint and (ending.exit_code == RESUME_ME or ending.result_status == "checkpointed")


def _judge_stopped(ending: Ending, cause: Cause, why: Fault | None) -> Judgement:
    """A payload that we stopped: resumable if the site or the time ended it, else what the stop was for.

    A payload whose own walltime was too short, and that left nothing to go on from, would only fail again.
    """
    if ending.out_of_memory:
        return Judgement(Outcome.FAILED, fault(Code.PAYLOAD_MEMORY))
    hopeless = why is not None and why.party in CHARGED and not ending.fresh_checkpoint
    if cause in _EARLY and not hopeless:
        return Judgement(Outcome.RESUMABLE, why or fault(Code.BATCH_PREEMPTED))
    return Judgement(Outcome.FAILED, why or fault(Code.JOB_CANCELLED))


def _own_failure(ending: Ending) -> Fault:
    for rule in (_before_user_code, _by_memory, _by_disk, _by_result, _by_signal):
        found = rule(ending)
        if found is not None:
            return found
    how = "" if ending.marker == "started" else ", but the marker of its start is not as it was left"
    return fault(Code.PAYLOAD_EXIT, _with_tail(f"exit code {ending.exit_code}{how}", ending))


def _before_user_code(ending: Ending) -> Fault | None:
    """The marker is believed only where the exit code agrees: a payload that ran can write anything into it."""
    if ending.exit_code == NOT_FOUND and ending.marker.startswith("missing"):
        command = ending.marker.partition(" ")[2] or "the command"
        return fault(Code.COMMAND_MISSING, f"{command}: not found in the image")
    if not ending.marker and ending.exit_code in RUNTIME_ENDS:
        return fault(Code.RUNTIME_FAILED, _with_tail(f"user code never started; exit code {ending.exit_code}", ending))
    return None


def _by_memory(ending: Ending) -> Fault | None:
    return fault(Code.PAYLOAD_MEMORY) if ending.out_of_memory else None


def _by_disk(ending: Ending) -> Fault | None:
    more = f"{ending.over_scratch:,} bytes more than its share of the scratch space"
    return fault(Code.PAYLOAD_DISK, _with_tail(more, ending)) if ending.over_scratch else None


def _by_result(ending: Ending) -> Fault | None:
    codes = {"invalid": Code.PAYLOAD_RESULT, "diverged": Code.PAYLOAD_DIVERGED, "failed": Code.PAYLOAD_EXIT}
    code = codes.get(ending.result_status)
    return fault(code, ending.result_message or _with_tail(f"exit code {ending.exit_code}", ending)) if code else None


def _by_signal(ending: Ending) -> Fault | None:
    number = signal_of(ending)
    return None if number is None else fault(Code.PAYLOAD_SIGNAL, _with_tail(f"signal {number}", ending))


def _with_tail(text: str, ending: Ending) -> str:
    last = ending.stderr_tail.strip().splitlines()[-1:] or [""]
    return f"{text}: {last[0]}" if last[0] else text
