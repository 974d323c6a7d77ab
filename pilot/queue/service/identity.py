"""Who is calling: a token of the queue's own key, or one of an issuer that the site trusts."""

import hashlib
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from pilot.model.faults import Code
from pilot.ports import Final
from pilot.queue.service.call import Role

SAID_LETTERS = 80  # of what a token says of itself, in the log
KNOWN_TOKENS = 10_000  # verified once, then known by their digest until they expire


@dataclass(frozen=True, slots=True)
class Holder:
    """Whom a token speaks for, until when (UTC seconds)."""

    user: str
    role: Role
    expires: float


class Denied(Final):
    """The caller has no token, or one that is not accepted; `status` is the HTTP answer, `says` whose it says to be."""

    def __init__(self, code: Code, detail: str, status: int = 401, missing: bool = False, says: str = "") -> None:
        super().__init__(code, detail)
        self.status = status
        self.missing = missing
        self.says = says


class Verifier(Protocol):
    """Reads the tokens of one issuer."""

    @property
    def issuer(self) -> str:
        """Who issues them."""

    def verify(self, token: str) -> Holder:
        """Whom it speaks for; raises Denied."""


Unread = Callable[[str], Mapping[str, object]]


@dataclass(slots=True)
class Doorkeeper:
    """Knows the issuers that are trusted; a token is verified once and then known until it expires."""

    verifiers: tuple[Verifier, ...]
    claims: Unread  # what a token says of itself, unverified: only to find whose it is
    wall: Callable[[], float] = time.time
    _known: dict[bytes, Holder] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def known(self, token: str) -> Holder | None:
        """Whom a token speaks for that has been verified before."""
        holder = self._known.get(_digest(token))
        if holder is not None and holder.expires <= self.wall():
            with self._lock:
                self._known.pop(_digest(token), None)
            raise Denied(Code.CREDENTIAL_EXPIRED, "the token has expired; get a new one", says=holder.user)
        return holder

    def verify(self, token: str) -> Holder:
        """Whom the token speaks for; may ask the issuer for its keys, so not for the event loop."""
        claims = self.claims(token)
        issuer = str(claims.get("iss", ""))
        verifier = next((each for each in self.verifiers if each.issuer == issuer), None)
        try:
            if verifier is None:
                raise Denied(Code.CREDENTIAL_REFUSED, f"the token's issuer {issuer[:80]!r} is not trusted here")
            holder = verifier.verify(token)
        except Denied as problem:  # unverified, so that the log can tell whose token has to be renewed
            problem.says = f"says:{str(claims.get('sub', ''))[:SAID_LETTERS]}"
            raise
        with self._lock:
            if len(self._known) >= KNOWN_TOKENS:
                self._known.pop(next(iter(self._known)))
            self._known[_digest(token)] = holder
        return holder

    def trust(self, verifiers: tuple[Verifier, ...]) -> None:
        """Keys have changed: every token is verified anew."""
        with self._lock:
            self.verifiers = verifiers
            self._known.clear()


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
