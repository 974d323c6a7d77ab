"""A queue's server on a real socket, with faults on demand.

Served by the embedded queue, so what is not disturbed is right. A fault is planned for the next request, or for the
next `times` requests of one call; everything that came in is kept to be looked at.
"""

import contextlib
import gzip
import http.server
import json
import socket
import ssl
import struct
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from email.utils import formatdate
from functools import cache
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from pilot.wire import calls
from tests.fakes.panda import Panda
from tests.fakes.queue_calls import QueueCalls

GIB = 1 << 30
USER_TOKEN = "token-of-"  # followed by the user's name
PILOT_TOKEN = "token-of-pilot"


@dataclass(frozen=True)
class Seen:
    """One request as it came in."""

    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    body: bytes
    at: float
    peer: str = ""  # the common name in the client's certificate

    @property
    def verb(self) -> str:
        return self.path.rpartition("/")[2]


@dataclass(frozen=True)
class Fault:
    """What happens to a request instead of its answer; `done`: whether it is carried out all the same."""

    status: int = 0
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    done: bool = False
    cut_at: int = -1  # of the answer, so many bytes are sent; then the connection is reset
    hangs: bool = False  # no answer, and the connection stays open
    huge: int = 0  # so many bytes of an answer, or until nobody reads any more
    bomb: int = 0  # so many zeros, packed
    trickle: float = 0.0  # seconds between two bytes


REFUSE_TOKEN = Fault(403, (("Content-Type", "text/plain"),), b"ERROR : Token authentication failed. Invalid token")
EXPIRED_TOKEN = Fault(403, (), b"ERROR : Token authentication failed. Invalid token. Signature has expired")


def reset_at(cut: int, done: bool = True) -> Fault:
    """The answer breaks off after so many bytes."""
    return Fault(cut_at=cut, done=done)


def busy(status: int = 503, retry_after: str = "") -> Fault:
    return Fault(status, (("Retry-After", retry_after),) if retry_after else (), b"busy")


def odd(body: bytes, status: int = 200, **headers: str) -> Fault:
    return Fault(status, tuple((name.replace("_", "-"), value) for name, value in headers.items()), body)


@dataclass
class _Planned:
    fault: Fault
    verb: str
    times: int


@dataclass
class Plan:
    """The faults to come."""

    waiting: list[_Planned] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, fault: Fault, verb: str = "", times: int = 1) -> None:
        with self.lock:
            self.waiting.append(_Planned(fault, verb, times))

    def clear(self) -> None:
        with self.lock:
            self.waiting.clear()

    def next(self, verb: str) -> Fault | None:
        with self.lock:
            for each in self.waiting:
                if each.verb in ("", verb):
                    each.times -= 1
                    if each.times == 0:
                        self.waiting.remove(each)
                    return each.fault
        return None


class FakeServer:
    """`with FakeServer(path) as server:`; gone and back again with `stop` and `start`, under the same address."""

    def __init__(
        self,
        path: Path,
        wall: Callable[[], float] = time.time,
        pair: Path | None = None,
        host: str = "127.0.0.1",
        plain_panda: bool = False,
    ) -> None:
        self.queue = QueueCalls(path, wall, plain_panda)
        self.panda: Panda | None = None  # a plain PanDA server's answers, in place of the embedded queue's
        self.plan = Plan()
        self.seen: list[Seen] = []
        self.released = threading.Event()  # lets hanging connections go
        self.date_ahead = 0.0  # seconds by which the server's own clock is ahead
        self.tokens: set[str] | None = None  # those that are accepted; None = whatever comes
        self.clients: Path | None = None  # the authority whose certificates clients are to show
        self.old_tls = False
        self._pair = pair
        self._host = host
        self._port = 0
        self._listening: _Listener | None = None
        self.start()

    @property
    def url(self) -> str:
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"{'https' if self._pair else 'http'}://{host}:{self._port}"

    def start(self) -> None:
        listener = _Listener(self, (self._host, self._port), self._context())
        self._port = listener.server_address[1]
        self._listening = listener
        threading.Thread(target=listener.serve_forever, args=(0.02,), name="fake server", daemon=True).start()

    def use(self, pair: Path | None, clients: Path | None = None) -> None:
        """Another certificate, and other clients, from now on."""
        self._pair, self.clients = pair, clients
        self.stop()
        self.start()

    def stop(self) -> None:
        """Gone: the port refuses, and every connection is cut."""
        if self._listening is not None:
            listener, self._listening = self._listening, None
            listener.shutdown()
            listener.server_close()
            listener.cut_all()

    def close(self) -> None:
        self.released.set()
        self.stop()
        self.queue.close()

    def verbs(self) -> list[str]:
        return [each.verb for each in self.seen]

    def __enter__(self) -> "FakeServer":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _context(self) -> ssl.SSLContext | None:
        if self._pair is None:
            return None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self._pair)
        if self.old_tls:
            context.set_ciphers("ALL:@SECLEVEL=0")
            context.options |= ssl.OP_NO_TLSv1_2 | ssl.OP_NO_TLSv1_3
        if self.clients is not None:
            context.load_verify_locations(self.clients)
            context.verify_mode = ssl.CERT_REQUIRED
        return context


class _Listener(http.server.ThreadingHTTPServer):
    """Handshakes are made in the connection's own thread, so that none holds up the others."""

    allow_reuse_address = True
    block_on_close = False
    request_queue_size = 64

    def __init__(self, fake: FakeServer, address: tuple[str, int], context: ssl.SSLContext | None) -> None:
        self.fake = fake
        self.context = context
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        super().__init__(address, _Handler)

    def server_bind(self) -> None:
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = "fake", self.server_address[1]

    def process_request(self, request: socket.socket, client_address: object) -> None:  # type: ignore[override]
        with self._lock:
            self._open.add(request)
        super().process_request(request, client_address)  # type: ignore[arg-type]

    def finish_request(self, request: socket.socket, client_address: object) -> None:  # type: ignore[override]
        connection = request
        with contextlib.suppress(OSError):  # what a client does to a server is no error of the test
            if self.context is not None:
                request.settimeout(20)
                connection = self.context.wrap_socket(request, server_side=True, suppress_ragged_eofs=True)
                connection.settimeout(60)
                with self._lock:
                    self._open.add(connection)
            _Handler(connection, client_address, self)
        if connection is not request:
            with contextlib.suppress(OSError):
                connection.close()

    def shutdown_request(self, request: socket.socket) -> None:  # type: ignore[override]
        with contextlib.suppress(OSError):
            super().shutdown_request(request)

    def cut_all(self) -> None:
        with self._lock:
            for each in self._open:
                with contextlib.suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Listener

    def log_message(self, *_: object) -> None:
        """Kept in `seen`."""

    def date_time_string(self, timestamp: float | None = None) -> str:
        return formatdate((timestamp or time.time()) + self.server.fake.date_ahead, usegmt=True)

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def do_PUT(self) -> None:
        self._serve()

    def _serve(self) -> None:
        fake = self.server.fake
        seen = self._read()
        fake.seen.append(seen)
        fault = fake.plan.next(seen.verb)
        if fault is None:
            self._send(*self._answer(seen))
            return
        if fault.done:
            answer = self._answer(seen)
            whole = self._whole(fault.status or answer[0], fault.headers, fault.body or answer[1])
        else:
            whole = self._whole(fault.status or 200, fault.headers, fault.body)
        self._disturbed(fault, whole)

    def _read(self) -> Seen:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        parts = urlsplit(self.path)
        query, headers = parse_qs(parts.query), dict(self.headers)
        return Seen(self.command, parts.path, query, headers, body, time.monotonic(), _peer(self.connection))

    def _answer(self, seen: Seen) -> tuple[int, bytes]:
        fake = self.server.fake
        token = seen.headers.get("Authorization", "").removeprefix("Bearer ")
        if fake.tokens is not None and token not in fake.tokens:
            return REFUSE_TOKEN.status, REFUSE_TOKEN.body
        if fake.panda is not None:
            return _of_panda(fake.panda, seen)
        if seen.path == calls.ALIVE:
            return fake.queue.alive()
        if seen.path == calls.path("code"):
            digest = seen.query["sha256"][0]
            return fake.queue.put_code(digest, seen.body) if seen.method == "PUT" else fake.queue.get_code(digest)
        if seen.path.startswith(calls.GRID) and seen.verb in calls.CALLS:
            return fake.queue.call(seen.verb, seen.body, token.removeprefix(USER_TOKEN) or "owner")
        return 404, b"ERROR : no such method"

    def _send(self, status: int, body: bytes) -> None:
        packed = gzip.compress(body, 1) if len(body) > 2000 else body
        coding = (("Content-Encoding", "gzip"),) if packed is not body else ()
        self.wfile.write(self._whole(status, (("Content-Type", "text/plain"), *coding), packed))

    def _whole(self, status: int, headers: tuple[tuple[str, str], ...], body: bytes) -> bytes:
        lines = [f"HTTP/1.1 {status} Fake", f"Date: {self.date_time_string()}", f"Content-Length: {len(body)}"]
        return "\r\n".join([*lines, *(f"{name}: {value}" for name, value in headers), "", ""]).encode() + body

    # --- faults ---

    def _disturbed(self, fault: Fault, whole: bytes) -> None:
        if fault.hangs:
            self.server.fake.released.wait(60)
            self._reset()
        elif fault.cut_at >= 0:
            self.wfile.write(whole[: fault.cut_at])
            self.wfile.flush()
            self._reset()
        elif fault.huge:
            self._pour(fault.huge)
        elif fault.bomb:
            self._bomb(fault.bomb)
        elif fault.trickle:
            for each in whole:
                self.wfile.write(bytes([each]))
                if self.server.fake.released.wait(fault.trickle):
                    break
        else:
            self.wfile.write(whole)

    def _reset(self) -> None:
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            socket.socket.close(self.connection)  # of TLS too, without its good-bye

    def _pour(self, size: int) -> None:
        self.wfile.write(f"HTTP/1.1 200 Fake\r\nContent-Length: {size}\r\n\r\n".encode())
        block = b'"' + b"x" * (1 << 20)
        with contextlib.suppress(OSError):
            for _ in range(size // len(block)):
                self.wfile.write(block)
        self.close_connection = True

    def _bomb(self, size: int) -> None:
        self.wfile.write(self._whole(200, (("Content-Encoding", "gzip"),), _packed_zeros(size >> 20)))


def _of_panda(panda: Panda, seen: Seen) -> tuple[int, bytes]:
    """Arguments of a GET as PanDA reads them out of the query."""
    asked = json.loads(seen.body or b"{}") if seen.method == "POST" else dict(seen.query)
    if "job_ids" in asked:
        asked["job_ids"] = [int(each) for each in asked["job_ids"]]
    reply = panda.call(seen.method, seen.path, asked)
    return 200, json.dumps({"success": reply.success, "message": reply.message, "data": reply.data}).encode()


@cache
def _packed_zeros(megabytes: int) -> bytes:
    packer = zlib.compressobj(6, wbits=31)
    zeros = b"0" * (1 << 20)
    return b"".join(packer.compress(zeros) for _ in range(megabytes)) + packer.flush()


def _peer(connection: socket.socket) -> str:
    found = connection.getpeercert() if isinstance(connection, ssl.SSLSocket) else None
    names = dict(pair for part in (found or {}).get("subject", ()) for pair in part)  # type: ignore[misc,union-attr]
    return str(names.get("commonName", ""))


@contextlib.contextmanager
def gone(server: FakeServer) -> Iterator[None]:
    """The server is away for a while."""
    server.stop()
    try:
        yield
    finally:
        server.start()
