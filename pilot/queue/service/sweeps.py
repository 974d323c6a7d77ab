"""Sweeps over the wire: a description with placeholders, and a row of values for each job."""

from dataclasses import dataclass, replace

from pilot.model.faults import Code
from pilot.model.queue import Submission, Sweep
from pilot.ports import Final
from pilot.queue.service.call import LARGE_BODY, Caller
from pilot.queue.service.limits import check_room
from pilot.queue.service.sound import check, check_after
from pilot.queue.service.state import Service
from pilot.queue.service.users import Submitted, code_of, post
from pilot.wire.calls import GIVEN_QUEUE


@dataclass(frozen=True, slots=True)
class Sweeping:
    """What `add_sweep` takes: the description, the names of its placeholders, and values in that order."""

    template: Submitted
    names: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    queue: str = GIVEN_QUEUE


async def add_sweep(service: Service, caller: Caller, asked: object) -> Sweep:
    """Takes a job for each row or none; their owner is whoever the token says."""
    assert isinstance(asked, Sweeping)
    given = asked.template
    check(given.spec)
    odd = next((number for number, each in enumerate(asked.rows, 1) if len(each) != len(asked.names)), 0)
    if odd:
        raise Final(Code.JOB_INVALID, f"job {odd} of the sweep: as many values as there are names, in their order")

    def work() -> Sweep:
        check_room(service.store, asked.queue, caller.user, len(asked.rows), service.setting.limits)
        template = Submission(given.spec, given.job_id, code_of(service, caller, asked.queue, given.spec))
        rows = (dict(zip(asked.names, each, strict=True)) for each in asked.rows)
        queue = service.queue(asked.queue, caller)
        check_after(queue, [template])
        sweep = queue.add_sweep(template, rows)
        service.lookout.stir()
        return sweep

    sweep = await service.desk.do("add", work)
    service.lookout.tell_if_stirred()
    return sweep


CALLS = (
    replace(post("add_sweep", "Takes a job for each row of values.", add_sweep, Sweeping, Sweep), body=LARGE_BODY),
)
