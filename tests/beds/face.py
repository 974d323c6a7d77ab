"""The served queue with its face, on a real loopback socket, and a day's life in it."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import requests
import uvicorn

from pilot.adapters.matcher_classad import ClassAdMatcher
from pilot.model.capability import Accelerator, Offer
from pilot.model.faults import Code, fault
from pilot.model.job import Grant, JobSpec, Verdict
from pilot.model.plain import from_plain, to_plain
from pilot.model.queue import QueueSettings, Submission
from pilot.model.report import Report
from pilot.ports import Beat
from pilot.queue.service.app import build_app
from pilot.queue.service.call import Caller, Role
from pilot.queue.service.face import Face, Login, Shown
from pilot.queue.service.identity import Doorkeeper
from pilot.queue.service.meter import Meter
from pilot.queue.service.metered import Metered
from pilot.queue.service.state import Service, Setting
from pilot.queue.settings import write_settings
from pilot.queue.store import create_store, open_store
from tests.contracts.server_beds import GIB, needs

HOSTILE = "<img src=x onerror=\"alert('owned')\"><script>alert('owned')</script>"


@dataclass
class FaceBed:
    """One service with a face; what it does to the queue goes through the service's own counting."""

    url: str
    service: Service
    face: Face
    meter: Meter
    pilot_token: str = ""

    def get(self, path: str, token: str = "", **query: str) -> requests.Response:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return requests.get(self.url + path, query, headers=headers, timeout=30)

    def board(self, token: str = "", **query: str) -> dict[str, object]:
        reply = self.get("/api/v1/grid/board", token, **query)
        assert reply.status_code == 200, reply.text
        return reply.json()["data"]  # type: ignore[no-any-return]

    def settle(self) -> None:
        """Until the board has counted what was done last: it counts anew as often as that costs little."""
        until = time.monotonic() + 20
        while self.board()["counts"]["waiting"] != self.waiting():  # type: ignore[index]
            assert time.monotonic() < until, "the board counts no more"
            threading.Event().wait(0.05)

    def waiting(self) -> int:
        with self.service.own.reading() as db:
            return int(db.execute("SELECT count(*) FROM job WHERE state = 'waiting'").fetchone()[0])

    def add(self, *jobs: Submission, user: str = "ada") -> None:
        self.service.queue("default", Caller(user, Role.SUBMITTER, "test")).add(jobs)

    def call(self, verb: str, **arguments: object) -> object:
        """One of the pilots' calls, as they make it."""
        body = {name: to_plain(value) for name, value in arguments.items()}
        headers = {"Authorization": f"Bearer {self.pilot_token}"} if self.pilot_token else {}
        reply = requests.post(f"{self.url}/api/v1/grid/{verb}", json=body, headers=headers, timeout=30)
        assert reply.status_code == 200, reply.text
        return reply.json()["data"]

    def claim(self, offer: Offer, *claims: str) -> list[Grant]:
        answer = self.call("claim", offers=[offer], claims=[[each, 0] for each in claims])
        assert isinstance(answer, dict)
        return [from_plain(Grant, each) for each in answer["grants"] if each]

    def beat(self, grant: Grant, phase: str, progress: str = "") -> None:
        self.call("renew", beats=[Beat(grant.job_id, grant.attempt, phase, progress)])

    def end(self, grant: Grant, verdict: Verdict = Verdict.SUCCEEDED, code: Code | None = None, text: str = "") -> None:
        why = fault(code, text) if code else None
        when = "2026-11-20T12:00:00+00:00"
        report = Report(grant.job_id, grant.attempt, grant.spec.name, verdict, when, when, fault=why, pilot_id="gpu-07")
        assert self.call("report", reports=[report]) == [True]


OPEN = Shown(open_board=True)


@contextmanager
def faced(folder: Path, shown: Shown = OPEN, door: Doorkeeper | None = None) -> Iterator[FaceBed]:
    """A service over a fresh queue, as long as the block lasts."""
    path = folder / "queue.db"
    if not path.exists():
        create_store(path)
        store = open_store(path)
        write_settings(store, QueueSettings("default", "ada", destination="file:///out", lease_seconds=60.0))
        store.close()
    meter = Meter()
    setting = Setting(path, ClassAdMatcher(), door, numbers=meter, watched=lambda server: Metered(server, meter))
    service = Service(setting)
    face = Face(service, meter, shown)
    config = uvicorn.Config(build_app(service, face=face), port=0, log_config=None, ws="none", lifespan="on")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, name="face")
    thread.start()
    try:
        until = time.monotonic() + 20
        while not server.started:
            assert thread.is_alive()
            assert time.monotonic() < until, "the service does not start"
            thread.join(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        yield FaceBed(f"http://127.0.0.1:{port}", service, face, meter)
    finally:
        server.should_exit = True
        thread.join(20)
        assert not thread.is_alive()


def job(name: str, **more: object) -> Submission:
    return Submission(JobSpec(name=name, command=("python3", "train.py"), image="ml-base", **more))  # type: ignore[arg-type]


def node(host: str, cpus: int, gpus: int = 0, **more: object) -> Offer:
    devices = tuple(Accelerator(f"{host}-{each}", "nvidia", "H100 80GB", 80 * GIB, "9.0") for each in range(gpus))
    return Offer(f"{host}/1", host, cpus, cpus * 4 * GIB, 200 * GIB, 86000.0, devices, **more)  # type: ignore[arg-type]


def a_day(bed: FaceBed) -> None:
    """Jobs of three people, pilots on four nodes, faults, progress, and one name that would like to be a script."""
    small, gpu = needs(2, memory_bytes=4 * GIB), needs(4, 1, memory_bytes=16 * GIB)
    big = needs(64, 8, memory_bytes=512 * GIB)
    bed.add(*(job(f"dilepton-scan-{each:03}", needs=gpu, priority=2) for each in range(40)))
    nodes = [node("gpu-07", 32, 4), node("gpu-08", 32, 4), node("cpu-21", 64), node("cpu-22", 64)]
    grants = {each.host: bed.claim(each, *(f"{each.host}-{n}" for n in range(9))) for each in nodes[:2]}
    bed.add(*(job(f"toys-{each:04}", needs=small) for each in range(300)), user="grace")
    bed.add(job("foundation-pretrain", needs=big), job(HOSTILE, needs=gpu), user="emmy")
    grants |= {each.host: bed.claim(each, *(f"{each.host}-{n}" for n in range(9))) for each in nodes[2:]}
    for number in range(6):
        bed.end(grants["cpu-21"][number])
    bed.end(grants["gpu-07"][0], Verdict.FAILED, Code.PAYLOAD_EXIT, "exit code 1: RuntimeError: loss is nan in epoch 3")
    bed.end(grants["gpu-08"][0], Verdict.FAILED, Code.GPU_LOST, "device GPU-5f1a fell off the bus (Xid 79)")
    bed.end(grants["cpu-22"][0], Verdict.FAILED, Code.STAGE_IN_CHECKSUM, "ntuple.root: adler32 1a2b3c4d, wanted 9f0e")
    for number, grant in enumerate(grants["gpu-07"][1:] + grants["gpu-08"][1:]):
        told = {"type": "progress", "epoch": number % 5, "step": 170 * (number + 1), "steps_total": 4000,
                "metric": {"loss": 0.31 / (number + 1), "auc": 0.91}, "eta_s": 900 - 60 * number}  # fmt: skip
        bed.beat(grant, "running", json.dumps(told))


LOGIN = Login("https://issuer.example.org", "pilot-cli")
