"""Tokens for a storage, minted for one attempt: WLCG's profile, the attempt's own path, no longer than its lease."""

import secrets
from dataclasses import dataclass

from pilot.queue.service.signing import SigningKey

WLCG_VERSION = "1.0"
LEAST_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class StorageKey:
    """The site's key for its storage: who signs, for which audience, above which path jobs have their own."""

    key: SigningKey
    issuer: str
    audience: str
    base: str  # the storage's path of the queue's outputs, "/" at its start and none at its end

    def token(self, job_id: str, attempt: int, subject: str, until: float) -> tuple[str, float]:
        """Reads what the job stored so far, creates in the attempt's own folder; and when it expires."""
        now = self.key.wall()
        scope = f"storage.read:{self.base}/{job_id}/ storage.create:{self.base}/{job_id}/{attempt}/"
        expires = int(max(until, now + LEAST_SECONDS))
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
