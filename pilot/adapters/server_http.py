"""The line to a server over HTTPS: verified, authenticated, bounded in time and size; no redirect is followed.

One line is one set of connections to one host name, for one part of the pilot.
"""

import json
import math
import os
import threading
import time
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from pilot import __version__
from pilot.adapters.secret_file import Stamp, stamp_of
from pilot.adapters.server_answer import BUSY, DENIED, Answer, reply_in, unanswered
from pilot.adapters.server_gate import CAP_SECONDS, Gate, named_pause
from pilot.adapters.server_pool import Asked, Pool, proxies_for
from pilot.adapters.server_tls import Until, show, trust
from pilot.failpoints import effect
from pilot.model.faults import Code
from pilot.ports import Credentials, Final, Passing
from pilot.wire.envelope import Reply

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


@dataclass(frozen=True, slots=True)
class Limits:
    """How long we wait for a connection and for a whole answer, in seconds.

    `gate`: for how long at most a server that says that it is busy may keep this line from asking.
    """

    connect: float = 10.0
    answer: float = 60.0
    gate: float = CAP_SECONDS


class HttpLine:
    """One server, reached; safe to be used by several threads at once."""

    def __init__(
        self,
        url: str,
        credentials: Credentials,
        gate: Gate,
        ca: str = "",
        limits: Limits = Limits(),
        environment: Mapping[str, str] = os.environ,
    ) -> None:
        self.origin = origin_of(url)
        self._credentials = credentials
        self._gate = gate
        self._ca = ca
        self._limits = limits
        self._environment = environment
        self._until = Until()
        self._lock = threading.Lock()
        self._pool: Pool | None = None
        self._shown = Stamp()  # the state of the certificate that the pool shows

    def call(self, method: str, path: str, arguments: Mapping[str, object]) -> Reply:
        """One request, GET (arguments in the query) or POST (a JSON body), and the reply in its envelope."""
        if method == "GET":
            return self.reply(Asked(method, path, query=tuple(_query(arguments))))
        return self.reply(Asked(method, path, body=packed_json(arguments)))

    def reply(self, asked: Asked) -> Reply:
        """The reply to any request that is answered with an envelope."""
        return self.reply_of(self.answer(asked), asked)

    def reply_of(self, answer: Answer, asked: Asked) -> Reply:
        """The reply that an answer carries; raises what else it means."""
        return reply_in(answer, self._where(asked), self._credentials.hide, asked.bounds)

    def answer(self, asked: Asked) -> Answer:
        """One request and its answer, whatever the status; a credential that was renewed meanwhile is tried too."""
        wait = self._gate.left(self._limits.gate)
        if wait > 0:
            detail = f"{self.origin}: is busy, and wants no call for {math.ceil(wait)} s"
            raise Passing(Code.SERVER_UNREACHABLE, detail)
        answer = self._exchange(asked)
        if answer.status in DENIED and self._credentials.reread():
            answer = self._exchange(asked)
        if answer.status in BUSY:
            self._gate.shut(named_pause(answer.headers))
        return answer

    def close(self) -> None:
        """Lets go of the connections that wait for use."""
        with self._lock:
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.close()

    def _exchange(self, asked: Asked) -> Answer:
        """Raises PortError where there is no whole answer in time."""
        import requests
        import urllib3

        seconds = asked.seconds or self._limits.answer
        headers = self._headers(asked)
        pool = self._connections()
        self._until.moment, self._until.given_up = time.monotonic() + seconds, asked.given_up
        try:
            with effect("server.call"):
                return pool.exchange(asked, headers, self._limits.connect)
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError, zlib.error, EOFError) as problem:
            raise unanswered(problem, self._where(asked), seconds, self._credentials.hide) from None
        finally:
            self._until.moment, self._until.given_up = math.inf, None

    def _headers(self, asked: Asked) -> dict[str, str]:
        return {
            "User-Agent": f"pilot/{__version__}",
            "Accept": "application/json",
            "Accept-Encoding": "gzip",
            "Content-Type": asked.kind,
            **self._credentials.headers(),
        }

    def _connections(self) -> Pool:
        """The pool; a new one where the certificate that we show has been renewed."""
        certificate = self._credentials.certificate()
        stamp = stamp_of(Path(certificate)) if certificate else Stamp()
        with self._lock:
            if self._pool is None or self._shown != stamp:
                context = trust(self._ca, self._environment, self._until)
                if certificate:
                    show(context, certificate)
                self._pool, self._shown = Pool(self.origin, context, self._until), stamp
            return self._pool

    def _where(self, asked: Asked) -> str:
        """For error texts: never the query, which may hold a key."""
        through = _bare(proxies_for(self.origin).get(urlsplit(self.origin).scheme, ""))
        return f"{self.origin}{asked.path}" + (f" (through {through})" if through else "")


def origin_of(url: str) -> str:
    """Scheme, host and port of a server; plain http is for loopback alone."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise _no_server(url, "write https://HOST:PORT") from None
    if parts.scheme not in ("https", "http") or not host or parts.path.strip("/") or parts.query or parts.fragment:
        raise _no_server(url, "write https://HOST:PORT")
    if parts.username is not None or parts.password is not None:
        raise _no_server(url, "no password belongs into it; name a token's file instead")
    if parts.scheme == "http" and host not in LOOPBACK:
        raise _no_server(url, "plain http is for this machine alone; write https://HOST:PORT")
    shown = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{shown}" + (f":{port}" if port is not None else "")


def packed_json(arguments: Mapping[str, object]) -> bytes:
    """The body of a call."""
    return json.dumps(arguments, allow_nan=False, separators=(",", ":")).encode()


def _no_server(url: str, advice: str) -> Final:
    return Final(Code.SERVER_REFUSED, f"queue {_bare(url)!r}: {advice}")


def _bare(url: str) -> str:
    """The URL without a user's name and password."""
    scheme, slashes, rest = url.partition("://")
    return f"{scheme}{slashes}{rest.rpartition('@')[2]}" if slashes else url.rpartition("@")[2]


def _query(arguments: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    for name, value in arguments.items():
        for each in value if isinstance(value, list | tuple) else (value,):
            yield name, str(each)
