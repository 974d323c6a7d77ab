"""Connections to one server, kept for further use: one request, and its answer whole or not at all.

`requests` gives its pool and its proxies. Its sessions are not used: they would follow redirects, keep cookies and
read ~/.netrc. Nothing is trusted but the context: by itself `requests` would add a list of authorities of its own.
"""

import gzip
import ssl
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import cast

from pilot.adapters.server_answer import Answer, Oversized
from pilot.adapters.server_tls import Until
from pilot.model.faults import Code
from pilot.wire.envelope import USUAL, Bounds

LEAST_ZIPPED_BYTES = 1024  # below, packing costs more than it saves
BLOCK_BYTES = 1 << 16
CONNECTIONS = 4  # at once: the lanes of a pilot that share a line, and hands that fetch code


@dataclass(frozen=True, slots=True)
class Asked:
    """One request: `body` goes as it is, of the type `kind`; 0 seconds = the line's usual patience."""

    method: str
    path: str
    query: tuple[tuple[str, str], ...] = ()
    body: bytes | None = None
    kind: str = "application/json"  # exactly: PanDA's server reads no body of any other
    seconds: float = 0.0
    cap_bytes: int = 0  # of an answer; 0 = that of its bounds
    bounds: Bounds = USUAL  # of an answer that is an envelope
    given_up: Callable[[], bool] | None = None  # asked every second while the answer is read


class Pool:
    """Verified connections to one origin, `https://host:port`."""

    def __init__(self, origin: str, context: ssl.SSLContext, until: Until) -> None:
        self._origin = origin
        self._until = until
        self._adapter: object = _verified(context)

    def exchange(self, asked: Asked, headers: Mapping[str, str], connect: float) -> Answer:
        """Sends it, and reads the answer as it comes, up to its cap; whatever `requests` and sockets raise."""
        import requests
        from requests.adapters import HTTPAdapter

        body, packed = _packed(asked.body)
        request = requests.Request(
            asked.method, self._origin + asked.path, {**headers, **packed}, data=body, params=list(asked.query)
        ).prepare()
        timeout = (min(connect, self._until.left()), self._until.left())
        adapter = cast(HTTPAdapter, self._adapter)
        response = adapter.send(request, stream=True, timeout=timeout, proxies=proxies_for(self._origin))
        try:
            found = self._body(
                _blocks(response.raw, self._until), response.headers, asked.cap_bytes or asked.bounds.octets
            )
            return Answer(response.status_code, {name.title(): each for name, each in response.headers.items()}, found)
        finally:
            response.close()  # of an answer that was not read to its end, the connection too

    def close(self) -> None:
        """Lets go of the connections that wait for use."""
        from requests.adapters import HTTPAdapter

        cast(HTTPAdapter, self._adapter).close()

    def _body(self, blocks: Iterable[bytes], headers: Mapping[str, str], cap: int) -> bytes:
        """Unpacked as it is read, and cut off at the cap."""
        found = bytearray()
        for block in _unpacked(blocks, headers.get("Content-Encoding", "")):
            found += block
            if len(found) > cap:
                raise Oversized(Code.SERVER_UNREACHABLE, f"{self._origin}: answers with more than {cap} bytes: cut off")
        return bytes(found)


def proxies_for(origin: str) -> dict[str, str]:
    """The environment's (https_proxy, no_proxy ...), as every other program here uses them."""
    from requests.utils import get_environ_proxies

    return dict(get_environ_proxies(origin, no_proxy=None))


def _blocks(raw: object, until: Until) -> Iterator[bytes]:
    from urllib3.response import BaseHTTPResponse

    stream = cast(BaseHTTPResponse, raw)
    while block := stream.read1(BLOCK_BYTES, decode_content=False):
        if time.monotonic() > until.moment:
            raise TimeoutError
        yield block


def _packed(body: bytes | None) -> tuple[bytes | None, dict[str, str]]:
    if body is None or len(body) < LEAST_ZIPPED_BYTES:
        return body, {}
    return gzip.compress(body, compresslevel=1, mtime=0), {"Content-Encoding": "gzip"}


def _unpacked(blocks: Iterable[bytes], coding: str) -> Iterator[bytes]:
    """By the block, however small the packed octets are."""
    if coding.strip().lower() in ("", "identity"):
        yield from blocks
        return
    if coding.strip().lower() not in ("gzip", "x-gzip"):
        raise EOFError(f"an answer packed with {coding[:20]!r}, which was not asked for")
    unpack = zlib.decompressobj(wbits=31)
    for block in blocks:
        yield unpack.decompress(block, BLOCK_BYTES)
        while unpack.unconsumed_tail:
            yield unpack.decompress(unpack.unconsumed_tail, BLOCK_BYTES)
    if not unpack.eof:
        raise EOFError("the packed answer is not whole")


def _verified(context: ssl.SSLContext) -> object:
    """A pool of `requests` that trusts that context and nothing else."""
    from requests.adapters import HTTPAdapter

    class Verified(HTTPAdapter):
        def init_poolmanager(self, *arguments: object, **named: object) -> None:
            super().init_poolmanager(*arguments, ssl_context=context, **named)  # type: ignore[arg-type]

        def proxy_manager_for(self, proxy: str, **named: object) -> object:
            return super().proxy_manager_for(proxy, ssl_context=context, **named)

        def cert_verify(self, conn: object, url: object, verify: object, cert: object) -> None:
            conn.cert_reqs = "CERT_REQUIRED"  # type: ignore[attr-defined]  # a urllib3 pool

    return Verified(pool_connections=1, pool_maxsize=CONNECTIONS)
