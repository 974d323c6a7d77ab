"""Tokens for the site's storage, for the pilot that has an attempt, as long as it has it."""

from dataclasses import dataclass

from pilot.model.faults import Code
from pilot.ports import Final
from pilot.queue import fate
from pilot.queue.service.call import PILOTS, Call, Caller
from pilot.queue.service.state import Service
from pilot.wire.calls import GIVEN_QUEUE, path

LEASE = "SELECT lease_until, owner FROM job WHERE job = ?"


@dataclass(frozen=True, slots=True)
class Wanting:
    """What `storage_token` takes."""

    job_id: str
    attempt: int
    queue: str = GIVEN_QUEUE


@dataclass(frozen=True, slots=True)
class StorageToken:
    """What it gives; `expires` in seconds since the epoch: with the lease, or a minute from now if that is later."""

    token: str
    expires: float


async def storage_token(service: Service, _caller: Caller, asked: object) -> StorageToken:
    """A token that reads what the job stored, and creates in the attempt's own folder."""
    assert isinstance(asked, Wanting)
    key = service.setting.storage
    if key is None:
        raise Final(Code.SERVER_REFUSED, "this service mints no storage tokens: it was given no --storage-key")
    until, owner = await service.desk.do("storage_token", lambda: _lease(service, asked))
    return StorageToken(*key.token(asked.job_id, asked.attempt, owner, until))


def _lease(service: Service, asked: Wanting) -> tuple[float, str]:
    with service.store.reading() as db:
        attempt = fate.attempt_of(db, asked.job_id, asked.attempt)
        if attempt is None or not attempt.alive or attempt.state != fate.LEASED:
            raise Final(Code.STORAGE_DENIED, f"attempt {asked.attempt} of job {asked.job_id[:80]} has no lease")
        row = db.execute(LEASE, (attempt.job,)).fetchone()
    return float(row["lease_until"]), str(row["owner"])


CALLS = (
    Call("POST", path("storage_token"), PILOTS, "Mints a token for the attempt's own place in the site's storage.",
         storage_token, Wanting, StorageToken),
)  # fmt: skip
