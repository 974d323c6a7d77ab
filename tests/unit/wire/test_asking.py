"""What PanDA is asked: jobs for an offer, the maps of nodes and devices, statuses."""

from dataclasses import replace

import pytest

from pilot.model.capability import Accelerator, Capabilities, LimitedBy, Offer, View
from pilot.wire import asking
from pilot.wire.envelope import Reply, WireError
from pilot.wire.site import Limits, Room
from pilot.wire.status import Refused
from tests.unit.wire.recorded import SITE

GIB = 1 << 30
H100 = Accelerator("GPU-1", "nvidia", "NVIDIA H100 NVL", 95830 << 20, "9.0")
OFFER = Offer("p", "wn1", 8, 16 * GIB, 40 * GIB)
GPUS = replace(
    OFFER,
    devices=(H100, replace(H100, uuid="GPU-2"), replace(H100, uuid="GPU-3", health="xid 79")),
    attributes=(("GPUs_DriverVersion", "13.3"), ("GPUs_KernelDriverVersion", "610.43.02")),
)


def test_one_job() -> None:
    assert asking.acquire(SITE, OFFER, 1) == {
        "site_name": "TEST_QUEUE",
        "computing_element": "TEST_CE",
        "prod_source_label": "test",
        "node": "wn1.test.local",
        "memory": 16384,
        "disk_space": 40960,
        "n_jobs": 1,
        "target_architecture": {"gpus": []},  # an empty list: no GPU; no list: not told
    }


def test_several_jobs_share_the_offer() -> None:
    asked = asking.acquire(replace(SITE, limits=Limits(scratch_bytes=10 * GIB)), OFFER, 4, with_hardware=False)
    assert (asked["memory"], asked["disk_space"], asked["n_jobs"]) == (4096, 2560, 4)
    assert "target_architecture" not in asked


def test_harvesters_words_and_the_time_left() -> None:
    site = replace(SITE, scheduler="H", harvester="H", worker=42, resource_type="MCORE", job_type="user")
    asked = asking.acquire(site, replace(OFFER, seconds=3599.9), 1)
    assert (asked["scheduler_id"], asked["harvester_id"], asked["worker_id"]) == ("H", "H", 42)
    assert (asked["resource_type"], asked["job_type"], asked["remaining_time"]) == ("MCORE", "user", 3599)
    assert "worker_id" not in asking.acquire(replace(site, worker=None), OFFER, 1)


def test_no_more_is_told_than_the_queue_gives() -> None:
    limits = Limits(memory_bytes=3 * GIB, walltime_seconds=7200)
    asked = asking.acquire(replace(SITE, limits=limits), OFFER, 4)
    assert (asked["memory"], asked["remaining_time"]) == (3072, 7200)
    asked = asking.acquire(replace(SITE, limits=limits), replace(OFFER, seconds=60.0), 8)
    assert (asked["memory"], asked["remaining_time"]) == (2048, 60)


def test_the_room_of_one_job() -> None:
    assert asking.room_in(GPUS, 2, with_hardware=True) == Room(8 * GIB, 20 * GIB, alike=True)
    mixed = replace(GPUS, devices=(H100, replace(H100, model="A100")))
    assert not asking.room_in(mixed, 1, with_hardware=True).alike
    assert not asking.room_in(GPUS, 1, with_hardware=False).alike
    assert not asking.room_in(OFFER, 1, with_hardware=True).alike


@pytest.mark.parametrize(
    ("config", "task", "asked"),
    [("x86_64-el9", 7, 7), ("NULL", "7", 7), ("x&nvidia", 7, None), ('{"gpu_spec": 1}', 7, None), (None, "NULL", None),
     ([], 7, None), ("", "x", None)],
)  # fmt: skip
def test_whose_wishes_are_asked_for(config: object, task: object, asked: int | None) -> None:
    assert asking.task_to_ask({"cmtConfig": config, "taskID": task}) == asked


def test_what_a_task_asks_of_nodes() -> None:
    assert asking.architecture_in(Reply(True, "", {"architecture": "x&nvidia"})) == "x&nvidia"
    assert asking.architecture_in(Reply(True, "", {"architecture": None})) == ""
    assert asking.architecture_in(Reply(False, "Task not found")) == ""
    with pytest.raises(WireError):
        asking.architecture_in(Reply(True, "", [1]))


def test_devices_travel_with_the_question() -> None:
    assert asking.acquire(SITE, GPUS, 1)["target_architecture"] == {
        "gpus": [
            {
                "site": "TEST_SITE",
                "host_name": "wn1.test.local",
                "vendor": "NVIDIA",
                "model": "NVIDIA H100 NVL",
                "count": 2,
                "vram": 95830,
                "architecture": "Hopper",
                "framework": "CUDA",
                "framework_version": "13.3",
                "driver_version": "610.43.02",
            }
        ]
    }


def test_maps_of_node_and_devices_join_on_the_host() -> None:
    view = View(64, 512 * GIB, 2 * 10**12, "x86_64", "x86_64-v3")
    node = Capabilities("wn1.test.local", view, view, LimitedBy("node", "node", "node"), cpu_model="AMD EPYC 7351")
    told = asking.node_map(SITE, node)
    assert told == {
        "site": "TEST_SITE",
        "panda_queue": "TEST_CE",
        "host_name": "wn1.test.local",
        "cpu_model": "AMD EPYC 7351",
        "n_logical_cpus": 64,
        "cpu_architecture": "x86_64",
        "cpu_architecture_level": "x86_64-v3",
        "total_memory": 524288,
        "total_local_disk": 2000,
    }
    (gpu,) = asking.gpu_maps(SITE, GPUS)
    assert (gpu["site"], gpu["host_name"]) == (told["site"], told["host_name"])


@pytest.mark.parametrize(
    ("capability", "name"),
    [("9.0", "Hopper"), ("8.9", "Ada Lovelace"), ("8.6", "Ampere"), ("10.3", "Blackwell"), ("7.5", "Turing"),
     ("7.0", "Volta"), ("3.5", ""), ("", ""), ("x", ""), ("9.0.1", "")],
)  # fmt: skip
def test_generations(capability: str, name: str) -> None:
    assert asking.generation(capability) == name


def test_no_jobs_is_no_failure() -> None:
    assert asking.jobs_in(Reply(False, "No jobs in PanDA")) == ()
    with pytest.raises(Refused) as caught:
        asking.jobs_in(Reply(False, "Timed out"))
    assert caught.value.passing
    with pytest.raises(Refused) as caught:
        asking.jobs_in(Reply(False, "no production/pilot role in VOMS FQANs or non pilot owner"))
    assert not caught.value.passing


def test_jobs() -> None:
    assert len(asking.jobs_in(Reply(True, "", {"StatusCode": 0, "jobs": [{"PandaID": 1}, {"PandaID": 2}]}))) == 2
    assert len(asking.jobs_in(Reply(True, "", {"StatusCode": 0, "PandaID": 1}))) == 1
    for data in (None, [], {"StatusCode": 0}, {"StatusCode": 0, "jobs": [7]}):
        with pytest.raises(WireError):
            asking.jobs_in(Reply(True, "", data))


def test_a_server_that_takes_no_hardware() -> None:
    old = "Argument error: got an unexpected keyword argument 'target_architecture'"
    assert asking.refuses_hardware(Reply(False, old))
    assert not asking.refuses_hardware(Reply(False, "No jobs in PanDA"))
    assert not asking.refuses_hardware(Reply(False, "Argument error: got an unexpected keyword argument 'foo'"))


def test_statuses() -> None:
    data = [{"job_id": 1, "status": "running", "attempt_number": 0}, {"job_id": 9, "status": "not found"}]
    assert asking.statuses(Reply(True, "", data)) == {"1": ("running", 0), "9": ("not found", -1)}
    for wrong in (Reply(False, "Timed out"), Reply(True, "", None), Reply(True, "", [{"job_id": "1", "status": "x"}])):
        with pytest.raises(WireError):
            asking.statuses(wrong)


@pytest.mark.parametrize(("job_id", "fits"), [("1", True), ("j-1", False), ("²", False), ("9" * 30, False)])
def test_ids(job_id: str, fits: bool) -> None:
    assert asking.is_id(job_id) is fits


def test_resource_types() -> None:
    data = [
        {"resource_name": "SCORE", "mincore": 1, "maxcore": 1},
        {"resource_name": "MCORE", "mincore": 2, "maxcore": None},
        {"resource_name": "Undefined", "mincore": 1, "maxcore": None},
    ]
    kinds = asking.kinds_in(Reply(True, "", data), 0)
    assert [each.cores for each in kinds] == [1, 2, 1]
    assert [each.cores for each in asking.kinds_in(Reply(True, "", data), 8)] == [1, 8, 8]
    assert asking.fitting(kinds, 1) == ("SCORE", "Undefined")
    assert asking.fitting(kinds, 8) == ("",)
    assert asking.fitting((asking.Kind("MCORE", 8),), 1) == ("",)  # a size that never fits is no reason not to ask
    assert asking.fitting((), 1) == ("",)
    for wrong in (Reply(False, "database error"), Reply(True, "", {"a": 1}), Reply(True, "", [{"mincore": "x"}])):
        with pytest.raises(WireError):
            asking.kinds_in(wrong, 0)
