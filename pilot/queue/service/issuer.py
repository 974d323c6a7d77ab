"""Tokens of an issuer that the site trusts (OIDC): its keys are fetched from where it says, and kept for a while."""

import json
import ssl
import threading
import time
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.error import URLError
from urllib.parse import urlsplit

import jwt

from pilot.model.faults import Code
from pilot.ports import Passing
from pilot.queue.service.call import Role
from pilot.queue.service.identity import Denied, Holder
from pilot.queue.service.signing import decoded, expiry_of, user_in

ALGORITHMS = ("RS256", "ES256", "PS256", "RS512", "ES384")
KEYS_SECONDS = 600.0
AGAIN_SECONDS = 30.0  # an unknown key is looked up again at most so often: tokens of nonsense are cheap to make
FETCH_SECONDS = 10.0
LARGEST_DOCUMENT = 1 << 20
GROUPS = ("groups", "wlcg.groups", "roles")  # claims that may hold what a person belongs to
ORDER = (Role.OPERATOR, Role.SUBMITTER, Role.PILOT)  # of several roles the first counts


@dataclass(frozen=True, slots=True)
class Trust:
    """Which issuer is trusted, for which audience; which groups have which role; which claim names the user."""

    issuer: str
    audience: str
    groups: Mapping[str, Role]
    user_claim: str = "sub"
    tls: ssl.SSLContext | None = None


@dataclass(slots=True)
class IssuerTokens:
    """Reads the tokens of one issuer."""

    trust: Trust
    _keys: dict[str, jwt.PyJWK] = field(default_factory=dict)
    _fetched: float = float("-inf")
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def issuer(self) -> str:
        """Who issues them."""
        return self.trust.issuer

    def verify(self, token: str) -> Holder:
        """Whom it speaks for; raises Denied, and Passing where the issuer does not answer."""
        header = _header(token)
        if header.get("alg") not in ALGORITHMS:
            raise Denied(Code.CREDENTIAL_REFUSED, "the token is signed in a way that is not accepted here")
        key = self._key(str(header.get("kid", "")))
        claims = decoded(token, key, str(header["alg"]), self.trust.audience)
        until = expiry_of(claims, time.time())
        return Holder(user_in(claims, self.trust.user_claim), self._role(claims), until)

    def _role(self, claims: Mapping[str, object]) -> Role:
        held = {group for name in GROUPS for group in _texts(claims.get(name))}
        roles = {self.trust.groups[each] for each in held if each in self.trust.groups}
        found = next((each for each in ORDER if each in roles), None)
        if found is None:
            raise Denied(Code.CREDENTIAL_REFUSED, "the token names no group that has a role in this queue", 403)
        return found

    def _key(self, name: str) -> jwt.PyJWK:
        with self._lock:
            age = time.monotonic() - self._fetched
            if age > KEYS_SECONDS or (name not in self._keys and age > AGAIN_SECONDS):
                self._keys = _fetch_keys(self.trust)
                self._fetched = time.monotonic()
            if name not in self._keys:
                raise Denied(Code.CREDENTIAL_REFUSED, "the token is signed with a key that its issuer does not have")
            return self._keys[name]


def _header(token: str) -> Mapping[str, object]:
    try:
        return jwt.get_unverified_header(token)
    except (jwt.PyJWTError, ValueError) as problem:
        raise Denied(Code.CREDENTIAL_REFUSED, "the token is no JSON web token") from problem


def _texts(value: object) -> list[str]:
    return [each for each in value if isinstance(each, str)] if isinstance(value, list) else []


def _fetch_keys(trust: Trust) -> dict[str, jwt.PyJWK]:
    about = _document(f"{trust.issuer.rstrip('/')}/.well-known/openid-configuration", trust)
    if about.get("issuer") != trust.issuer:
        raise Passing(Code.SERVER_UNREACHABLE, f"issuer {trust.issuer}: its description is of another issuer")
    keys = _document(str(about.get("jwks_uri", "")), trust).get("keys")
    found: dict[str, jwt.PyJWK] = {}
    for each in keys if isinstance(keys, list) else []:
        if not isinstance(each, dict) or each.get("use", "sig") != "sig" or each.get("kty") == "oct":
            continue
        try:
            found[str(each.get("kid", ""))] = jwt.PyJWK(each)
        except jwt.PyJWTError:
            continue  # a kind of key that we do not know is none of ours
    return found


def _document(url: str, trust: Trust) -> Mapping[str, object]:
    parts = urlsplit(url)
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in ("127.0.0.1", "::1", "localhost")):
        raise Passing(Code.SERVER_UNREACHABLE, f"issuer {trust.issuer}: {url[:200]!r} is no https address")
    opener = urllib.request.build_opener(_NoRedirects(), urllib.request.HTTPSHandler(context=trust.tls))
    try:
        with opener.open(url, timeout=FETCH_SECONDS) as reply:
            found = json.loads(reply.read(LARGEST_DOCUMENT))
    except (URLError, OSError, ValueError, RecursionError) as problem:
        raise Passing(Code.SERVER_UNREACHABLE, f"issuer {trust.issuer}: {url[:200]}: {problem}") from problem
    if not isinstance(found, dict):
        raise Passing(Code.SERVER_UNREACHABLE, f"issuer {trust.issuer}: {url[:200]} holds no JSON object")
    return found


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """The issuer's documents are where it says, or nowhere."""

    def redirect_request(self, *_: object) -> None:
        """None, whatever is asked."""
