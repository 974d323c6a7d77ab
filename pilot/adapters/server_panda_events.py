"""Event ranges of PanDA's as a whole: how many are left, where they stand, several settled at once."""

from collections.abc import Sequence

from pilot.adapters.server_line import Line
from pilot.adapters.server_panda_told import said_no
from pilot.ports import Passing
from pilot.wire import events
from pilot.wire.envelope import Reply, WireError
from pilot.wire.events import Settled


class Events:
    """The event range calls over one line."""

    def __init__(self, line: Line) -> None:
        self._line = line

    def left(self, task: int, job: int, jobset: int) -> int:
        """How many event ranges of that set of jobs nobody has taken."""
        reply = self._line.call("GET", events.COUNT, {"job_id": job, "jobset_id": jobset, "task_id": task})
        try:
            return events.count_in(reply)
        except WireError as problem:
            raise said_no(self._line, events.COUNT, problem) from None

    def statuses(self, owners: Sequence[tuple[int, int]]) -> dict[str, str]:
        """Where every event range of those (task, job) stands."""
        try:
            return events.statuses_in(self._line.call("GET", events.STATUSES, events.where(owners)))
        except WireError as problem:
            raise said_no(self._line, events.STATUSES, problem) from None

    def settle(self, settled: Sequence[Settled]) -> list[bool]:
        """Whether each stands on record as told.

        Server 1.0.4 carries the update out and then answers 500, for it cannot write its own answer down; and where it
        can, the answer is JSON in JSON of no use. So the record is looked at, whatever was answered.
        """
        if not settled:
            return []
        trouble: Passing | None = None
        try:
            self._told(settled)
        except Passing as problem:
            trouble = problem
        there = self.statuses([events.owner_of(each.event) for each in settled])
        found = [there.get(each.event, "") in events.RECORDED[each.status] for each in settled]
        if trouble is not None and not any(found):
            raise trouble
        return found

    def _told(self, settled: Sequence[Settled]) -> Reply:
        try:
            return self._line.call("POST", events.UPDATE, events.update(settled))
        except WireError as problem:
            raise said_no(self._line, events.UPDATE, problem) from None
