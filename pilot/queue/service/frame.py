"""Around every call: who asks, what was sent, what is answered, and the one line in the log."""

import asyncio
import logging
import re
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from http import HTTPStatus
from itertools import count
from typing import TypeVar, cast

from starlette.requests import Request
from starlette.responses import Response

from pilot.core.reporting import clean
from pilot.model.faults import Code, Fault
from pilot.ports import Passing, PortError, Unknown
from pilot.queue.service import body, panda_frame
from pilot.queue.service.call import ANYBODY, Call, Caller, Handler, RawHandler, Role, Spoken
from pilot.queue.service.envelope import enveloped
from pilot.queue.service.identity import Denied, Doorkeeper, Holder
from pilot.queue.service.limits import Busy
from pilot.queue.service.pieces import in_pieces
from pilot.queue.service.state import OPEN_USER, Service
from pilot.wire.calls import FINAL, PASSING, UNKNOWN, Refusal

T = TypeVar("T")
_LIFE, _NUMBERS = secrets.token_hex(3), count(1)  # request ids: chance for each would cost a system call
log = logging.getLogger("pilot.serve")

REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
TOLD = frozenset({"add", "add_sweep", "hold", "release", "cancel", "checkpoint", "storage_token"})  # in the log
NOT_NAMED = "the call came without a token; give one with --token-file or PILOT_TOKEN_FILE, or run pilot login"
RETRY_SECONDS = 2
BUSY = (HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.TOO_MANY_REQUESTS)
ROW_BYTES = 150  # of a job in a listing, about
STATUS: Mapping[Code, HTTPStatus] = {
    Code.CREDENTIAL_EXPIRED: HTTPStatus.UNAUTHORIZED,
    Code.CREDENTIAL_REFUSED: HTTPStatus.UNAUTHORIZED,
    Code.STORAGE_DENIED: HTTPStatus.FORBIDDEN,
    Code.STORAGE_EXISTS: HTTPStatus.CONFLICT,
    Code.SERVER_REFUSED: HTTPStatus.CONFLICT,
    Code.SERVER_UNREACHABLE: HTTPStatus.SERVICE_UNAVAILABLE,
}
Endpoint = Callable[[Request], Awaitable[Response]]


def endpoint(service: Service, call: Call) -> Endpoint:
    """What the server runs for that row of the table."""

    async def answer(request: Request) -> Response:
        begun = time.perf_counter()
        asked = request.headers.get("x-request-id", "")
        caller = Caller("", None, asked if REQUEST_ID.fullmatch(asked) else f"{_LIFE}-{next(_NUMBERS)}")
        why = ""
        try:
            caller = await _caller(service, call, request, caller.request)
            response = await _answered(service, call, caller, request)
        except (PortError, ArithmeticError, ValueError, panda_frame.ArgumentProblem) as problem:
            response, why = _refused(call, problem)
            if isinstance(problem, Denied) and not caller.user:
                caller = replace(caller, user=problem.says)  # for the log alone
        response.headers["x-request-id"] = caller.request
        seconds = time.perf_counter() - begun
        service.numbers.answered(call.path, response.status_code, seconds)
        _note(call, caller, request, f"{response.status_code} {seconds * 1000:.1f}ms", why)
        return in_pieces(response)

    return answer


def one_line(text: str) -> str:
    """The text as a log and a message may hold it: one line, bounded, nothing secret in it."""
    return " ".join(clean(text[:2000]).split())[:1000]


# --- who ---


async def _caller(service: Service, call: Call, request: Request, number: str) -> Caller:
    door = service.setting.doorkeeper
    if call.roles == ANYBODY:
        return Caller("", None, number)
    if door is None:  # loopback without TLS and tokens, by an explicit flag
        return Caller(OPEN_USER, _one_of(call.roles), number)
    holder = await _holder(door, request.headers.get("authorization", ""))
    if holder.role not in call.roles:
        wanted = " or ".join(sorted(call.roles))
        line = f"this call is for the role {wanted}, and yours is {holder.role}"
        raise Denied(Code.CREDENTIAL_REFUSED, line, 403, says=holder.user)
    return Caller(holder.user, holder.role, number)


def _one_of(roles: frozenset[Role]) -> Role:
    return next(each for each in (Role.OPERATOR, Role.PILOT, Role.SUBMITTER) if each in roles)


async def _holder(door: Doorkeeper, authorization: str) -> Holder:
    scheme, _, token = authorization.partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise Denied(Code.CREDENTIAL_REFUSED, NOT_NAMED, missing=True)
    known = door.known(token)
    return known if known is not None else await asyncio.to_thread(door.verify, token)


# --- what ---


async def _answered(service: Service, call: Call, caller: Caller, request: Request) -> Response:
    if call.spoken is Spoken.RAW:
        return await cast(RawHandler, call.run)(service, caller, request)
    if call.spoken is Spoken.PANDA:
        said = await cast(Handler, call.run)(service, caller, await panda_frame.arguments(call, request))
        return panda_frame.response(cast(panda_frame.Said, said))
    octets = await body.arrived(request, call.body) if call.method == "POST" else b""
    found = await body.object_in(octets, call.body)
    arguments = None if call.takes is None else await aside(len(octets), body.value_in, call.takes, found)
    data = await cast(Handler, call.run)(service, caller, arguments)
    rows = len(data) * ROW_BYTES if isinstance(data, list | tuple) else 0
    return Response(await aside(rows, enveloped, data), media_type="application/json")


async def aside(size: int, work: Callable[..., T], *given: object) -> T:
    """Large work in a thread: heartbeats are not kept waiting for somebody's long list."""
    return await asyncio.to_thread(work, *given) if size > body.ASIDE_BYTES else work(*given)


def _refused(call: Call, problem: Exception) -> tuple[Response, str]:
    if call.spoken is Spoken.PANDA:
        response, said = panda_frame.refusal(problem)
        return response, said.message
    if not isinstance(problem, PortError):
        return _envelope_of_refusal(Refusal(Code.SERVER_REFUSED, FINAL), f"not possible: {problem}", 422)
    told: Fault = problem.fault
    kind = PASSING if isinstance(problem, Passing) else UNKNOWN if isinstance(problem, Unknown) else FINAL
    return _envelope_of_refusal(Refusal(told.code, kind), told.detail or told.message, _status(problem))


def _envelope_of_refusal(refusal: Refusal, line: str, status: int) -> tuple[Response, str]:
    headers = {"retry-after": str(RETRY_SECONDS)} if status in BUSY else {}
    if status == HTTPStatus.UNAUTHORIZED:
        headers["www-authenticate"] = "Bearer"
    message = one_line(line)
    whole = enveloped(refusal.plain(), message, success=False)
    return Response(whole, status, headers, "application/json"), message


def _status(problem: PortError) -> int:
    if isinstance(problem, Denied | body.BadBody):
        return problem.status
    if isinstance(problem, Unknown):
        return HTTPStatus.NOT_FOUND
    if isinstance(problem, Busy):
        return HTTPStatus.TOO_MANY_REQUESTS
    if isinstance(problem, Passing):
        return HTTPStatus.SERVICE_UNAVAILABLE
    return STATUS.get(problem.fault.code, HTTPStatus.UNPROCESSABLE_ENTITY)


def _note(call: Call, caller: Caller, request: Request, outcome: str, why: str) -> None:
    """Looks and pilots' own calls are many: of them only what went wrong."""
    level = logging.INFO if why or call.path.rpartition("/")[2] in TOLD else logging.DEBUG
    if log.isEnabledFor(level):
        client = request.client.host.removeprefix("::ffff:") if request.client else "-"
        who = f"{caller.role or '-'}:{one_line(caller.user) or '-'}"
        log.log(level, "%s %s %s %s %s %s%s", caller.request, client, who, call.method, call.path, outcome,
                f" {why}" if why else "")  # fmt: skip
