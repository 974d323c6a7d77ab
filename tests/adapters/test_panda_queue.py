"""A plain PanDA queue put together from settings, documents and Harvester's words; users' sandboxes from its cache."""

import contextlib
import hashlib
import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from pilot import __version__
from pilot.adapters.server_answer import Answer
from pilot.adapters.server_panda import PandaServer
from pilot.adapters.server_pool import Asked
from pilot.adapters.server_sandbox import SandboxStorage
from pilot.assemble.panda import panda_queue
from pilot.config.settings import Settings, load_settings
from pilot.model.capability import Capabilities, LimitedBy, View
from pilot.model.faults import Code
from pilot.ports import Abandoned, Final, Passing, PortError
from pilot.wire.places import Endpoint
from tests.fakes.reached import Reached
from tests.fakes.server import Fault

VIEW = View(8, 1 << 34, 1 << 40, "x86_64", "x86_64-v3")
NODE = Capabilities("wn7", VIEW, VIEW, LimitedBy("node", "node", "node"), cpu_model="AMD", batch="slurm 99")
DATA = {
    "nickname": "Q", "panda_resource": "Q_RES", "atlas_site": "S", "state": "ACTIVE", "status": "test", "maxwdir": 100,
    "astorages": {"write_lan": ["UNKNOWN", "DISK"]},
}  # fmt: skip
DISKS = {"DISK": {"arprotocols": {"pr": [{"endpoint": "file://", "path": "/rse"}]}}}


@dataclass
class Files:
    """A server's cache, as far as a line reaches it."""

    files: dict[str, bytes]
    asked: list[str] = field(default_factory=list)
    problem: PortError | None = None
    origin: str = "https://panda.test:25443"

    def answer(self, asked: Asked) -> Answer:
        self.asked.append(f"{asked.method} {asked.path}")
        if self.problem is not None:
            raise self.problem
        found = self.files.get(asked.path)
        return Answer(404, {}, b"") if found is None else Answer(200, {}, found)

    def close(self) -> None:
        pass


def line(**files: object) -> Any:
    known = {"data": "/cache/schedconfig/Q.all.json", "disks": "/cache/ddmendpoints.json"}
    return Files({known[name]: json.dumps(each).encode() for name, each in files.items()})


SETTINGS = Settings(queue="https://panda.test:25443", queue_name="Q")


def settings(**more: object) -> Settings:
    return load_settings(
        {"queue": "https://panda.test:25443", "queue_name": "Q", **more}, {"HOME": "/nowhere"}
    ).settings


def test_everything_from_the_servers_own_documents() -> None:
    files = line(data=DATA, disks=DISKS)
    environment = {"HARVESTER_ID": "H", "HARVESTER_WORKER_ID": "42", "GTAG": "https://logs/42.out"}
    queue = panda_queue(SETTINGS, files, environment, NODE)
    site = queue.site
    assert (site.queue, site.resource, site.site, site.node, site.label) == ("Q", "Q_RES", "S", "wn7", "test")
    assert (site.harvester, site.scheduler, site.worker) == ("H", "H", 42)
    assert (site.batch, site.cpu_model, site.cpu_level) == ("slurm 99", "AMD", "x86_64-v3")
    assert site.pilot_id == f"https://logs/42.out|SLURM|ml-grid-pilot|{__version__}"
    assert site.endpoints == {"DISK": Endpoint("file:///rse", "file:///rse")}
    assert (site.output, site.limits.scratch_bytes, site.lease_seconds) == ("DISK", 100 << 20, 7200.0)
    assert files.asked == ["GET /cache/schedconfig/Q.all.json", "GET /cache/ddmendpoints.json"]
    assert isinstance(queue.server(files), PandaServer)


def test_settings_go_before_documents(tmp_path: Path) -> None:
    (tmp_path / "q.json").write_text(json.dumps({"Q": DATA, "R": {}}))
    (tmp_path / "d.json").write_text(json.dumps({**DISKS, "TAPE": DISKS["DISK"]}))
    files = line()
    found = settings(
        panda_queue_data=tmp_path / "q.json",
        panda_storages_file=tmp_path / "d.json",
        panda_storages={"DISK": "file:///other/"},
        panda_resource="R", panda_site="X", panda_label="ptest", panda_output="TAPE", panda_lease="30m",
    )  # fmt: skip
    site = panda_queue(found, files, {"PANDA_JSID": "J"}, None).site
    assert files.asked == []
    assert (site.resource, site.site, site.label, site.output) == ("R", "X", "ptest", "TAPE")
    assert (site.lease_seconds, site.scheduler, site.worker, site.node) == (1800.0, "J", None, "")
    assert site.endpoints["DISK"].write == "file:///other"
    assert site.endpoints["TAPE"].write == "file:///rse"


@pytest.mark.parametrize("worker", ["", "x", "-1", "²", "9" * 30])
def test_a_worker_id_that_is_none(worker: str) -> None:
    assert panda_queue(SETTINGS, line(data=DATA), {"HARVESTER_WORKER_ID": worker}, None).site.worker is None


@pytest.mark.parametrize(
    ("files", "more", "said"),
    [
        ({}, {}, "the server has no data of it (/cache/schedconfig/Q.all.json): correct queue_name"),
        ({"data": {**DATA, "state": "NOTACTIVE"}}, {}, "the queue Q is 'NOTACTIVE', not ACTIVE"),
        ({"data": []}, {}, "queue data: expected an object"),
        ({"data": DATA, "disks": []}, {}, "the reply is no JSON: expected {"),
        (
            {"data": DATA},
            {"panda_storages_file": "/no/such"},
            "panda_storages_file: /no/such: cannot be read: No such file",
        ),
        ({}, {"panda_queue_data": "/dev/null"}, "panda_queue_data: /dev/null: it is no JSON"),
    ],
)
def test_what_is_wrong_is_one_line(files: dict[str, object], more: dict[str, str], said: str) -> None:
    with pytest.raises(Final) as caught:
        panda_queue(settings(**more), line(**files), {}, None)
    assert caught.value.fault.code is Code.SERVER_REFUSED
    assert caught.value.fault.detail.startswith("queue Q of https://panda.test:25443: ")
    assert said in caught.value.fault.detail


def test_an_endpoint_that_is_reached_otherwise_is_not_known_here() -> None:
    far = {"arprotocols": {"pr": [{"endpoint": "root://se:1094/", "path": "/rse"}]}}
    site = panda_queue(settings(), line(data=DATA, disks={**DISKS, "FAR": far}), {}, NODE).site
    assert list(site.endpoints) == ["DISK"]


def test_the_example_for_sites_is_a_configuration() -> None:
    path = Path(__file__).parents[2] / "site-configs/panda.yaml"
    found = load_settings({}, {"HOME": "/nowhere"}, path).settings
    site = panda_queue(replace(found, queue_name="Q"), line(data=DATA), {}, NODE).site
    assert site.output == "SITE_SCRATCHDISK"
    assert site.endpoints["SITE_DATADISK"].read == "file:///ceph/grid/datadisk/rucio"


# --- sandboxes -------------------------------------------------------------------------------------------------------

URL = "https://panda.test:25443/cache/s.tar.gz"


def storage(files: Files, *hosts: str) -> SandboxStorage:
    line_to: Callable[[str], Any] = lambda _: files  # noqa: E731
    return SandboxStorage(frozenset(hosts or ("panda.test",)), line_to)


def test_a_sandbox_is_fetched(tmp_path: Path) -> None:
    files = Files({"/cache/s.tar.gz": b"abc"})
    found = storage(files).fetch(URL, tmp_path / "s.tar.gz", lambda: False)
    assert (found.name, found.url, found.bytes, found.adler32) == ("s.tar.gz", URL, 3, "024d0127")
    assert found.sha256 == hashlib.sha256(b"abc").hexdigest()
    assert (tmp_path / "s.tar.gz").read_bytes() == b"abc"
    assert (tmp_path / "s.tar.gz").stat().st_mode & 0o777 == 0o444


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("https://elsewhere/cache/s", Code.STORAGE_DENIED),
        ("https://169.254.169.254/cache/s", Code.STORAGE_DENIED),
        ("https://panda.test@elsewhere/cache/s", Code.JOB_INVALID),
        ("https://panda.test/secret/s", Code.JOB_INVALID),
        ("https://panda.test/cache/s?x=1", Code.JOB_INVALID),
        ("http://panda.test/cache/s", Code.JOB_INVALID),
        ("https://[panda/cache/s", Code.JOB_INVALID),
        ("https://panda.test:25443/cache/none", Code.STAGE_IN_MISSING),
    ],
)
def test_no_other_place_is_looked_at(url: str, code: Code, tmp_path: Path) -> None:
    files = Files({})
    with pytest.raises(Final) as caught:
        storage(files).fetch(url, tmp_path / "s", lambda: False)
    assert caught.value.fault.code is code
    assert bool(files.asked) is (code is Code.STAGE_IN_MISSING)
    assert not (tmp_path / "s").exists()


def test_a_server_that_does_not_answer_is_asked_again(tmp_path: Path) -> None:
    files = Files({}, problem=Passing(Code.SERVER_UNREACHABLE, "cut"))
    with pytest.raises(Passing) as caught:
        storage(files).fetch(URL, tmp_path / "s", lambda: False)
    assert caught.value.fault.code is Code.STORAGE_UNREACHABLE


def test_given_up_and_never_stored(tmp_path: Path) -> None:
    files = Files({"/cache/s.tar.gz": b"abc"})
    with pytest.raises(Abandoned):
        storage(files).fetch(URL, tmp_path / "s", lambda: True)
    with pytest.raises(Final):
        storage(files).store(tmp_path / "s", URL, lambda: False)


def test_a_download_that_stalls_is_given_up_at_once(tmp_path: Path) -> None:
    """An answer that has begun and does not go on: a kill, and a pilot that leaves, must not wait for it."""
    reached = Reached(tmp_path)
    reached.server.plan.add(Fault(hangs=True))
    host = SandboxStorage(frozenset(["127.0.0.1"]), lambda _: reached.line())
    told = threading.Event()
    began = time.monotonic()
    threading.Timer(0.3, told.set).start()
    with contextlib.closing(reached), pytest.raises(Abandoned):
        host.fetch(f"{reached.server.url}/cache/s.tar.gz", tmp_path / "s", told.is_set)
    assert time.monotonic() - began < 5
    assert not (tmp_path / "s").exists()
