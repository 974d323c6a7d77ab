"""PanDA's own calls over the same queue, so that a client of PanDA's can be pointed at it.

A queue of the file is a PanDA site of that name, a job's row its PandaID. Such a client beats every half hour, so
that its lease is PanDA's three hours, not the queue's minute. Until its first word about a job, which follows at once,
it has as long as PanDA leaves a job `sent`: an answer that was lost holds the job up no longer.
"""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from pilot.core.panda_words import unsaid
from pilot.model.capability import Offer
from pilot.model.job import Grant
from pilot.ports import Beat, BeatReply, ClaimRequest, PortError, Unclaim
from pilot.queue import fate
from pilot.queue.service import panda_jobs, panda_rows
from pilot.queue.service.call import EVERYONE, PILOTS, USUAL_BODY, Call, Caller, Spoken
from pilot.queue.service.panda_frame import ArgumentProblem, Said, bound
from pilot.queue.service.panda_words import (
    Acquire,
    Bulk,
    Nothing,
    Statuses,
    Update,
    WorkerGpu,
    WorkerNode,
    WorkerStatus,
)
from pilot.queue.service.state import Service

PILOT, METACONFIG = "/api/v1/pilot", "/api/v1/metaconfig"
LEASE_SECONDS = 10_800.0  # after so long without a word PanDA too takes a job for lost
NO_JOBS = Said(None, "No jobs in PanDA", success=False)
SENT_SECONDS = 1800.0  # as PanDA: a job given out of which no pilot says a word was never heard of
MOST_JOBS = 100
MOST_UPDATES = 1000
KILL = {"StatusCode": 0, "command": "tobekilled"}
COMMANDS = {"cancel": "tobekilled", "stop": "softkill", "checkpoint": "softkill"}
# What PanDA's servers are commonly set up with; megabytes a core.
RESOURCE_TYPES = [
    {"resource_name": name, "mincore": least, "maxcore": most, "minrampercore": None, "maxrampercore": None}
    for name, least, most in (("SCORE", 1, 1), ("MCORE", 2, None))
]


@dataclass(frozen=True, slots=True)
class _Given:
    """A grant that such a client can be told of."""

    panda_id: int
    grant: Grant


async def acquire_jobs(service: Service, caller: Caller, asked: object) -> Said:
    """Jobs that fit what the client says of itself, and that can be said to it."""
    assert isinstance(asked, Acquire)
    count = asked.n_jobs or 1
    if asked.task_id is not None or asked.prod_user_id is not None or not 0 < count <= MOST_JOBS:
        return NO_JOBS  # jobs here belong to no task of PanDA's
    offer = panda_jobs.offer_of(asked, (asked.node or caller.user)[:200])
    given = await service.desk.do("acquire", lambda: _acquire(service, asked.site_name, offer, count))
    if not given:
        return NO_JOBS
    jobs = [panda_jobs.definition(each.panda_id, each.grant, asked.site_name) for each in given]
    return Said({"StatusCode": 0, "jobs": jobs})


def _acquire(service: Service, name: str, offer: Offer, count: int) -> list[_Given]:
    """In the thread. A job whose shape is older than this speech is given back, not said wrongly."""
    if not service.has_queue(name):
        return []
    server = service.server(name)
    requests = [ClaimRequest(f"panda-{secrets.token_hex(12)}", offer) for _ in range(count)]
    answers = [(asked.claim_id, each) for asked, each in zip(requests, server.claim(requests), strict=True) if each]
    mute = [Unclaim(claim_id) for claim_id, each in answers if unsaid(each.spec)]
    if mute:
        server.give_back(mute)
    told = [each for _, each in answers if not unsaid(each.spec)]
    _extend(service, [(each.job_id, each.attempt) for each in told], SENT_SECONDS)
    ids = panda_rows.ids_of(service.store, [each.job_id for each in told])
    return [_Given(ids[each.job_id], each) for each in told]


def _extend(service: Service, attempts: Sequence[tuple[str, int]], seconds: float = LEASE_SECONDS) -> None:
    if not attempts:
        return
    with service.store.writing() as db:
        for job_id, number in attempts:
            attempt = fate.attempt_of(db, job_id, number)
            if attempt is not None and attempt.alive:
                fate.extend(db, attempt, service.wall() + seconds)


async def update_job(service: Service, _caller: Caller, asked: object) -> Said:
    """A heartbeat, or the end of an attempt."""
    assert isinstance(asked, Update)
    if asked.job_status not in panda_jobs.PHASES and asked.job_status not in panda_jobs.ENDS:
        return Said({"StatusCode": 50}, f"Invalid job status: {asked.job_status[:60]}", success=False)
    said = await service.desk.do("update", lambda: _update(service, asked))
    service.lookout.tell_if_stirred()
    return said


def _update(service: Service, asked: Update) -> Said:
    """In the thread; a job that is not there, or an attempt that is not the newest, is to be killed."""
    row = panda_rows.row_of(service.store, asked.job_id)
    if row is None:
        return Said(KILL)
    number = row.attempt if asked.attempt_nr is None else asked.attempt_nr
    if asked.job_status in panda_jobs.ENDS:
        return _end(service, asked, row, number)
    beat = Beat(row.job_id, number, panda_jobs.PHASES[asked.job_status], usage=panda_jobs.usage_of(asked))
    (reply,) = service.server(row.queue).renew([beat])
    if not reply.ours:
        return Said(KILL)
    _extend(service, [(row.job_id, number)])
    return Said({"StatusCode": 0, "command": _command(service, beat, reply, asked.stdout)})


def _command(service: Service, beat: Beat, reply: BeatReply, stdout: str | None) -> str:
    """One word for the client: a command, a question that it can answer in `stdout`, or NULL."""
    (along,) = service.questions.along([Beat(beat.job_id, beat.attempt, beat.phase, answer=stdout or "")], [reply])
    return COMMANDS.get(reply.command, "") or along.question or panda_jobs.NULL


def _end(service: Service, asked: Update, row: panda_rows.Row, number: int) -> Said:
    report = panda_jobs.report_of(asked, row.job_id, number, row.spec)
    (taken,) = service.server(row.queue).report([report])
    if not taken:
        return Said(KILL)
    service.lookout.stir()
    return Said({"StatusCode": 0, "command": panda_jobs.NULL})


async def update_jobs_bulk(service: Service, caller: Caller, asked: object) -> Said:
    """Several updates, each with an answer of its own."""
    assert isinstance(asked, Bulk)
    if len(asked.job_list) > MOST_UPDATES:
        return Said(None, f"job_list holds more than {MOST_UPDATES} jobs", success=False)
    said = [await _one(service, caller, each) for each in asked.job_list]
    return Said([{"success": each.success, "message": each.message, "data": each.data} for each in said])


async def _one(service: Service, caller: Caller, data: object) -> Said:
    try:
        return await update_job(service, caller, bound(Update, data if isinstance(data, dict) else {}))
    except ArgumentProblem as problem:
        return Said(None, str(problem), success=False)
    except PortError as problem:
        return Said({"StatusCode": 30}, f"Database error: {problem.fault.detail}")


async def get_job_status(service: Service, _caller: Caller, asked: object) -> Said:
    """How those jobs stand; one that is not there is not listed."""
    assert isinstance(asked, Statuses)
    ids = [each.strip() for each in asked.job_ids.split(",")]
    if not all(each.isascii() and each.isdigit() and len(each) < 19 for each in ids) or len(ids) > MOST_UPDATES:
        return Said(None, "Argument error: job_ids are numbers with commas between them", success=False)
    rows = await service.reader.do("read", lambda: [panda_rows.row_of(service.own, int(each)) for each in ids])
    return Said([{"job_id": each.number, "status": _status(each), "attempt_number": each.attempt}
                 for each in rows if each is not None])  # fmt: skip


def _status(row: panda_rows.Row) -> str:
    return panda_jobs.DONE.get(row.verdict) or panda_jobs.STATES[row.state]


async def update_worker_status(_service: Service, _caller: Caller, asked: object) -> Said:
    """Taken note of; the real server too says yes to a worker that it does not know."""
    assert isinstance(asked, WorkerStatus)
    if asked.status not in ("started", "finished"):
        return Said(None, f"Invalid status: {asked.status[:60]}", success=False)
    return Said()


async def update_worker_node(service: Service, _caller: Caller, asked: object) -> Said:
    """A node of a site's; a slot's name before the @ is dropped, as the real server does."""
    assert isinstance(asked, WorkerNode)
    new = service.nodes.add((asked.site, asked.host_name.rpartition("@")[2]))
    return Said(None, "Inserted new worker node." if new else "Updated existing worker node.")


async def update_worker_node_gpu(service: Service, _caller: Caller, asked: object) -> Said:
    """The GPUs of one kind of a node."""
    assert isinstance(asked, WorkerGpu)
    new = service.nodes.add((asked.site, asked.host_name.rpartition("@")[2], asked.vendor, asked.model))
    return Said(None, "Inserted new worker node GPU." if new else "Updated existing worker node GPU.")


async def get_resource_types(_service: Service, _caller: Caller, _asked: object) -> Said:
    """The classes of jobs by cores."""
    return Said(RESOURCE_TYPES)


def _call(verb: str, what: str, run: object, takes: type, method: str = "POST") -> Call:
    return Call(method, f"{PILOT}/{verb}", PILOTS, what, run, takes, None, USUAL_BODY, Spoken.PANDA)  # type: ignore[arg-type]


CALLS = (
    _call("acquire_jobs", "PanDA: gives jobs to a pilot.", acquire_jobs, Acquire),
    _call("update_job", "PanDA: a job's heartbeat or end.", update_job, Update),
    _call("update_jobs_bulk", "PanDA: many of these at once.", update_jobs_bulk, Bulk),
    _call("get_job_status", "PanDA: how jobs stand.", get_job_status, Statuses, "GET"),
    _call("update_worker_status", "PanDA: a pilot began or ended.", update_worker_status, WorkerStatus),
    _call("update_worker_node", "PanDA: what a node is.", update_worker_node, WorkerNode),
    _call("update_worker_node_gpu", "PanDA: a node's GPUs.", update_worker_node_gpu, WorkerGpu),
    Call("GET", f"{METACONFIG}/get_resource_types", EVERYONE, "PanDA: the classes of jobs by cores.",
         get_resource_types, Nothing, spoken=Spoken.PANDA),
)  # fmt: skip
