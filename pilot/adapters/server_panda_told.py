"""Words about attempts, to PanDA and back: one update alone or many in bulk, and what the server has on record."""

from collections.abc import Sequence
from datetime import UTC, datetime

from pilot.adapters.server_line import Line
from pilot.model.faults import Code
from pilot.ports import Final, Passing, PortError
from pilot.wire.asking import TASK, Arguments, architecture_in, id_of, statuses
from pilot.wire.envelope import Reply, WireError
from pilot.wire.hearing import Heard, all_heard, heard
from pilot.wire.status import Refused

UPDATE = "/api/v1/pilot/update_job"
BULK = "/api/v1/pilot/update_jobs_bulk"
STATUS = "/api/v1/pilot/get_job_status"
MOST = 100  # updates in one request: the server carries them out one after another, within our patience
NO_METADATA = "Failed to add meta_data"
_ROLE = ("role", "VOMS", "SSL secure connection", "oken")


class Told:
    """Updates of attempts over one line."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self._tasks: dict[int, str] = {}  # what tasks ask of nodes, for their jobs come in numbers

    def update(self, updates: Sequence[Arguments]) -> list[Heard]:
        """What the server answers to each, in order; raises PortError where it did not take one."""
        parts = [updates[start : start + MOST] for start in range(0, len(updates), MOST)]
        return [each for part in parts for each in self._part(part)]

    def _part(self, updates: Sequence[Arguments]) -> list[Heard]:
        if len(updates) == 1:
            return [self._one(updates[0])]
        try:
            replies = all_heard(self._line.call("POST", BULK, {"job_list": list(updates)}), len(updates))
        except WireError:  # one that the server stumbles over stops them all: each on its own, then
            return [self._one(each) for each in updates]
        return [self._heard(said, each) for said, each in zip(replies, updates, strict=True)]

    def _one(self, update: Arguments) -> Heard:
        return self._heard(self._line.call("POST", UPDATE, update), update)

    def _heard(self, reply: Reply, update: Arguments) -> Heard:
        """A server that cannot store the metadata drops the whole update: then it goes without."""
        if NO_METADATA in reply.message and "meta_data" in update:
            return self._one({name: value for name, value in update.items() if name != "meta_data"})
        try:
            return heard(reply)
        except WireError as problem:
            raise said_no(self._line, f"{UPDATE} (job {update.get('job_id')})", problem) from None

    def architecture(self, task: int) -> str:
        """What that task asks of nodes, as its owner wrote it; "" where the server does not tell at all."""
        if task not in self._tasks:
            if len(self._tasks) >= MOST:
                self._tasks.clear()
            self._tasks[task] = self._asked_architecture(task)
        return self._tasks[task]

    def _asked_architecture(self, task: int) -> str:
        try:
            return architecture_in(self._line.call("GET", TASK, {"task_id": task}))
        except Final:  # a server from before this call
            return ""
        except WireError as problem:
            raise said_no(self._line, TASK, problem) from None

    def standing(self, jobs: Sequence[str]) -> dict[str, tuple[str, int]]:
        """Status and attempt of those jobs, as the server has them."""
        found: dict[str, tuple[str, int]] = {}
        for start in range(0, len(jobs), MOST):
            ids = [id_of(each) for each in jobs[start : start + MOST]]
            try:
                found |= statuses(self._line.call("GET", STATUS, {"job_ids": ids}))
            except WireError as problem:
                raise said_no(self._line, STATUS, problem) from None
        return found


def moment() -> str:
    """Now, UTC, ISO 8601."""
    return datetime.now(UTC).isoformat()


def said_no(line: Line, path: str, problem: WireError) -> PortError:
    """A reply that did not do what was asked, as the port's own error."""
    said = f"{line.origin}{path}: {problem}"
    if isinstance(problem, Refused) and not problem.passing:
        if any(each in str(problem) for each in _ROLE):
            return Passing(Code.CREDENTIAL_REFUSED, f"{said}; check the pilot's credential and its role")
        return Final(Code.SERVER_REFUSED, said)
    return Passing(Code.SERVER_UNREACHABLE, said)
