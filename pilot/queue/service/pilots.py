"""What a pilot asks: our own calls, over the `Server` port in process."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

from starlette.requests import Request
from starlette.responses import Response

from pilot.model.capability import Offer
from pilot.model.files import CodePack
from pilot.model.job import Grant, Verdict
from pilot.model.report import Report
from pilot.ports import Beat, BeatReply, ClaimRequest, Registration, Unclaim
from pilot.queue.service.body import BadBody
from pilot.queue.service.call import PILOTS, SMALL_BODY, USUAL_BODY, Call, Caller, Spoken
from pilot.queue.service.sound import carried
from pilot.queue.service.state import Service
from pilot.queue.service.uploads import check_digest
from pilot.wire.calls import BATCH_CAP, GIVEN_QUEUE, PATIENCE_CAP_SECONDS, path

T = TypeVar("T")
PROGRESS_LETTERS = 65_536
ID_LETTERS, LEFT_KEPT = 200, 10_000


@dataclass(frozen=True, slots=True)
class Registering:
    """What `register` takes."""

    offer: Offer
    queue: str = GIVEN_QUEUE


@dataclass(frozen=True, slots=True)
class Claiming:
    """What `claim` takes: each claim names its id and the number of its offer in the list."""

    offers: tuple[Offer, ...]
    claims: tuple[tuple[str, int], ...]
    queue: str = GIVEN_QUEUE


@dataclass(frozen=True, slots=True)
class Claimed:
    """What `claim` gives: `version` is how the queue stood before, "" where something was granted."""

    grants: tuple[Grant | None, ...]
    version: str = ""


@dataclass(frozen=True, slots=True)
class Looking:
    """What `changed` takes: the version last heard of, and how long it may wait, in seconds."""

    since: str = ""
    patience: float = 0.0
    queue: str = GIVEN_QUEUE


@dataclass(frozen=True, slots=True)
class Looked:
    """What `changed` gives."""

    changed: bool
    version: str


@dataclass(frozen=True, slots=True)
class Renewing:
    """What `renew` takes."""

    beats: tuple[Beat, ...]
    queue: str = GIVEN_QUEUE


@dataclass(frozen=True, slots=True)
class Reporting:
    """What `report` takes."""

    reports: tuple[Report, ...]
    queue: str = GIVEN_QUEUE


@dataclass(frozen=True, slots=True)
class Returning:
    """What `give_back` takes."""

    claims: tuple[Unclaim, ...]
    queue: str = GIVEN_QUEUE


@dataclass(frozen=True, slots=True)
class Adopting:
    """What `adopt` takes."""

    pilot_id: str
    attempts: tuple[Beat, ...]
    queue: str = GIVEN_QUEUE


@dataclass(frozen=True, slots=True)
class Leaving:
    """What `leave` takes."""

    pilot_id: str
    queue: str = GIVEN_QUEUE


async def register(service: Service, _caller: Caller, asked: object) -> Registration:
    """Makes a pilot known."""
    assert isinstance(asked, Registering)
    return await service.desk.do("register", lambda: service.server(asked.queue).register(asked.offer))


async def claim(service: Service, _caller: Caller, asked: object) -> dict[str, object]:
    """Matches and grants, together with whoever claims in this moment."""
    assert isinstance(asked, Claiming)
    requests = [ClaimRequest(claim_id, _offer(asked.offers, number)) for claim_id, number in few(asked.claims)]
    work = partial(_claim_all, service, asked.queue)
    answers = await service.desk.join("claim", asked.queue, requests, work)
    if not answers:
        return {"grants": [], "version": await service.desk.do("look", service.lookout.look)}
    grants = [carried(grant) for grant, _ in answers]
    return {"grants": grants, "version": "" if any(grants) else answers[0][1]}


def _claim_all(service: Service, name: str, requests: Sequence[ClaimRequest]) -> list[tuple[Grant | None, str]]:
    """In the thread: the version is read first, so that what comes in meanwhile counts as later."""
    server = service.server(name)
    before = service.lookout.look()
    return [(grant, before) for grant in server.claim(requests)]


def _offer(offers: tuple[Offer, ...], number: int) -> Offer:
    if not 0 <= number < len(offers):
        raise BadBody(f"claims: there is no offer number {number} in the list of {len(offers)}")
    return offers[number]


async def changed(service: Service, _caller: Caller, asked: object) -> Looked:
    """A look, a long one where patience is given."""
    assert isinstance(asked, Looking)
    patience = min(max(asked.patience, 0.0), PATIENCE_CAP_SECONDS)
    found = await service.lookout.changed(asked.since, patience)
    return Looked(found, service.lookout.version)


async def renew(service: Service, _caller: Caller, asked: object) -> Sequence[BeatReply]:
    """Renews leases; takes questions along and brings answers."""
    assert isinstance(asked, Renewing)
    beats = [_modest(each) for each in few(asked.beats)]
    work = partial(_renew_all, service, asked.queue)
    return service.questions.along(beats, await service.desk.join("renew", asked.queue, beats, work))


def _modest(beat: Beat) -> Beat:
    """Without a progress record that no list should show; half of one would be no record."""
    return beat if len(beat.progress) <= PROGRESS_LETTERS else replace(beat, progress="")


def _renew_all(service: Service, name: str, beats: Sequence[Beat]) -> Sequence[BeatReply]:
    return service.server(name).renew(beats)


async def report(service: Service, _caller: Caller, asked: object) -> Sequence[bool]:
    """Takes outcomes; each counts once."""
    assert isinstance(asked, Reporting)
    work = partial(_report_all, service, asked.queue)
    answers = await service.desk.join("report", asked.queue, few(asked.reports), work)
    service.lookout.tell_if_stirred()
    return answers


def _report_all(service: Service, name: str, reports: Sequence[Report]) -> Sequence[bool]:
    answers = service.server(name).report(reports)
    freed = any(taken and each.verdict is not Verdict.SUCCEEDED for each, taken in zip(reports, answers, strict=True))
    if freed or service.waited_for([each.job_id for each in reports]):
        service.lookout.stir()
    return answers


async def give_back(service: Service, _caller: Caller, asked: object) -> None:
    """Takes claims back."""
    assert isinstance(asked, Returning)
    work = partial(_return_all, service, asked.queue)
    await service.desk.join("give_back", asked.queue, few(asked.claims), work)
    service.lookout.tell_if_stirred()


def _return_all(service: Service, name: str, claims: Sequence[Unclaim]) -> Sequence[None]:
    service.server(name).give_back(claims)
    service.lookout.stir()
    return [None] * len(claims)


async def adopt(service: Service, _caller: Caller, asked: object) -> Sequence[BeatReply]:
    """Lets a new pilot take over what an earlier one of its state directory left."""
    assert isinstance(asked, Adopting)
    attempts = few(asked.attempts)
    return await service.desk.do("adopt", lambda: service.server(asked.queue).adopt(asked.pilot_id, attempts))


async def leave(service: Service, _caller: Caller, asked: object) -> None:
    """Remembers, for those who watch, that the pilot has gone."""
    assert isinstance(asked, Leaving)
    now = service.wall()
    if len(service.left) >= LEFT_KEPT:
        service.left.pop(next(iter(service.left)))
    service.left.pop(asked.pilot_id, None)
    service.left[asked.pilot_id[:ID_LETTERS]] = now


async def code(service: Service, _caller: Caller, request: Request) -> Response:
    """Gives a job's own code."""
    pack = CodePack(check_digest(request.query_params.get("sha256", "")), 0)
    name = request.query_params.get("queue", GIVEN_QUEUE)
    archive = await service.desk.do("code", lambda: service.server(name).code(pack))
    return Response(archive, media_type="application/octet-stream")


def few(items: tuple[T, ...]) -> tuple[T, ...]:
    """The items, if they are no more than one call may carry."""
    if len(items) > BATCH_CAP:
        raise BadBody(f"{len(items)} items in one call; at most {BATCH_CAP}", 413)
    return items


def _post(verb: str, what: str, run: object, takes: type, gives: object, body: int = USUAL_BODY) -> Call:
    return Call("POST", path(verb), PILOTS, what, run, takes, gives, body)  # type: ignore[arg-type]


CALLS = (
    _post("claim", "Grants jobs that fit the offers: one answer a claim, in order.", claim, Claiming, Claimed),
    _post("renew", "Renews leases, and brings commands and questions.", renew, Renewing, tuple[BeatReply, ...]),
    _post("report", "Takes the outcome of attempts: true = recorded, false = fenced.", report, Reporting,
          tuple[bool, ...]),
    _post("changed", "Says whether claiming again may give another answer; may wait for it.", changed, Looking, Looked,
          SMALL_BODY),
    _post("register", "Makes a pilot known, with what it offers.", register, Registering, Registration),
    _post("give_back", "Returns claims, unharmed and for ever.", give_back, Returning, type(None)),
    _post("adopt", "Lets a pilot take over what an earlier one of its place left.", adopt, Adopting,
          tuple[BeatReply, ...]),
    _post("leave", "Says that a pilot asks for nothing more.", leave, Leaving, type(None), SMALL_BODY),
    Call("GET", path("code"), PILOTS, "Gives the archive of a job's own code.", code, spoken=Spoken.RAW,
         query={"sha256": "the archive's digest", "queue": "the queue's name"}),
)  # fmt: skip
