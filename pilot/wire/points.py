"""Hyper-parameter points of PanDA's: `phpo` jobs draw one from the server's event ranges and iDDS, and bring its loss.

PanDA's script does this inside the job, with the pilot's credential. Here the pilot draws the point before the job
starts and settles it with the job's report, so that nothing of it is in the payload's hands. One job, one point.
"""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

from pilot.wire.envelope import Reply, WireError, shown
from pilot.wire.reading import Record, number, record, records, text

ACQUIRE = "/api/v1/event/acquire_event_ranges"
SETTLE = "/api/v1/event/update_single_event_range"
RELAY = "/api/v1/idds/relay_idds_command"
MOST_DRAWN = 10  # event ranges whose points turn out to be evaluated already, before a job is left without one
_LONGEST_POINT = 60_000  # characters of JSON: it travels within the command
_SCRIPT = re.compile(r"runHPO(-|$)")
_EVENT = re.compile(r"[0-9]+-[0-9]+-[0-9]+-([0-9]+)-[0-9]+")

Arguments = dict[str, object]


@dataclass(frozen=True, slots=True)
class Point:
    """One point to be evaluated: its event range, its number in iDDS, its parameters as JSON; `loss` where known."""

    event: str = ""
    sample: str = ""
    parameters: str = "{}"
    loss: float | None = None


def wants_point(data: Record) -> bool:
    """Whether that job definition is the evaluation of a point."""
    script = data.get("transformation")
    return isinstance(script, str) and _SCRIPT.match(script.rpartition("/")[2]) is not None


def draw(data: Record) -> Arguments:
    """The question for one event range of that job's task: points belong to no set of jobs."""
    ids = {"job_id": "PandaID", "task_id": "taskID"}
    return {**{name: number(data, key, 0) for name, key in ids.items()}, "jobset_id": 0, "n_ranges": 1}


def drawn(reply: Reply) -> str:
    """The event range in that reply; "" where there is none left."""
    if not reply.success:
        raise WireError(f"event ranges: {shown(reply.message)}")
    found = records(reply.data or [], "event ranges")
    return text(found[0], "eventRangeID") if found else ""


def look_up(data: Record, event: str) -> Arguments:
    """The question to iDDS for the point of that event range."""
    return _relay("get_hyperparameters", {**_work(data), "id": sample_of(event)})


def sample_of(event: str) -> str:
    """The point's number in iDDS."""
    found = _EVENT.fullmatch(event)
    if found is None:
        raise WireError(f"eventRangeID: {shown(event)} names no point")
    return found[1]


def point_of(reply: Reply, event: str) -> Point:
    """The point that iDDS told."""
    if not reply.success:
        raise WireError(f"iDDS: {shown(reply.message)}")
    sample = sample_of(event)
    one = next((each for each in _told(reply.data) if text(each, "id") == sample), None)
    if one is None:
        raise WireError(f"iDDS: it knows no point {sample}")
    parameters = json.dumps(record(one.get("parameters"), "parameters"))
    loss = one.get("loss")
    if len(parameters) > _LONGEST_POINT or not (loss is None or isinstance(loss, int | float)):
        raise WireError(f"iDDS: the point {sample} is none")
    return Point(event, sample, parameters, loss)


def _told(data: object) -> list[Record]:
    """iDDS answers with the list, or with its status and the list."""
    return records(data[1] if isinstance(data, list) and len(data) == 2 and isinstance(data[1], list) else data, "iDDS")


def settle(event: str) -> Arguments:
    """The word that this event range is done."""
    return {"event_range_id": event, "event_range_status": "finished"}


def tell_loss(task: str, event: str, loss: float) -> Arguments:
    """The word to iDDS of what came out."""
    return _relay("update_hyperparameter", {**_work({"taskID": task}), "id": sample_of(event), "loss": loss})


def loss_in(message: str) -> float | None:
    """The loss that the job's own script left in its result, if it is a number."""
    found = re.fullmatch(r"loss=([-+0-9.eE]{1,40})", message)
    try:
        loss = float(found[1]) if found else math.nan
    except ValueError:
        return None
    return loss if math.isfinite(loss) else None


def _work(data: Mapping[str, object]) -> Arguments:
    return {"workload_id": number(data, "taskID", 0), "request_id": None}


def _relay(command: str, arguments: Arguments) -> Arguments:
    return {"command_name": command, "kwargs": json.dumps(arguments)}
