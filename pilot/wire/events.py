"""PanDA's calls about event ranges as a whole: how many are left, where they stand, and several settled at once."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

from pilot.wire.envelope import Reply, WireError, shown
from pilot.wire.reading import record, text

COUNT = "/api/v1/event/get_available_event_range_count"
STATUSES = "/api/v1/event/get_event_range_statuses"
UPDATE = "/api/v1/event/update_event_ranges"
ENDS = ("finished", "failed", "fatal")  # the server passes over every other word
# What stands on record after each of them; the server's own merging may have gone further.
RECORDED = {"finished": ("finished", "done", "merged"), "failed": ("failed",), "fatal": ("failed", "fatal")}
_RANGE = re.compile(r"([0-9]{1,18})-([0-9]{1,18})-[0-9]{1,18}-[0-9]{1,18}-[0-9]{1,18}")

Arguments = dict[str, object]


@dataclass(frozen=True, slots=True)
class Settled:
    """One event range and how it ended: finished, failed, or fatal (not to be tried again)."""

    event: str
    status: str = "finished"


def update(settled: Sequence[Settled]) -> Arguments:
    """Several event ranges in one word, which the server wants as JSON within JSON."""
    wrong = [each.status for each in settled if each.status not in ENDS]
    if wrong:
        raise WireError(f"event range: {shown(wrong[0])} is no end")
    told = [{"eventRangeID": each.event, "eventStatus": each.status} for each in settled if owner_of(each.event)]
    return {"event_ranges": json.dumps(told), "version": 0}


def owner_of(event: str) -> tuple[int, int]:
    """Task and job of that event range."""
    found = _RANGE.fullmatch(event)
    if found is None:
        raise WireError(f"eventRangeID: {shown(event)} is none")
    return int(found[1]), int(found[2])


def where(owners: Sequence[tuple[int, int]]) -> Arguments:
    """The question where all event ranges of those tasks and jobs stand."""
    pairs = [{"task_id": task, "panda_id": job} for task, job in dict.fromkeys(owners)]
    return {"job_task_ids": json.dumps(pairs)}


def statuses_in(reply: Reply) -> dict[str, str]:
    """The status of each event range, of whichever job."""
    if not reply.success:
        raise WireError(f"get_event_range_statuses: {shown(reply.message)}")
    jobs = record(reply.data, "event ranges")
    ranges = [(event, record(one, event)) for job in jobs for event, one in record(jobs[job], job).items()]
    return {event: text(one, "status") for event, one in ranges}


def count_in(reply: Reply) -> int:
    """How many event ranges are left."""
    if not reply.success or isinstance(reply.data, bool) or not isinstance(reply.data, int):
        raise WireError(f"get_available_event_range_count: {shown(reply.message or reply.data)}")
    return reply.data
