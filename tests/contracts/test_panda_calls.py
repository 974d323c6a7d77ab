"""A real PanDA server's calls beside the queue: devices in a claim, credentials, event ranges."""

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pilot.adapters.credentials_token import NoCredential
from pilot.adapters.server_gate import Gate
from pilot.adapters.server_http import HttpLine
from pilot.adapters.server_panda import PandaServer
from pilot.adapters.server_panda_events import Events
from pilot.adapters.server_panda_secrets import Secrets
from pilot.adapters.server_renewal import Renewal
from pilot.model.capability import Accelerator
from pilot.model.faults import Code
from pilot.model.job import GpuNeeds, Grant
from pilot.ports import ClaimRequest, Final, Passing
from pilot.wire.events import Settled
from pilot.wire.places import Endpoint
from pilot.wire.site import Site
from tests.beds.panda import NAME, PandaBed, panda_bed
from tests.beds.panda_jobs import RSE, SITE, PandaJob
from tests.contracts.server_beds import offer

pytestmark = pytest.mark.panda

TOKEN, KEY = "the.fresh.token", "the-key-to-it"
PROXY = "-----BEGIN CERTIFICATE-----\nproxy\n"


@pytest.fixture(scope="module")
def bed() -> Iterator[PandaBed]:
    with panda_bed() as made:
        _credentials(made)
        yield made
        assert made.mistakes() == []


def _credentials(bed: PandaBed) -> None:
    """What the server's own daemons and operators put there, before it first looks."""
    kept = bed.home / "proxies"
    kept.mkdir()
    (kept / hashlib.sha1(NAME.encode()).hexdigest()).write_text(PROXY)
    (kept / "access_token_pilot_server").write_text(TOKEN)
    for name in ("s3.pub", "s3.key"):
        (bed.home / "keys" / name).write_text(f"content of {name}")
    meta = "INSERT INTO DOMA_PANDAMETA"
    bed.execute(f"{meta}.users (id, name, gridpref) VALUES (%s, %s, %s)", 1, "Robot Pilot", "kp")
    key = f"{meta}.proxykey (id, dn, credname, expires) VALUES (%s, %s, %s, %s)"
    bed.execute(key, 1, "pilot_server", KEY, "2099-01-01")
    owned = json.dumps({"WANDB_API_KEY": "w4ndb", "HF_TOKEN": "hf"})
    bed.insert("secrets", {"owner": "Robot Pilot", "data": owned})


@pytest.fixture
def line(bed: PandaBed) -> Iterator[HttpLine]:
    made = HttpLine(bed.url, NoCredential(), Gate())
    yield made
    made.close()


# --- devices ---

A100 = Accelerator("GPU-1", "nvidia", "NVIDIA A100-SXM4-40GB", 40960 << 20, "8.0")
VERSIONS = (("GPUs_DriverVersion", "12.9"), ("GPUs_KernelDriverVersion", "575.57.08"))
WISHES = {
    "model": {"vendor": "nvidia", "model": ".*A100.*"},
    "memory": {"vendor": "nvidia", "model": "*", "vram": ">=40000"},
    "generation": {"vendor": "nvidia", "model": "*", "microarchitecture": "Ampere"},
    "cuda": {"vendor": "nvidia", "model": "*", "version": ">=12.4"},
    "driver": {"vendor": "nvidia", "model": "*", "driver_version": ">=575.0"},
}
ELSEWHERE = {
    "model": {"vendor": "nvidia", "model": ".*H100.*"},
    "memory": {"vendor": "nvidia", "model": "*", "vram": ">=80000"},
    "generation": {"vendor": "nvidia", "model": "*", "microarchitecture": "Hopper"},
    "cuda": {"vendor": "nvidia", "model": "*", "version": ">=13.0"},
    "driver": {"vendor": "nvidia", "model": "*", "driver_version": ">=580.0"},
}


def wishing(bed: PandaBed, wish: object) -> int:
    """One job of a task that wishes a device; as with JEDI, the wish stands with the task alone."""
    bed.clear()
    bed.execute("DELETE FROM DOMA_PANDA.JEDI_Tasks")
    bed.insert("JEDI_Tasks", {"jediTaskID": 77, "architecture": json.dumps({"gpu_spec": wish})})
    number = bed.submit(PandaJob("/bin/true", more={"jediTaskID": 77, "cmtConfig": "x86_64-el9-gcc13-opt"}))
    bed.own(number)
    return number


def claimed(bed: PandaBed, line: HttpLine, *devices: Accelerator) -> Grant | None:
    endpoints = {RSE: Endpoint(bed.storage.as_uri(), bed.storage.as_uri())}
    server = PandaServer(line, Site("BED", "BED", SITE, "node", output=RSE, endpoints=endpoints, version="1.0"))
    (grant,) = server.claim([ClaimRequest("c", offer(devices=devices, attributes=VERSIONS))])
    return grant


@pytest.mark.parametrize("name", WISHES)
def test_a_node_with_the_device_gets_the_job_and_the_job_the_device(bed: PandaBed, line: HttpLine, name: str) -> None:
    number = wishing(bed, WISHES[name])
    assert claimed(bed, line) is None
    grant = claimed(bed, line, A100, replace(A100, uuid="GPU-2"))
    assert grant is not None
    assert (grant.job_id, grant.refusal) == (str(number), None)
    assert grant.spec.needs[0].gpus.count == 1


@pytest.mark.parametrize("name", ELSEWHERE)
def test_a_node_without_such_a_device_does_not(bed: PandaBed, line: HttpLine, name: str) -> None:
    wishing(bed, ELSEWHERE[name])
    assert claimed(bed, line, A100) is None


def test_a_job_that_wishes_none_takes_none(bed: PandaBed, line: HttpLine) -> None:
    wishing(bed, None)
    grant = claimed(bed, line, A100)
    assert grant is not None
    assert grant.spec.needs[0].gpus == GpuNeeds()


# --- credentials ---


def only_ours(path: Path) -> str:
    assert path.stat().st_mode & 0o777 == 0o600
    return path.read_text()


def test_a_proxy_goes_into_a_file_of_ours(line: HttpLine, tmp_path: Path) -> None:
    Secrets(line).proxy(tmp_path / "x509")
    assert only_ours(tmp_path / "x509") == PROXY
    assert os.listdir(tmp_path) == ["x509"]


def test_a_proxy_of_somebody_unknown_is_one_line(line: HttpLine, tmp_path: Path) -> None:
    with pytest.raises(Final) as caught:
        Secrets(line).proxy(tmp_path / "x509", name="/CN=Nobody")
    assert "'proxy' not found for /CN=Nobody" in caught.value.fault.detail
    assert os.listdir(tmp_path) == []


def test_a_key_pair_goes_into_two_files(line: HttpLine, tmp_path: Path) -> None:
    public, private = Secrets(line).key_pair("s3.pub", "s3.key", tmp_path)
    assert (only_ours(public), only_ours(private)) == ("content of s3.pub", "content of s3.key")
    with pytest.raises(Final, match=r"none\.key is missing"):
        Secrets(line).key_pair("s3.pub", "none.key", tmp_path)


@pytest.mark.parametrize(
    ("names", "found"),
    [((), {"WANDB_API_KEY", "HF_TOKEN"}), (("HF_TOKEN",), {"HF_TOKEN"}), (("HF_TOKEN", "X"), {"HF_TOKEN"})],
)
def test_the_users_secrets(line: HttpLine, tmp_path: Path, names: tuple[str, ...], found: set[str]) -> None:
    assert set(Secrets(line).user_secrets(names, tmp_path / "s.json")) == found
    assert set(json.loads(only_ours(tmp_path / "s.json"))) == found


def test_a_token_is_renewed_for_its_key(line: HttpLine, tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.touch(mode=0o600)
    key.write_text(f"{KEY}\n")
    assert Renewal(line, key)() == TOKEN
    key.write_text("another")
    with pytest.raises(Passing) as caught:
        Renewal(line, key)()
    assert caught.value.fault.code is Code.CREDENTIAL_REFUSED
    assert "another" not in caught.value.fault.detail


# --- event ranges ---

TASK, JOB = 8017, 6003
READY, SENT, FINISHED, FAILED = 0, 1, 3, 7


def event_ranges(bed: PandaBed, **statuses: int) -> list[str]:
    """Event ranges of one job, by the number of their process; their names."""
    bed.execute("DELETE FROM DOMA_PANDA.JEDI_Events")
    for name, status in statuses.items():
        row = {"jediTaskID": TASK, "datasetID": 1, "PandaID": JOB, "fileID": 5, "attemptNr": 3, "status": status}
        bed.insert("JEDI_Events", {**row, "job_processID": int(name[1:]), "event_offset": 0})
    return [f"{TASK}-{JOB}-5-{name[1:]}-3" for name in statuses]


def test_where_event_ranges_stand(bed: PandaBed, line: HttpLine) -> None:
    one, two = event_ranges(bed, p1=READY, p2=SENT)
    assert Events(line).statuses([(TASK, JOB), (TASK, JOB)]) == {one: "ready", two: "sent"}
    assert Events(line).statuses([(TASK, 1)]) == {}


def test_how_many_are_left(bed: PandaBed, line: HttpLine) -> None:
    event_ranges(bed, p1=READY, p2=READY, p3=SENT)
    assert Events(line).left(TASK, 1, jobset=JOB) == 2
    assert Events(line).left(TASK, 1, jobset=7) == 0


def test_several_are_settled_though_the_server_stumbles_over_its_own_answer(bed: PandaBed, line: HttpLine) -> None:
    bed.clear()
    one, two, three = event_ranges(bed, p1=SENT, p2=SENT, p3=READY)
    number = bed.submit(PandaJob("/bin/true", more={"jediTaskID": TASK}))
    bed.execute(
        "UPDATE DOMA_PANDA.jobsActive4 SET PandaID = %s, jobStatus = %s WHERE PandaID = %s", JOB, "running", number
    )
    assert Events(line).settle([Settled(one), Settled(two, "failed"), Settled(three)]) == [True, True, False]
    assert sorted(each["status"] for each in bed.rows("JEDI_Events")) == [READY, FINISHED, FAILED]


def test_nothing_settled_is_the_servers_trouble(bed: PandaBed, line: HttpLine) -> None:
    event_ranges(bed)
    with pytest.raises(Passing) as caught:
        Events(line).settle([Settled(f"{TASK}-{JOB}-5-1-3")])
    assert caught.value.fault.code is Code.SERVER_UNREACHABLE
