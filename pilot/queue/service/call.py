"""One call of the service: where it is, who may make it, what it takes and gives, and what does it."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import Response

if TYPE_CHECKING:
    from pilot.queue.service.state import Service


class Role(StrEnum):
    """What a token entitles to: to run jobs, to hand in and see one's own, to see and change everybody's."""

    PILOT = "pilot"
    SUBMITTER = "submitter"
    OPERATOR = "operator"


NOBODY = "\N{REPLACEMENT CHARACTER}"  # owns nothing
ANYBODY: frozenset[Role] = frozenset()  # no token is asked for
PILOTS = frozenset({Role.PILOT})
USERS = frozenset({Role.SUBMITTER, Role.OPERATOR})
EVERYONE = frozenset(Role)  # whoever has a token of any role

SMALL_BODY = 1 << 20  # bytes after unpacking: what a call with a few names takes
USUAL_BODY = 16 << 20  # a thousand reports with their file lists
LARGE_BODY = 64 << 20  # many jobs handed in at once


@dataclass(frozen=True, slots=True)
class Caller:
    """Who makes this call, by the token; `request` names the call in the log."""

    user: str
    role: Role | None
    request: str

    @property
    def sees(self) -> str:
        """The one owner whose jobs may be seen and changed; "" = everybody's."""
        return "" if self.role is Role.OPERATOR else self.user or NOBODY


class Spoken(StrEnum):
    """How a call is answered: in our envelope, in PanDA's own way of it, or in whatever its handler returns."""

    GRID = "grid"
    PANDA = "panda"
    RAW = "raw"


Handler = Callable[["Service", Caller, object], Awaitable[object]]
RawHandler = Callable[["Service", Caller, Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Call:
    """One row of the route table.

    `takes` is the dataclass of its arguments, which are read strictly; `gives` the type of what it answers, for the
    description. Where `spoken` is RAW the handler gets the request itself and gives the response.
    """

    method: str
    path: str
    roles: frozenset[Role]
    what: str
    run: "Handler | RawHandler"
    takes: type | None = None
    gives: object = None
    body: int = SMALL_BODY
    spoken: Spoken = Spoken.GRID
    query: Mapping[str, str] = field(default_factory=dict)  # of a RAW call, for the description: name -> meaning
