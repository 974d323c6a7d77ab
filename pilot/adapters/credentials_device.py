"""A person's token by the device flow of OAuth 2.0 (RFC 8628): a short code, a browser anywhere, no password here.

The issuer is asked over verified TLS, follows no redirect, and its answers are bounded; plain http only on loopback.
"""

import json
import ssl
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode, urlsplit

from pilot.model.faults import Code
from pilot.ports import Final, Passing

GRANT = "urn:ietf:params:oauth:grant-type:device_code"
ABOUT = "/.well-known/openid-configuration"
ANSWER_SECONDS = 20.0
ANSWER_CAP = 1 << 20
TOKEN_CAP = 16 * 1024  # what servers take in one header line
USUAL_INTERVAL, SLOWER_BY, LONGEST_INTERVAL = 5.0, 5.0, 60.0  # seconds; the first two are the standard's
LONGEST_CODE = 3600.0
LOOPBACK = ("127.0.0.1", "::1", "localhost")

# What an issuer may refuse with, and what helps.
REFUSALS: Mapping[str, tuple[Code, str]] = {
    "access_denied": (Code.CREDENTIAL_REFUSED, "the login was denied in the browser"),
    "expired_token": (Code.CREDENTIAL_EXPIRED, "the code was not entered in time; run pilot login again"),
    "invalid_grant": (Code.CREDENTIAL_EXPIRED, "the login of before holds no more; run pilot login again"),
    "invalid_client": (Code.CREDENTIAL_REFUSED, "it does not know this client; ask who runs the queue for --client-id"),
    "unauthorized_client": (Code.CREDENTIAL_REFUSED, "it does not let this client log in so; see --client-id"),
    "invalid_scope": (Code.CREDENTIAL_REFUSED, "it does not give this scope; see --scope"),
}
Pause = Callable[[float], object]  # waits so long, or until there is a reason not to
Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Client:
    """As whom, for what and for whom tokens are asked for."""

    issuer: str
    client_id: str
    scope: str = "openid offline_access"
    audience: str = ""


@dataclass(frozen=True, slots=True)
class Tokens:
    """What an issuer gave: a token, and where it lets itself be renewed a key to that; neither is ever shown."""

    access: str
    refresh: str = ""
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Invitation:
    """What a person is to do: open the address, enter the code, within so many seconds."""

    address: str
    code: str
    device: str
    seconds: float
    interval: float


class Issuer:
    """One issuer, by what it says of itself."""

    def __init__(self, client: Client, tls: ssl.SSLContext) -> None:
        self._client = client
        handlers = (_NoRedirects(), urllib.request.HTTPSHandler(context=tls))
        self._opener = urllib.request.build_opener(*handlers)
        about = self._exchange(self._safe(client.issuer.rstrip("/") + ABOUT), None)
        if str(about.get("issuer", "")).rstrip("/") != client.issuer.rstrip("/"):
            raise self._wrong("its description is of another issuer")
        self._about = about

    def invite(self) -> Invitation:
        """Begins a login."""
        asked = {"client_id": self._client.client_id, "scope": self._client.scope}
        found = self._granted(self._endpoint("device_authorization_endpoint"), self._for_audience(asked))
        address = _text(found.get("verification_uri_complete")) or _text(found.get("verification_uri"))
        code, device = _text(found.get("user_code")), _text(found.get("device_code"))
        if not (address and code and device):
            raise self._wrong("its invitation holds no address or no code")
        seconds = min(_number(found.get("expires_in")) or 300.0, LONGEST_CODE)
        interval = min(_number(found.get("interval")) or USUAL_INTERVAL, LONGEST_INTERVAL)
        return Invitation(self._safe(address), code, device, seconds, interval)

    def wait(self, invitation: Invitation, pause: Pause) -> Tokens:
        """Asks, no faster than it is let, until the person has answered or the code has run out."""
        waited, interval = 0.0, invitation.interval
        while waited < invitation.seconds:
            pause(interval)
            waited += interval
            found, slower = self._poll(invitation.device)
            if found is not None:
                return found
            interval = min(interval + slower, LONGEST_INTERVAL)
        raise self._refused("expired_token")

    def renew(self, refresh: str) -> Tokens:
        """A new token with what the last one came with."""
        asked = {"grant_type": "refresh_token", "refresh_token": refresh, "client_id": self._client.client_id}
        found = self._tokens(self._granted(self._endpoint("token_endpoint"), self._for_audience(asked)))
        return Tokens(found.access, found.refresh or refresh, found.seconds)

    def _poll(self, device: str) -> tuple[Tokens | None, float]:
        """The tokens, or by how much slower the next question comes."""
        asked = {"grant_type": GRANT, "device_code": device, "client_id": self._client.client_id}
        try:
            found = self._exchange(self._endpoint("token_endpoint"), asked)
        except Passing:
            return None, SLOWER_BY  # the standard asks for patience with an issuer that does not answer
        word = found.get("error")
        if word in ("authorization_pending", "slow_down"):
            return None, SLOWER_BY if word == "slow_down" else 0.0
        if word is not None:
            raise self._refused(str(word))
        return self._tokens(found), 0.0

    def _tokens(self, found: Mapping[str, object]) -> Tokens:
        access, refresh = _text(found.get("access_token")), _text(found.get("refresh_token"))
        if not _is_token(access) or (refresh and not _is_token(refresh)):
            raise self._wrong("its answer holds no token")
        if str(found.get("token_type", "Bearer")).lower() != "bearer":
            raise self._wrong("its token is no bearer token")
        return Tokens(access, refresh, _number(found.get("expires_in")))

    def _for_audience(self, asked: dict[str, str]) -> dict[str, str]:
        return {**asked, "audience": self._client.audience} if self._client.audience else asked

    def _granted(self, url: str, asked: Mapping[str, str]) -> Mapping[str, object]:
        found = self._exchange(url, asked)
        if "error" in found:
            raise self._refused(str(found["error"]))
        return found

    def _endpoint(self, name: str) -> str:
        url = self._about.get(name)
        if not isinstance(url, str) or not url:
            what = "offers no login with a code (device flow)" if name.startswith("device") else f"names no {name}"
            raise Final(Code.SERVER_REFUSED, f"issuer {self._client.issuer}: it {what}; use another issuer")
        return self._safe(url)

    def _safe(self, url: str) -> str:
        parts = urlsplit(url)
        secure = parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in LOOPBACK)
        if not secure or not url.isprintable() or " " in url:
            raise Final(Code.SERVER_REFUSED, f"issuer {self._client.issuer[:200]!r}: {url[:200]!r} is no https address")
        return url

    def _exchange(self, url: str, form: Mapping[str, str] | None) -> Mapping[str, object]:
        """One request; an orderly refusal (400, 401) is an answer."""
        body = urlencode(form).encode() if form is not None else None
        request = urllib.request.Request(url, body, {"Accept": "application/json"})  # noqa: S310  seen by _safe
        try:
            with self._opener.open(request, timeout=ANSWER_SECONDS) as reply:
                return self._object(reply.read(ANSWER_CAP + 1))
        except HTTPError as refusal:
            with refusal:
                if refusal.code in (HTTPStatus.BAD_REQUEST, HTTPStatus.UNAUTHORIZED) and form is not None:
                    return self._object(refusal.read(ANSWER_CAP + 1))
            raise self._wrong(f"{_bare(url)} answered {refusal.code}") from None
        except (URLError, OSError) as problem:
            why = getattr(problem, "reason", problem)
            raise self._wrong(f"{_bare(url)} cannot be reached: {str(why)[:200]}") from None

    def _object(self, octets: bytes) -> Mapping[str, object]:
        try:
            found = json.loads(octets) if len(octets) <= ANSWER_CAP else None
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            raise self._wrong("an answer that is no JSON object of reasonable size")
        return found

    def _wrong(self, what: str) -> Passing:
        return Passing(Code.SERVER_UNREACHABLE, f"issuer {self._client.issuer}: {what}")

    def _refused(self, word: str) -> Final:
        shown = "".join(each for each in word if each.isprintable())[:80]
        code, what = REFUSALS.get(word, (Code.CREDENTIAL_REFUSED, f"it refuses: {shown}"))
        return Final(code, f"issuer {self._client.issuer}: {what}")


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A key must not follow an answer to another server."""

    def redirect_request(self, *_: object, **__: object) -> None:
        """None: the redirect is an error like any other."""


def _bare(url: str) -> str:
    return url.partition("?")[0]


def _text(value: object) -> str:
    return value if isinstance(value, str) and value.isprintable() and len(value) <= TOKEN_CAP else ""


def _number(value: object) -> float:
    usable = isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 1e9
    return float(value) if usable else 0.0  # type: ignore[arg-type]  # just seen


def _is_token(text: str) -> bool:
    return 0 < len(text) <= TOKEN_CAP and all(0x21 <= ord(each) <= 0x7E for each in text)
