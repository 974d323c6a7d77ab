"""What a user asks: our own calls, over the `Queue` port in process, as far as the user's role goes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from starlette.requests import Request
from starlette.responses import Response

from pilot.model.faults import Code
from pilot.model.files import CODE_BYTES_CAP, CodePack
from pilot.model.job import JobSpec
from pilot.model.queue import Explanation, JobRow, JobState, JobView, QueueSettings, Submission
from pilot.model.report import Report
from pilot.ports import Final, Queue
from pilot.queue.service import logs
from pilot.queue.service.body import BadBody, arrived
from pilot.queue.service.call import EVERYONE, LARGE_BODY, USERS, Call, Caller, Spoken
from pilot.queue.service.envelope import enveloped
from pilot.queue.service.limits import check_room
from pilot.queue.service.sound import check, check_after, newest
from pilot.queue.service.state import Service
from pilot.queue.service.uploads import brought_by, check_digest
from pilot.wire.calls import GIVEN_QUEUE, path

T = TypeVar("T")

LISTED_CAP = 100_000  # rows in one answer: some twenty megabytes


@dataclass(frozen=True, slots=True)
class Submitted:
    """One job handed in; its code, if it has some, was PUT before."""

    spec: JobSpec
    job_id: str = ""


@dataclass(frozen=True, slots=True)
class Adding:
    """What `add` takes."""

    jobs: tuple[Submitted, ...]
    queue: str = GIVEN_QUEUE


@dataclass(frozen=True, slots=True)
class Finding:
    """What `find` takes; limit 0 = all; after a job's id = those that came later."""

    states: tuple[JobState, ...] = ()
    owner: str = ""
    limit: int = 0
    after: str = ""
    queue: str = GIVEN_QUEUE


@dataclass(frozen=True, slots=True)
class OneJob:
    """What a look at one job takes: its id, or a name that one job alone has."""

    job: str
    queue: str = GIVEN_QUEUE


@dataclass(frozen=True, slots=True)
class Resulting:
    """What `results` takes: the reports after so many, so many at most; 0 = all."""

    job: str
    skip: int = 0
    limit: int = 0
    queue: str = GIVEN_QUEUE


@dataclass(frozen=True, slots=True)
class SomeJobs:
    """What a change of jobs takes."""

    jobs: tuple[str, ...]
    queue: str = GIVEN_QUEUE


@dataclass(frozen=True, slots=True)
class NoJob:
    """What a look at the queue takes."""

    queue: str = GIVEN_QUEUE


@dataclass(frozen=True, slots=True)
class Asking:
    """What `ask` takes."""

    job: str
    question: str
    queue: str = GIVEN_QUEUE


@dataclass(frozen=True, slots=True)
class Answered:
    """What `answer` gives; the answer is "" until a heartbeat has brought it."""

    question: str
    answer: str


@dataclass(frozen=True, slots=True)
class Reading:
    """What `log` takes: which is stdout, stderr or pilot; offset in bytes."""

    job: str
    which: str = "stdout"
    offset: int = 0
    queue: str = GIVEN_QUEUE


async def put_code(service: Service, caller: Caller, request: Request) -> Response:
    """Takes a job's own code, which `add` will name."""
    sha256 = check_digest(request.query_params.get("sha256", ""))
    service.uploads.put(caller.user, sha256, await arrived(request, CODE_BYTES_CAP))
    return Response(enveloped(None), media_type="application/json")


async def add(service: Service, caller: Caller, asked: object) -> Sequence[JobRow]:
    """Takes all of the jobs or none; their owner is whoever the token says."""
    assert isinstance(asked, Adding)
    for each in asked.jobs:
        check(each.spec)

    def work() -> Sequence[JobRow]:
        check_room(service.store, asked.queue, caller.user, len(asked.jobs), service.setting.limits)
        codes = [code_of(service, caller, asked.queue, each.spec) for each in asked.jobs]
        jobs = [Submission(each.spec, each.job_id, code) for each, code in zip(asked.jobs, codes, strict=True)]
        queue = service.queue(asked.queue, caller)
        check_after(queue, jobs)
        rows = queue.add(jobs)
        service.lookout.stir()
        return rows

    rows = await service.desk.do("add", work)
    service.lookout.tell_if_stirred()
    return rows


def code_of(service: Service, caller: Caller, name: str, spec: JobSpec) -> bytes:
    """The archive that the job names; it was PUT before."""
    if spec.code is None:
        return b""
    found = service.uploads.get(caller.user, spec.code.sha256)
    return found if found is not None else _kept_code(service, caller, name, spec.code)


def _kept_code(service: Service, caller: Caller, name: str, pack: CodePack) -> bytes:
    """An archive that an earlier job of the same user brought: a digest alone opens nobody else's."""
    if not brought_by(service.store, caller.user, pack.sha256):
        put = f"PUT {path('code')}?sha256={pack.sha256[:64]}"
        raise Final(Code.STORAGE_EXISTS, f"the job's code is not here (any more): {put} first")
    return service.server(name).code(pack)


async def find(service: Service, caller: Caller, asked: object) -> Sequence[JobRow]:
    """The jobs in those states; a submitter's own."""
    assert isinstance(asked, Finding)
    if caller.sees and asked.owner not in ("", caller.sees):
        raise Final(Code.STORAGE_DENIED, f"{caller.user} may list the own jobs only, not those of {asked.owner[:80]!r}")
    limit = min(asked.limit or LISTED_CAP + 1, LISTED_CAP + 1)
    owner = caller.sees or asked.owner

    def look(queue: Queue) -> Sequence[JobRow]:
        return queue.find(asked.states, owner, max(limit, 1), asked.after)

    rows = await _read(service, caller, asked.queue, look)
    if len(rows) > LISTED_CAP:
        raise BadBody(f"more than {LISTED_CAP} jobs: give states, an owner or a limit", 413)
    return rows


async def show(service: Service, caller: Caller, asked: object) -> JobView:
    """One job in full."""
    assert isinstance(asked, OneJob)
    return newest(await _read(service, caller, asked.queue, lambda queue: queue.show(asked.job)))


async def results(service: Service, caller: Caller, asked: object) -> Sequence[Report]:
    """The reports of all its attempts."""
    assert isinstance(asked, Resulting)
    found = await _read(service, caller, asked.queue, lambda queue: queue.results(asked.job))
    return found[max(asked.skip, 0) :][: asked.limit if asked.limit > 0 else None]


async def explain(service: Service, caller: Caller, asked: object) -> Explanation:
    """Why it stands where it stands."""
    assert isinstance(asked, OneJob)
    return await _read(service, caller, asked.queue, lambda queue: queue.explain(asked.job))


async def settings(service: Service, caller: Caller, asked: object) -> QueueSettings:
    """The queue's name, owner, state and defaults."""
    assert isinstance(asked, NoJob)
    return await _read(service, caller, asked.queue, lambda queue: queue.settings())


async def hold(service: Service, caller: Caller, asked: object) -> Sequence[JobRow]:
    """Keeps jobs from being given out."""
    return await _change(service, caller, asked, lambda queue, jobs: queue.hold(jobs))


async def release(service: Service, caller: Caller, asked: object) -> Sequence[JobRow]:
    """Lets held jobs be given out again."""
    return await _change(service, caller, asked, lambda queue, jobs: queue.release(jobs))


async def cancel(service: Service, caller: Caller, asked: object) -> Sequence[JobRow]:
    """Ends jobs: at once where they wait, through the heartbeat where they run."""
    return await _change(service, caller, asked, lambda queue, jobs: queue.cancel(jobs))


async def checkpoint(service: Service, caller: Caller, asked: object) -> Sequence[JobRow]:
    """Has running jobs write a checkpoint now."""
    return await _change(service, caller, asked, lambda queue, jobs: queue.checkpoint(jobs))


async def ask(service: Service, caller: Caller, asked: object) -> None:
    """Puts a question to a running job."""
    assert isinstance(asked, Asking)
    job = (await _read(service, caller, asked.queue, lambda queue: queue.show(asked.job))).job
    if job.state is not JobState.GRANTED:
        raise Final(Code.SERVER_REFUSED, f"job {job.job_id} is {job.state}: only a running one can be looked into")
    service.questions.ask(job.job_id, asked.question)


async def answer(service: Service, caller: Caller, asked: object) -> Answered:
    """What was asked of that job last, and what came back."""
    assert isinstance(asked, OneJob)
    job = (await _read(service, caller, asked.queue, lambda queue: queue.show(asked.job))).job
    found = service.questions.answer(job.job_id)
    return Answered(found.question, found.answer)


async def log(service: Service, caller: Caller, asked: object) -> logs.Piece:
    """A piece of a job's log, as far as this service can read it."""
    assert isinstance(asked, Reading)
    where = logs.checked(asked.which, asked.offset)
    return await _read(service, caller, asked.queue, lambda queue: logs.piece(queue, asked.job, where))


async def _read(service: Service, caller: Caller, name: str, look: Callable[[Queue], T]) -> T:
    """On a connection of its own, so that claims never wait behind somebody's long list."""
    return await service.reader.do("read", lambda: look(service.queue(name, caller, service.own)))


async def _change(
    service: Service, caller: Caller, asked: object, change: Callable[[Queue, Sequence[str]], Sequence[JobRow]]
) -> Sequence[JobRow]:
    assert isinstance(asked, SomeJobs)

    def work() -> Sequence[JobRow]:
        rows = change(service.queue(asked.queue, caller), asked.jobs)
        service.lookout.stir()
        return rows

    rows = await service.desk.do("change", work)
    service.lookout.tell_if_stirred()
    return rows


def post(verb: str, what: str, run: object, takes: type, gives: object) -> Call:
    """A call that users make."""
    return Call("POST", path(verb), USERS, what, run, takes, gives)  # type: ignore[arg-type]


CALLS = (
    replace(post("add", "Takes jobs: all of them or none.", add, Adding, tuple[JobRow, ...]), body=LARGE_BODY),
    post("find", "Lists jobs in order of arrival.", find, Finding, tuple[JobRow, ...]),
    post("show", "Shows one job in full.", show, OneJob, JobView),
    post("results", "Gives the reports of all attempts of a job.", results, Resulting, tuple[Report, ...]),
    post("explain", "Says why a job stands where it stands.", explain, OneJob, Explanation),
    post("hold", "Keeps jobs from being given out.", hold, SomeJobs, tuple[JobRow, ...]),
    post("release", "Lets held jobs be given out again.", release, SomeJobs, tuple[JobRow, ...]),
    post("cancel", "Ends jobs.", cancel, SomeJobs, tuple[JobRow, ...]),
    post("checkpoint", "Has running jobs write a checkpoint now.", checkpoint, SomeJobs, tuple[JobRow, ...]),
    replace(post("settings", "Tells the queue's settings.", settings, NoJob, QueueSettings), roles=EVERYONE),
    post("ask", "Puts a question to a running job: tail FILE, ls [FOLDER] or ps.", ask, Asking, type(None)),
    post("answer", "Gives what came back.", answer, OneJob, Answered),
    post("log", "Gives a piece of a job's log.", log, Reading, logs.Piece),
    Call("PUT", path("code"), USERS, "Takes the archive of a job's own code.", put_code, body=CODE_BYTES_CAP,
         spoken=Spoken.RAW, query={"sha256": "the archive's digest", "queue": "the queue's name"}),
)  # fmt: skip
