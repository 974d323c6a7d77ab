"""The application: every call of the service in one table, and the server's frame around it."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, nullcontext
from itertools import chain

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pilot.queue.service import alive, panda, pilots, storage, sweeps, users
from pilot.queue.service.call import Call
from pilot.queue.service.envelope import enveloped
from pilot.queue.service.face import Face
from pilot.queue.service.frame import endpoint
from pilot.queue.service.state import Service
from pilot.wire.calls import GRID

# The route table. What pilots ask often stands first: routes are tried in order.
CALLS: tuple[Call, ...] = tuple(chain(pilots.CALLS, users.CALLS, sweeps.CALLS, alive.CALLS, storage.CALLS, panda.CALLS))


def build_app(service: Service, calls: Sequence[Call] = CALLS, face: Face | None = None) -> Starlette:
    """The application over that service, with the face that it shows; both are closed with it."""

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        async with face.at_work() if face else nullcontext():
            yield
        service.close()

    rows = (*calls, *face.calls(calls)) if face else calls
    routes = [Route(each.path, endpoint(service, each), methods=[each.method]) for each in rows]
    handlers = {404: _no_call, 405: _no_call, 500: _bug}
    return Starlette(routes=routes, exception_handlers=handlers, lifespan=lifespan)


async def _no_call(request: Request, _problem: Exception) -> Response:
    path = request.url.path
    if path.startswith("/api/v1/") and not path.startswith(GRID):  # as a PanDA server says it
        line = f"ERROR : method {path.rpartition('/')[2][:100]} is forbidden"
        return Response(line, 403, media_type="text/plain")
    line = f"no call {request.method} {path[:200]} here"
    return Response(enveloped(None, line, success=False), 404, media_type="application/json")


async def _bug(_request: Request, _problem: Exception) -> Response:
    line = "the service met something it did not expect; its log tells what"
    return Response(enveloped(None, line, success=False), 500, media_type="application/json")
