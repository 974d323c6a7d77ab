"""What the server answers to a heartbeat or a report, as commands and questions of ours."""

from dataclasses import dataclass
from shlex import quote

from pilot.wire.envelope import Reply, WireError, cleaned
from pilot.wire.reading import record, records, text
from pilot.wire.status import check_status

GONE = "tobekilled"  # a kill by its owner; and also: no such job, no such attempt
DONE = frozenset({"alreadydone"})
NOT_OURS = frozenset({"badattemptnr"})
# The visible map of PanDA's words for a running job.
COMMANDS = {"tobekilled": "cancel", "softkill": "stop"}
LOOKS = frozenset({"tail", "ls", "ps"})  # fixed functions on the job's own directory; no other is ever carried out
# What the incumbent's logs are called, by our names.
NAMES = {"payload.stdout": "stdout", "payload.stderr": "stderr", "pilotlog.txt": "pilot"}
_IGNORED = frozenset({"", "NULL", "debug", "debugoff", "nocleanup"})
_LONGEST = 256  # characters of a question


@dataclass(frozen=True, slots=True)
class Heard:
    """A command of ours ("" = none), a question of ours, and PanDA's own word where it ends the matter."""

    command: str = ""
    question: str = ""
    word: str = ""


def heard(reply: Reply) -> Heard:
    """What an `update_job` reply says; raises WireError (Refused) where the server did not take the update."""
    data = check_status(reply)
    words = [each.strip() for each in text(data, "command").split(",")]
    ending = next((each for each in words if each == GONE or each in DONE | NOT_OURS), "")
    command = next((COMMANDS[each] for each in words if each in COMMANDS), "")
    questions = [_question(each) for each in words if each not in _IGNORED and each not in COMMANDS]
    return Heard(command, next((each for each in questions if each), ""), ending)


def all_heard(reply: Reply, wanted: int) -> list[Reply]:
    """The replies inside an `update_jobs_bulk` reply, one for each update, in order."""
    if not reply.success:
        check_status(reply)
    found = records(reply.data, "data")
    if len(found) != wanted:
        raise WireError(f"update_jobs_bulk: {len(found)} answers to {wanted} updates")
    return [_one(each) for each in found]


def _one(each: object) -> Reply:
    found = record(each, "data")
    success, message = found.get("success"), found.get("message")
    if not isinstance(success, bool):
        raise WireError("update_jobs_bulk: an answer without success")
    return Reply(success, message if isinstance(message, str) else "", found.get("data"))


def _question(written: str) -> str:
    """`tail -n 20 payload.stdout` as `tail stdout 20`; options are dropped, what is no look of ours is no question."""
    words = cleaned(written[:_LONGEST]).split()
    if not words or words[0] not in LOOKS:
        return ""
    verb, rest = words[0], words[1:]
    names = [NAMES.get(each, each) for each in rest if not each.startswith("-") and not each.isdigit()]
    counts = [each.lstrip("-") for each in rest if each.lstrip("-").isascii() and each.lstrip("-").isdigit()]
    if verb == "ps":
        return verb
    lines = [each[:6] for each in counts[:1]] if verb == "tail" and names else []
    return " ".join((verb, *map(quote, names[-1:]), *lines))
