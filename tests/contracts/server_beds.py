"""Test beds for the `Server` port: a queue, pilots on it, its user, and a clock that is moved by hand."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from pilot.adapters.credentials_token import TokenFile
from pilot.adapters.matcher_classad import ClassAdMatcher
from pilot.adapters.server_calls import Calls
from pilot.adapters.server_gate import Gate
from pilot.adapters.server_http import HttpLine
from pilot.adapters.server_own import OwnServer
from pilot.adapters.server_queue import OwnQueue
from pilot.model.capability import Offer
from pilot.model.job import GpuNeeds, JobSpec, Needs
from pilot.model.queue import QueueSettings, QueueState, Submission
from pilot.ports import ClaimRequest, Queue, Server
from pilot.queue.local import LocalServer
from pilot.queue.service.call import Role
from pilot.queue.settings import change_settings, write_settings
from pilot.queue.store import Store, create_store, open_store
from pilot.queue.users import LocalQueue
from tests.beds.served import Served
from tests.fakes.authority import Authority
from tests.fakes.server import USER_TOKEN, FakeServer

T = TypeVar("T", bound="Server | Queue")

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


class ServeBed(LocalBed):
    """The same file served over HTTPS, on loopback: pilots and users come with tokens, through our own adapters."""

    host = "localhost"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.served = Served(self.path, self.clock, self.host)
        self._lines: list[Server | Queue] = []

    def pilot(self) -> Server:
        return self._kept(self.served.pilot())

    def user(self, name: str = "owner") -> Queue:
        return self._kept(self.served.user(name, Role.OPERATOR if name == "owner" else Role.SUBMITTER))

    def close(self) -> None:
        for each in self._lines:
            each.close()
        self.served.close()
        super().close()

    def _kept(self, line: T) -> T:
        self._lines.append(line)
        return line


class ServeBed6(ServeBed):
    """Over IPv6."""

    host = "::1"


class FakeBed(LocalBed):
    """The same queue behind our own calls, over TLS on a real socket: what the adapters of https URLs are to do."""

    host = "127.0.0.1"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.authority = Authority(folder)
        self.server = FakeServer(self.path, self.clock, self.authority.issue().file, self.host)
        self._trust = self.trusted()
        self._lines: list[HttpLine] = []

    def trusted(self) -> Path:
        """What the clients are told to trust."""
        return self.authority.file

    def pilot(self) -> Server:
        return OwnServer(Calls(self._line("pilot"), "default"))

    def user(self, name: str = "owner") -> Queue:
        return OwnQueue(Calls(self._line(name), "default"))

    def _line(self, name: str) -> HttpLine:
        token = self.path.parent / f"{name}.token"
        token.touch(mode=0o600)
        token.write_text(USER_TOKEN + name)
        line = HttpLine(self.server.url, TokenFile(token), Gate(), str(self._trust))
        self._lines.append(line)
        return line

    def close(self) -> None:
        for each in self._lines:
            each.close()
        self.server.close()
        super().close()


class FakeBed6(FakeBed):
    """Over IPv6, trusted by a hashed directory."""

    host = "::1"

    def trusted(self) -> Path:
        """As sites keep it."""
        return self.authority.hashed_directory()


BEDS: dict[str, type[LocalBed]] = {
    "local": LocalBed, "serve": ServeBed, "serve-ipv6": ServeBed6, "fake": FakeBed, "fake-ipv6": FakeBed6
}  # fmt: skip


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
