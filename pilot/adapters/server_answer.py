"""What an answer, or none, means: the one visible map from HTTP and sockets to the port's errors.

Every line of text says what, where, and what to do. Foreign text in it is short, printable and without our secrets.
"""

import http.client
import re
import socket
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus

from pilot.model.faults import Code
from pilot.ports import Final, Passing, PortError
from pilot.wire.calls import refusal_of
from pilot.wire.envelope import USUAL, Bounds, Reply, TooMuch, WireError, read_reply

SAID_CAP = 200  # characters of foreign text in an error
BUSY = frozenset({HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE})
DENIED = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN})
# PanDA's servers say no more than "no" where the origin is missing that a token is to speak for.
CHECK = "check the token or certificate, and its role; for a token of PanDA's, the key `token_origin` too"
_EXPIRED = re.compile(r"expired|credential\.expired", re.IGNORECASE)
_WRAPPERS = frozenset({"requests", "urllib3"})
_WHOLE_LINE = re.compile(r"\s+")


class Oversized(Passing):
    """The answer is more than is read at once; to less there may be an answer."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server answered: whole, unpacked, bounded."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def reply_in(answer: Answer, where: str, hide: Callable[[str], str], bounds: Bounds = USUAL) -> Reply:
    """The reply that an answer carries; raises what else it means."""
    reply = _reply(answer, bounds)
    if isinstance(reply, Reply) and answer.status < 300:
        return reply
    if isinstance(reply, Reply) and refusal_of(reply.data) is not None and answer.status not in BUSY:
        return reply
    said = hide(
        _line(reply.message if isinstance(reply, Reply) else answer.body[: 4 * SAID_CAP].decode("utf-8", "replace"))
    )
    if answer.status < 300:
        kind = Oversized if isinstance(reply, TooMuch) else Passing
        raise kind(Code.SERVER_UNREACHABLE, f"{where}: {reply}; is it a PanDA server, or `pilot queue serve`?")
    raise refused(answer, where, said)


def refused(answer: Answer, where: str, said: str) -> PortError:
    """What a status that is not success means."""
    status = answer.status
    words = f"{where}: answered {status}{_name(status)}" + (f": {said}" if said else "")
    if 300 <= status < 400:
        there = _line(answer.headers.get("Location", "")) or "nowhere"
        return Final(Code.SERVER_REFUSED, f"{where}: sends us on to {there}, where we do not follow: name that server")
    if status in DENIED and _EXPIRED.search(said):
        return Passing(Code.CREDENTIAL_EXPIRED, f"{words}; renew the credential")
    if status in DENIED:
        return Passing(Code.CREDENTIAL_REFUSED, f"{words}; {CHECK}")
    if status in BUSY or status >= 500:
        return Passing(Code.SERVER_UNREACHABLE, words)
    if status == HTTPStatus.PROXY_AUTHENTICATION_REQUIRED:
        return Final(Code.SERVER_REFUSED, f"{words}; the proxy on the way wants a password: correct https_proxy")
    if status == HTTPStatus.NOT_FOUND:
        return Final(Code.SERVER_REFUSED, f"{words}; is it a PanDA server, or `pilot queue serve`?")
    return Final(Code.SERVER_REFUSED, words)


def _reply(answer: Answer, bounds: Bounds) -> Reply | WireError:
    """The envelope; or why it is none."""
    try:
        return read_reply(answer.body, bounds)
    except WireError as problem:
        return problem


def _name(status: int) -> str:
    known = {each.value: each.phrase for each in HTTPStatus}
    return f" {known[status]}" if status in known else ""


def _line(text: str) -> str:
    """Foreign text as a short printable line: of HTML what a person would read of it, of a traceback nothing."""
    told = text.partition("Traceback (most recent call last)")[0]
    bare = re.sub(r"<(script|style|head)\b.*?</\1>|<[^<>]*>", " ", told, flags=re.DOTALL | re.IGNORECASE)
    line = _WHOLE_LINE.sub(" ", "".join(each if each.isprintable() or each.isspace() else "?" for each in bare)).strip()
    return line if len(line) <= SAID_CAP else f"{line[: SAID_CAP - 3]}..."


# --- no answer ---------------------------------------------------------------------------------------------------


def unanswered(problem: BaseException, where: str, seconds: float, hide: Callable[[str], str]) -> PortError:
    """Why there is no answer, from the root of what was raised."""
    chain = _chain(problem)
    for kind, explain in _EXPLAINED:
        found = next((each for each in chain if isinstance(each, kind)), None)
        if found is not None:
            return Passing(Code.SERVER_UNREACHABLE, hide(f"{where}: {explain(found, seconds)}{_plain(where, found)}"))
    last = _line(re.sub(r"\?\S+", "", str(chain[-1]))) or type(chain[-1]).__name__  # a query may hold a key
    return Passing(Code.SERVER_UNREACHABLE, hide(f"{where}: the connection broke: {last}"))


def _plain(where: str, problem: BaseException) -> str:
    """A server that speaks TLS cuts off whoever does not."""
    cut = isinstance(problem, ConnectionError | http.client.HTTPException) and where.startswith("http://")
    return (
        "; if the server speaks TLS, write https://" if cut and not isinstance(problem, ConnectionRefusedError) else ""
    )


def _chain(problem: BaseException) -> list[BaseException]:
    """The error and what it was made from, the root last; without what libraries wrap around it, if there is more."""
    found: list[BaseException] = []
    waiting: list[object] = [problem]
    while waiting and len(found) < 20:
        each = waiting.pop(0)
        if isinstance(each, BaseException) and each not in found:
            found.append(each)
            waiting += [each.__cause__, getattr(each, "reason", None), *each.args, each.__context__]
    return [each for each in found if type(each).__module__.partition(".")[0] not in _WRAPPERS] or found


def _untrusted(problem: BaseException, _: float) -> str:
    why = _line(getattr(problem, "verify_message", "") or str(problem))
    number = getattr(problem, "verify_code", 0)
    helps = _CERTIFICATE.get(number, "name its authority with the key `ca` or PILOT_CA, or correct the URL")
    return f"its certificate is not to be trusted: {why}; {helps}"


# By OpenSSL's number (X509_V_ERR_...) what helps where another authority would not.
_CERTIFICATE = {
    9: "it begins later: correct this machine's clock, or ask who runs the server",
    10: "it is over: who runs the server must renew it; or correct this machine's clock",
    62: "use a name that stands in it, or ask who runs the server for a certificate of that name",
    64: "use an address that stands in it, or the server's name",
}


def _tls(problem: BaseException, _: float) -> str:
    why = _line(str(getattr(problem, "reason", None) or problem)).replace("_", " ").lower()
    if "wrong version number" in why or "http request" in why:
        return "speaks no TLS at that port: correct the port"
    return f"no TLS connection: {why}; is the port right, and our certificate?"


_EXPLAINED: tuple[tuple[type[BaseException], Callable[[BaseException, float], str]], ...] = (
    (ssl.SSLCertVerificationError, _untrusted),
    (ssl.CertificateError, _untrusted),
    (TimeoutError, lambda _, seconds: f"no answer within {seconds:g} s; is the server well, and the network?"),
    (ssl.SSLEOFError, lambda *_: "the connection was cut"),
    (ssl.SSLZeroReturnError, lambda *_: "the connection was cut"),
    (ssl.SSLError, _tls),
    (socket.gaierror, lambda *_: "there is no host of that name; correct the URL"),
    (ConnectionRefusedError, lambda *_: "connection refused; is the server running, and the port right?"),
    (ConnectionError, lambda *_: "the connection was cut"),
    (http.client.HTTPException, lambda *_: "the connection was cut in the middle of an answer"),
    (EOFError, lambda problem, _: f"a broken answer: {_line(str(problem))}"),
    (OSError, lambda problem, _: f"cannot be reached: {_line(getattr(problem, 'strerror', None) or str(problem))}"),
)  # fmt: skip
