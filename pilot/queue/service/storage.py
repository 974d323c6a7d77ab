"""Tokens for the site's storage, for the pilot that has an attempt, as long as it has it."""

from dataclasses import dataclass

from pilot.model.faults import Code
from pilot.ports import Final
from pilot.queue import fate
from pilot.queue.service.call import PILOTS, Call, Caller
from pilot.queue.service.state import Service
from pilot.wire.calls import GIVEN_QUEUE, path

LEASE = "SELECT lease_until, owner, queue FROM job WHERE job = ?"


@dataclass(frozen=True, slots=True)
class Wanting:
    """What `storage_token` takes; the claim's id is known to whoever claimed, and to nobody else."""

    job_id: str
    attempt: int
    claim_id: str
    queue: str = GIVEN_QUEUE


@dataclass(frozen=True, slots=True)
class StorageToken:
    """What it gives; `expires` in seconds since the epoch: with the lease, so beat first."""

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
    """Until when the asker has that attempt, and whose job it is; one answer to all who have it not."""
    with service.store.reading() as db:
        attempt = fate.attempt_of_claim(db, asked.claim_id)
        named = attempt is not None and (attempt.job_id, attempt.number) == (asked.job_id, asked.attempt)
        if attempt is not None and named and attempt.alive and attempt.state == fate.LEASED:
            row = db.execute(LEASE, (attempt.job,)).fetchone()
            if row["queue"] == asked.queue and row["lease_until"] > service.wall() + 1:
                return float(row["lease_until"]), str(row["owner"])
    raise Final(Code.STORAGE_DENIED, f"attempt {asked.attempt} of job {asked.job_id[:80]!r} has no lease of this claim")


CALLS = (
    Call("POST", path("storage_token"), PILOTS, "Mints a token for the attempt's own place in the site's storage.",
         storage_token, Wanting, StorageToken),
)  # fmt: skip
