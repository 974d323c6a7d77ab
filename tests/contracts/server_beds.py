"""Test beds for the `Server` port: a queue, pilots on it, its user, and a clock that is moved by hand."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from pilot.adapters.matcher_classad import ClassAdMatcher
from pilot.model.capability import Offer
from pilot.model.job import GpuNeeds, JobSpec, Needs
from pilot.model.queue import QueueSettings, QueueState, Submission
from pilot.ports import ClaimRequest, Queue, Server
from pilot.queue.local import LocalServer
from pilot.queue.settings import change_settings, write_settings
from pilot.queue.store import Store, create_store, open_store
from pilot.queue.users import LocalQueue

LEASE = 60.0
GIB = 1 << 30


class HandClock:
    """A wall clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now

    def move(self, seconds: float) -> None:
        self.now += seconds


class LocalBed:
    """The embedded queue in process: every pilot has a connection of its own to one file."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "queue.db"
        self.clock = HandClock()
        self._open: list[Store] = []
        create_store(self.path)
        write_settings(self.store(), QueueSettings("default", "owner", destination="file:///out", lease_seconds=LEASE))

    def store(self) -> Store:
        store = open_store(self.path)
        self._open.append(store)
        return store

    def pilot(self) -> Server:
        return LocalServer(self.store(), ClassAdMatcher(), wall=self.clock)

    def user(self, name: str = "owner") -> Queue:
        return LocalQueue(self.store(), ClassAdMatcher(), name, wall=self.clock)

    def set_state(self, state: QueueState) -> None:
        change_settings(self.store(), "default", "owner", {"state": state.value})

    def close(self) -> None:
        sound = self.store().problems()
        for each in self._open:
            each.close()
        assert sound == ()


BEDS = {"local": LocalBed}


def offer(pilot: str = "p1", cpus: int = 4, **more: object) -> Offer:
    values: dict[str, object] = {
        "memory_bytes": 8 * GIB,
        "scratch_bytes": 50 * GIB,
        "runtime": "apptainer",
        "microarch": "x86_64-v3",
    }
    return Offer(pilot_id=pilot, host="node", cpus=cpus, **{**values, **more})  # type: ignore[arg-type]


def job(name: str = "job", **more: object) -> Submission:
    job_id = str(more.pop("job_id", ""))
    return Submission(JobSpec(name=name, command=("true",), image="ml-base", **more), job_id)  # type: ignore[arg-type]


def needs(cpus: int = 1, gpus: int = 0, **more: int) -> tuple[Needs, ...]:
    return (Needs(cpus=cpus, gpus=GpuNeeds(count=gpus), **more),)


def ask(*claim_ids: str, by: Offer | None = None) -> Sequence[ClaimRequest]:
    return [ClaimRequest(each, by or offer()) for each in claim_ids]


def fresh_ids() -> Iterator[str]:
    number = 0
    while True:
        number += 1
        yield f"claim-{number}"
