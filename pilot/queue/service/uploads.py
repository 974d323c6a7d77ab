"""Code archives between their PUT and the `add` that names them: in memory, for minutes, bounded."""

import hashlib
import re
import time
from dataclasses import dataclass

from pilot.model.faults import Code
from pilot.ports import Final

KEPT_SECONDS = 900.0
KEPT_BYTES = 128 << 20
DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class _Upload:
    data: bytes
    at: float


class Uploads:
    """Archives by digest; the oldest go first."""

    def __init__(self) -> None:
        self._by_digest: dict[str, _Upload] = {}

    def put(self, sha256: str, data: bytes) -> None:
        """Keeps an archive for a while; it must be what its digest says."""
        if hashlib.sha256(data).hexdigest() != sha256:
            raise Final(Code.JOB_INVALID, f"code: the archive is not the one that its digest {sha256[:16]} names")
        self._by_digest.pop(sha256, None)
        self._by_digest[sha256] = _Upload(data, time.monotonic())
        self._shrink()

    def get(self, sha256: str) -> bytes | None:
        """The archive, if it is still here."""
        found = self._by_digest.get(sha256)
        return found.data if found else None

    def _shrink(self) -> None:
        old = time.monotonic() - KEPT_SECONDS
        while self._by_digest:
            first = next(iter(self._by_digest))
            total = sum(len(each.data) for each in self._by_digest.values())
            if self._by_digest[first].at >= old and total <= KEPT_BYTES:
                return
            del self._by_digest[first]


def check_digest(sha256: str) -> str:
    """The digest, if it looks like one."""
    if not DIGEST.fullmatch(sha256):
        raise Final(Code.JOB_INVALID, "code: sha256=DIGEST in the query, 64 small hex digits")
    return sha256
