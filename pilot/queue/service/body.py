"""What a caller sends, read within limits of size and time, unpacked within limits, parsed strictly."""

import asyncio
import zlib
from typing import TypeVar

from starlette.requests import ClientDisconnect, Request

from pilot.model.faults import Code
from pilot.model.plain import PlainError, from_plain
from pilot.ports import Final
from pilot.wire.envelope import Bounds, WireError, read_json

T = TypeVar("T")

ARRIVAL_SECONDS = 30.0  # for a small body; a slow client must not hold a connection for ever
BYTES_PER_SECOND = 100_000  # what a client on a bad line still manages
BYTES_PER_VALUE = 8  # the densest JSON of ours; fewer would be brackets
ASIDE_BYTES = 128 << 10  # parsed in a thread beyond this, so that heartbeats are not kept waiting
DEPTH = 24
GZIP = 31  # zlib's word for a gzip header, 32 KiB of window


class BadBody(Final):
    """What was sent cannot be read; `status` is the HTTP answer."""

    def __init__(self, detail: str, status: int = 422) -> None:
        super().__init__(Code.SERVER_REFUSED, detail)
        self.status = status


async def arrived(request: Request, cap: int) -> bytes:
    """The octets of the body as they were meant, unpacked; raises BadBody."""
    raw = await _received(request, cap)
    coding = request.headers.get("content-encoding", "identity").lower()
    if coding == "gzip":
        return await asyncio.to_thread(_unpacked, raw, cap) if len(raw) > ASIDE_BYTES else _unpacked(raw, cap)
    if coding != "identity":
        raise BadBody(f"Content-Encoding {coding[:40]!r}: use gzip, or none", 415)
    return raw


async def object_in(octets: bytes, cap: int) -> dict[str, object]:
    """The JSON object in those octets; raises BadBody."""
    bounds = Bounds(cap, max(cap // BYTES_PER_VALUE, 1000), DEPTH)
    found = await asyncio.to_thread(_read, octets, bounds) if len(octets) > ASIDE_BYTES else _read(octets, bounds)
    if not isinstance(found, dict):
        raise BadBody("the body is no JSON object")
    return found


def value_in(kind: type[T], data: dict[str, object]) -> T:
    """The arguments of a call; raises BadBody."""
    try:
        return from_plain(kind, data)
    except PlainError as problem:
        raise BadBody(str(problem)) from None


async def _received(request: Request, cap: int) -> bytes:
    announced = request.headers.get("content-length", "")
    if announced.isdigit() and int(announced) > cap:
        raise BadBody(f"the body is larger than {cap} bytes", 413)
    parts, total = [], 0
    try:
        async with asyncio.timeout(ARRIVAL_SECONDS + cap / BYTES_PER_SECOND):
            async for part in request.stream():
                total += len(part)
                if total > cap:
                    raise BadBody(f"the body is larger than {cap} bytes", 413)
                parts.append(part)
    except TimeoutError:
        raise BadBody("the body did not arrive in time", 408) from None
    except ClientDisconnect:
        raise BadBody("the client has gone", 400) from None
    return b"".join(parts)


def _unpacked(raw: bytes, cap: int) -> bytes:
    reader = zlib.decompressobj(GZIP)
    try:
        found = reader.decompress(raw, cap + 1)
    except zlib.error:
        raise BadBody("the body is no gzip") from None
    if len(found) > cap:
        raise BadBody(f"the body unpacks to more than {cap} bytes", 413)
    if not reader.eof or reader.unused_data:
        raise BadBody("the body is not one whole gzip member")
    return found


def _read(octets: bytes, bounds: Bounds) -> object:
    try:
        return read_json(octets or b"{}", bounds)
    except WireError as problem:
        raise BadBody(str(problem).replace("the reply", "the body", 1)) from None
