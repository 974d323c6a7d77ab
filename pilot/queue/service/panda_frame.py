"""PanDA's manner: strict arguments by name and type, its envelope under HTTP 200, its words for errors, text/plain."""

import types
import typing
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields

from starlette.requests import Request
from starlette.responses import Response

from pilot.ports import PortError
from pilot.queue.service.body import BadBody, arrived, object_in
from pilot.queue.service.call import Call
from pilot.queue.service.envelope import enveloped
from pilot.queue.service.identity import Denied

CONTENT_TYPE = "application/json"  # exactly: with a charset behind it the real server reads no body either
NO_IDENTITY = "SSL secure connection is required"
NO_ROLE = "production or pilot role required"


@dataclass(frozen=True, slots=True)
class Said:
    """What a call of PanDA's answers, in its envelope."""

    data: object = None
    message: str = ""
    success: bool = True


class ArgumentProblem(Exception):
    """What was sent is not what the call takes; the text is PanDA's."""


async def arguments(call: Call, request: Request) -> object:
    """The call's arguments as the value that it takes; raises ArgumentProblem and BadBody."""
    assert call.takes is not None
    if request.method == "GET":
        return bound(call.takes, _cast(call.takes, dict(request.query_params)))
    octets = await arrived(request, call.body)
    found = await object_in(octets, call.body) if request.headers.get("content-type") == CONTENT_TYPE else {}
    return bound(call.takes, found)


def refusal(problem: Exception) -> tuple[Response, Said]:
    """How PanDA says that; what has no word of its own there is a database error, which clients try again."""
    said = _refusal(problem)
    if isinstance(problem, BadBody):
        return Response(f"ERROR : {said.message}", problem.status, media_type="text/plain"), said
    if isinstance(problem, Denied) and said.message not in (NO_IDENTITY, NO_ROLE):
        return Response(said.message, 403, media_type="text/plain"), said
    return response(said), said


def response(said: Said) -> Response:
    """The envelope as the real server sends it: always 200, always text/plain."""
    return Response(enveloped(said.data, said.message, said.success), media_type="text/plain")


def _refusal(problem: Exception) -> Said:
    if isinstance(problem, ArgumentProblem):
        return Said(None, str(problem), success=False)
    if isinstance(problem, Denied):
        missing = NO_IDENTITY if problem.missing else NO_ROLE if problem.status == 403 else ""
        line = f"ERROR : Token authentication failed. {problem.fault.detail}"
        return Said(None, missing or line, success=False)
    if isinstance(problem, BadBody):
        return Said(None, problem.fault.detail, success=False)
    detail = problem.fault.detail if isinstance(problem, PortError) else "a number that does not fit"
    return Said({"StatusCode": 30}, f"Database error: {detail}", success=isinstance(problem, PortError))


def bound(kind: type, found: Mapping[str, object]) -> object:
    """The arguments as that value; raises ArgumentProblem in PanDA's words."""
    hints = typing.get_type_hints(kind)
    for name in found:
        if name not in hints:
            raise ArgumentProblem(f"Argument error: got an unexpected keyword argument '{name[:60]}'")
    for each in fields(kind):
        if each.name not in found and each.default is MISSING and each.default_factory is MISSING:
            raise ArgumentProblem(f"Argument error: missing a required argument: '{each.name}'")
    for name, value in found.items():
        _check_type(name, value, hints[name])
    return kind(**found)


def _check_type(name: str, value: object, hint: object) -> None:
    wanted = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    classes = tuple(typing.get_origin(each) or each for each in wanted)
    if isinstance(value, bool) and bool not in classes or not isinstance(value, classes):  # noqa: RUF021
        shown = next(each for each in classes if each is not type(None)).__name__
        raise ArgumentProblem(f"Type error: '{name}' must be of type {shown}, got {type(value).__name__}.")


def _cast(kind: type, found: Mapping[str, str]) -> dict[str, object]:
    """A query holds texts: where a number is wanted, the number in the text."""
    hints = typing.get_type_hints(kind)
    return {name: _number(value) if hints.get(name) is int else value for name, value in found.items()}


def _number(text: str) -> object:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else text
