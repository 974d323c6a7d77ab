"""The service's face: the web page, the board behind it, the numbers, its own description, where tokens come from.

All of it reads; nothing here changes a job. Whoever may not see everybody's jobs sees the own ones alone.
"""

import asyncio
import base64
import gzip
import hashlib
import json
import re
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric
from starlette.requests import Request
from starlette.responses import Response

from pilot.model.plain import full_plain
from pilot.model.queue import Explanation, JobState
from pilot.ports import PortError
from pilot.queue.service import tally
from pilot.queue.service.board import Board, Seen
from pilot.queue.service.body import BadBody
from pilot.queue.service.call import ANYBODY, EVERYONE, USERS, Call, Caller, RawHandler, Role, Spoken
from pilot.queue.service.envelope import enveloped
from pilot.queue.service.gauges import INFLUX, PROMETHEUS, Gauges, influx_text, prometheus_text
from pilot.queue.service.history import SAMPLE_SECONDS
from pilot.queue.service.meter import Meter
from pilot.queue.service.openapi import describe
from pilot.queue.service.state import Service, names_of
from pilot.queue.service.views import BoardView
from pilot.queue.store import open_store
from pilot.queue.users import LocalQueue
from pilot.wire.calls import GIVEN_QUEUE, path

FIND_LETTERS = 200
PAGE = Path(__file__).with_name("page.html")
JSON = "application/json"
POLICY = (
    "img-src data:", "connect-src 'self'", "base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'",
    "require-trusted-types-for 'script'", "trusted-types 'none'",
)  # fmt: skip
PLAIN = {"cache-control": "no-store", "x-content-type-options": "nosniff", "referrer-policy": "no-referrer"}
BOARD_QUERY = {
    "find": "jobs by id, owner, or how their name begins",
    "state": "jobs in that state alone",
    "limit": "at most so many jobs",
    "job": "why this job stands where it stands, instead of the board",
}


@dataclass(frozen=True, slots=True)
class Login:
    """Where a person's token for this queue comes from: an OIDC issuer, or (no issuer) whoever runs the queue."""

    issuer: str = ""
    client_id: str = ""
    scope: str = "openid offline_access"
    audience: str = ""


@dataclass(frozen=True, slots=True)
class Shown:
    """What an operator decides about the face: whether the board is open to everybody, and where people log in."""

    open_board: bool = False
    login: Login = Login()


class Face:
    """The face of one service; its connection to the file is its own."""

    def __init__(self, service: Service, meter: Meter, shown: Shown = Shown()) -> None:
        self._service = service
        self._meter = meter
        self._shown = shown
        self._store = open_store(service.setting.path)
        self._seen = Seen(service.wall, service.wall(), service.left)
        self._boards: dict[str, Board] = {}
        self._calls: tuple[Call, ...] = ()

    def calls(self, others: Sequence[Call]) -> tuple[Call, ...]:
        """The rows of the route table that show something; `others` are described beside them."""
        readers = ANYBODY if self._shown.open_board else USERS
        scrapers = ANYBODY if self._shown.open_board else EVERYONE
        queue = {"queue": "the queue's name"}
        rows = (
            _get("/", ANYBODY, "The web page; it asks for a token itself where one is needed.", page),
            _get(path("board"), readers, "What the web page shows; with `job`, why that job stands where it stands.",
                 self.board, {**queue, **BOARD_QUERY}),
            _get("/metrics", scrapers, "All numbers, as Prometheus reads them.", self.metrics,
                 {"format": "prometheus or influx"}),
            _get(path("login"), ANYBODY, "Where a person's token for this queue comes from.", self.login),
            _get(path("openapi.json"), ANYBODY, "This description.", self._described),
        )  # fmt: skip
        self._calls = (*others, *rows)
        return rows

    async def board(self, _service: Service, caller: Caller, request: Request) -> Response:
        """The board, or why one job stands where it stands."""
        asked = dict(request.query_params)
        unknown = sorted(asked.keys() - BOARD_QUERY.keys() - {"queue"})
        if unknown:
            raise BadBody(f"unknown argument {unknown[0][:40]!r}")
        sees = "" if self._shown.open_board else caller.sees
        found = await asyncio.to_thread(self._looked, sees, asked)
        return _compact(enveloped(full_plain(found)), request)

    async def metrics(self, service: Service, caller: Caller, request: Request) -> Response:
        """Every number, in the format that is asked for; of owners, those whose jobs the caller may see."""
        numbers = self.numbers("" if self._shown.open_board else caller.sees)
        style = request.query_params.get("format", "prometheus")
        if style == "influx":
            text = await asyncio.to_thread(influx_text, numbers, service.wall())
            return Response(text, headers=PLAIN, media_type=INFLUX)
        if style != "prometheus":
            raise BadBody(f"format {style[:40]!r}: use prometheus or influx")
        return Response(await asyncio.to_thread(prometheus_text, numbers), headers=PLAIN, media_type=PROMETHEUS)

    def numbers(self, sees: str = "") -> CollectorRegistry:
        """All numbers; where `sees` names an owner, no other is named in them."""
        found = CollectorRegistry(auto_describe=False)
        found.register(_Both(self._meter.registry, Gauges(self._views, sees)))
        return found

    async def login(self, _service: Service, _caller: Caller, _request: Request) -> Response:
        """Where tokens come from."""
        return Response(enveloped(full_plain(self._shown.login)), headers=PLAIN, media_type="application/json")

    async def _described(self, _service: Service, _caller: Caller, _request: Request) -> Response:
        return Response(json.dumps(describe(self._calls)), headers=PLAIN, media_type=JSON)

    @asynccontextmanager
    async def at_work(self) -> AsyncIterator[None]:
        """Takes samples as long as the service runs; then lets go of the file."""
        history = asyncio.create_task(self._keep_history())
        try:
            yield
        finally:
            history.cancel()
            with suppress(asyncio.CancelledError):
                await history
            self.close()

    async def _keep_history(self) -> None:
        while True:
            await asyncio.to_thread(self.sample)
            await asyncio.sleep(SAMPLE_SECONDS)

    def sample(self) -> None:
        """One sample of every queue of the file; a file that is busy is sampled next time."""
        with suppress(PortError):
            for name in names_of(self._store):
                self._board(name).sample()

    def close(self) -> None:
        """Lets go of the file."""
        self._store.close()

    def _looked(self, sees: str, asked: Mapping[str, str]) -> BoardView | Explanation:
        name = asked.get("queue", GIVEN_QUEUE)
        job = asked.get("job", "")
        if job:
            service = self._service
            return LocalQueue(self._store, service.setting.matcher, sees, name, service.wall, sees).explain(job)
        return self._board(name).view(_wanted(name, sees, asked))

    def _views(self) -> list[BoardView]:
        """Every queue of the file, without its jobs."""
        names = names_of(self._store)
        return [self._board(name).view(tally.Wanted(name, limit=0)) for name in names]

    def _board(self, name: str) -> Board:
        found = self._boards.get(name)
        if found is None:
            board = Board(self._store, self._service.setting.matcher, name, self._meter, self._seen)
            board.check()
            found = self._boards.setdefault(name, board)
        return found


class _Both:
    """The meter's numbers and the gauges, as one collector."""

    def __init__(self, counted: CollectorRegistry, gauges: Gauges) -> None:
        self._counted = counted
        self._gauges = gauges

    def collect(self) -> Iterator[Metric]:
        """First what was counted, then how the queues stand."""
        yield from self._counted.collect()
        yield from self._gauges.collect()


async def page(_service: Service, _caller: Caller, _request: Request) -> Response:
    """The page itself, the same for everybody: what it shows comes from `board`."""
    text, policy = _page()
    return Response(text, headers={**PLAIN, "content-security-policy": policy}, media_type="text/html; charset=utf-8")


@cache
def _page() -> tuple[bytes, str]:
    """The page, and the policy that lets its own script and style run, and nothing else."""
    text = PAGE.read_text("utf-8")
    hashes = {tag: _hashes(text, tag) for tag in ("script", "style")}
    rules = [f"{tag}-src {found}" for tag, found in hashes.items()]
    return text.encode(), "; ".join(["default-src 'none'", *rules, *POLICY])


def _hashes(text: str, tag: str) -> str:
    inner = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
    digests = (base64.b64encode(hashlib.sha256(each.encode()).digest()).decode() for each in inner)
    return " ".join(f"'sha256-{each}'" for each in digests)


def _get(
    where: str, roles: frozenset[Role], what: str, run: RawHandler, query: Mapping[str, str] | None = None
) -> Call:
    return Call("GET", where, roles, what, run, spoken=Spoken.RAW, query=query or {})


def _wanted(name: str, sees: str, asked: Mapping[str, str]) -> tally.Wanted:
    state, limit = asked.get("state", ""), asked.get("limit", str(tally.JOBS_SHOWN))
    if state not in ("", *JobState):
        raise BadBody(f"state {state[:40]!r}: use one of {', '.join(JobState)}")
    if not (limit.isascii() and limit.isdigit() and len(limit) < 6):
        raise BadBody(f"limit {limit[:40]!r}: a whole number up to {tally.JOBS_CAP}")
    return tally.Wanted(name, asked.get("find", "")[:FIND_LETTERS], state, sees, min(int(limit), tally.JOBS_CAP))


def _compact(body: bytes, request: Request) -> Response:
    """The answer, packed where the other side can unpack it: most of it is history, which repeats itself."""
    headers = {**PLAIN, "vary": "accept-encoding"}
    if "gzip" in request.headers.get("accept-encoding", ""):
        return Response(gzip.compress(body, 1), headers={**headers, "content-encoding": "gzip"}, media_type=JSON)
    return Response(body, headers=headers, media_type=JSON)
