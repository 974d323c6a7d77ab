"""Tokens for a storage, minted for one attempt: WLCG's profile, the attempt's own path, no longer than its lease."""

import re
import secrets
from dataclasses import dataclass

from pilot.model.faults import Code
from pilot.ports import Final
from pilot.queue.service.signing import SigningKey

WLCG_VERSION = "1.0"
_PART = re.compile(r"[A-Za-z0-9_~+-][A-Za-z0-9._~+-]*")  # of a path; a scope is a list with spaces between


@dataclass(frozen=True, slots=True)
class StorageKey:
    """The site's key for its storage: who signs, for which audience, above which path jobs have their own."""

    key: SigningKey
    issuer: str
    audience: str
    base: str  # the storage's path of the queue's outputs, "/" at its start

    def __post_init__(self) -> None:
        first, *parts = self._place().split("/")
        if first or not all(_PART.fullmatch(each) for each in parts):
            raise Final(
                Code.SERVER_REFUSED, f"--storage-base {self.base}: letters, digits and . _ ~ + - between slashes"
            )

    def _place(self) -> str:
        return self.base.rstrip("/")

    def token(self, job_id: str, attempt: int, subject: str, until: float) -> tuple[str, float]:
        """Reads what the job stored so far, creates in the attempt's own folder; and when it expires: by `until`."""
        now, own = self.key.wall(), f"{self._place()}/{job_id}/"
        scope = f"storage.read:{own} storage.create:{own}{attempt}/"
        expires = int(until)
        token = self.key.sign(
            {
                "wlcg.ver": WLCG_VERSION,
                "iss": self.issuer,
                "aud": self.audience,
                "sub": subject,
                "scope": scope,
                "jti": secrets.token_hex(12),
                "iat": int(now),
                "nbf": int(now),
                "exp": expires,
            }
        )
        return token, float(expires)
