"""Code archives between their PUT and the `add` that names them: in memory, for minutes, bounded for each user.

Who puts more than one user's share pushes out the own oldest archives, never somebody else's.
"""

import hashlib
import json
import re
import time
from dataclasses import dataclass

from pilot.model.faults import Code
from pilot.ports import Final
from pilot.queue.service.limits import Busy, Limits
from pilot.queue.store import Store

BROUGHT_BY = """
SELECT 1 FROM (SELECT owner, template FROM job ORDER BY job DESC LIMIT 10000) JOIN template USING (template)
WHERE owner = ? AND instr(body, ?) LIMIT 1
"""  # of the newest jobs: who hands in again after a lost answer need not put it again
KEPT_SECONDS = 900.0
KEPT_BYTES = 128 << 20  # of all users together
DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class _Upload:
    data: bytes
    at: float


class Uploads:
    """Archives by user and digest; the oldest of a user go first."""

    def __init__(self, share: int = Limits().upload_bytes) -> None:
        self._share = share
        self._kept: dict[tuple[str, str], _Upload] = {}

    def put(self, user: str, sha256: str, data: bytes) -> None:
        """Keeps a user's archive for a while; it must be what its digest says."""
        if hashlib.sha256(data).hexdigest() != sha256:
            raise Final(Code.JOB_INVALID, f"code: the archive is not the one that its digest {sha256[:16]} names")
        if len(data) > self._share:
            raise Final(Code.STORAGE_DENIED, f"code: {len(data)} bytes, over the {self._share} that one user may put")
        self._forget_old()
        self._kept.pop((user, sha256), None)
        own = [each for each in self._kept if each[0] == user]
        while own and self._bytes(own) + len(data) > self._share:
            del self._kept[own.pop(0)]
        if self._bytes(list(self._kept)) + len(data) > KEPT_BYTES:
            raise Busy("code: other users' archives fill the room for those that no job has named yet")
        self._kept[user, sha256] = _Upload(data, time.monotonic())

    def get(self, user: str, sha256: str) -> bytes | None:
        """The user's archive, if it is still here."""
        found = self._kept.get((user, sha256))
        return found.data if found else None

    def _bytes(self, keys: list[tuple[str, str]]) -> int:
        return sum(len(self._kept[each].data) for each in keys)

    def _forget_old(self) -> None:
        old = time.monotonic() - KEPT_SECONDS
        self._kept = {key: each for key, each in self._kept.items() if each.at >= old}


def brought_by(store: Store, user: str, sha256: str) -> bool:
    """Whether a job of that user, handed in lately, has that archive; for the database thread."""
    with store.reading() as db:
        return db.execute(BROUGHT_BY, (user, json.dumps(check_digest(sha256)))).fetchone() is not None


def check_digest(sha256: str) -> str:
    """The digest, if it looks like one."""
    if not DIGEST.fullmatch(sha256):
        raise Final(Code.JOB_INVALID, "code: sha256=DIGEST in the query, 64 small hex digits")
    return sha256
