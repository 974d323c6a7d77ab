"""Our own calls over a line: arguments out, values back, refusals as the port's errors."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import TypeVar

from pilot.adapters.server_http import HttpLine, packed_json
from pilot.adapters.server_pool import Asked
from pilot.model.faults import Code
from pilot.model.files import CODE_BYTES_CAP
from pilot.model.plain import PlainError, from_plain
from pilot.ports import Final, Passing, PortError, Unknown
from pilot.wire import calls
from pilot.wire.envelope import MOST, Reply, cleaned

T = TypeVar("T")
CODE_SECONDS = 300.0  # an archive of 20 MB on a slow line
_FRAMED = {"Content-Length", "Transfer-Encoding"}
_OCTETS = "application/octet-stream"
_KINDS: dict[str, type[PortError]] = {calls.PASSING: Passing, calls.FINAL: Final, calls.UNKNOWN: Unknown}


def discovered(line: HttpLine) -> frozenset[str]:
    """The calls of ours that the server says it has; none of a plain PanDA server."""
    reply = line.call("GET", calls.ALIVE, {})
    if not reply.success:
        raise refusal(reply, f"{line.origin}{calls.ALIVE}")
    return calls.calls_of(reply.data)


class Calls:
    """One named queue of one server that has our calls."""

    def __init__(self, line: HttpLine, queue: str) -> None:
        self.origin = line.origin
        self.queue = queue
        self._line = line

    def ask(self, verb: str, kind: type[T], arguments: Mapping[str, object], seconds: float = 0.0) -> T:
        """One call, and its answer as a value of that type."""
        body = packed_json({"queue": self.queue, **arguments})
        reply = self._line.reply(Asked("POST", calls.path(verb), body=body, seconds=seconds, bounds=MOST))
        if not reply.success:
            raise refusal(reply, self.where(verb))
        try:
            return from_plain(kind, reply.data)
        except PlainError as problem:
            raise self.nonsense(verb, str(problem)) from None

    def code(self, sha256: str) -> bytes:
        """An archive, as it was put; the caller verifies it."""
        query = (("queue", self.queue), ("sha256", sha256))
        asked = Asked("GET", calls.path("code"), query, seconds=CODE_SECONDS, cap_bytes=CODE_BYTES_CAP)
        answer = self._line.answer(asked)
        if answer.status != HTTPStatus.OK:
            raise refusal(self._line.reply_of(answer, asked), self.where("code"))
        if not _FRAMED & answer.headers.keys():  # an answer cut within its head looks like a short one
            raise Passing(Code.SERVER_UNREACHABLE, f"{self.where('code')}: the connection was cut")
        return answer.body

    def put_code(self, sha256: str, archive: bytes) -> None:
        """Puts an archive under its digest; twice is fine."""
        query = (("queue", self.queue), ("sha256", sha256))
        reply = self._line.reply(Asked("PUT", calls.path("code"), query, archive, _OCTETS, CODE_SECONDS))
        if not reply.success:
            raise refusal(reply, self.where("code"))

    def nonsense(self, verb: str, what: str) -> Passing:
        """The server answered something that cannot be meant: the next one may do better."""
        return Passing(Code.SERVER_UNREACHABLE, f"{self.where(verb)}: an answer that makes no sense: {what[:200]}")

    def where(self, verb: str) -> str:
        """For error texts."""
        return f"{self.origin}{calls.path(verb)}"

    def close(self) -> None:
        """Lets go of the line."""
        self._line.close()


def refusal(reply: Reply, where: str) -> PortError:
    """What our server gave as its reason; its own words are the line that users read."""
    found = calls.refusal_of(reply.data)
    message = "".join(each if each.isprintable() else " " for each in cleaned(reply.message))[:500].strip()
    if found is None:
        return Final(Code.SERVER_REFUSED, f"{where}: refused: {message or 'no reason given'}")
    if found.code in (Code.CREDENTIAL_EXPIRED, Code.CREDENTIAL_REFUSED):
        return _KINDS[found.kind](found.code, f"{where}: {message or 'the credential is refused'}")
    return _KINDS[found.kind](found.code, message or where)
