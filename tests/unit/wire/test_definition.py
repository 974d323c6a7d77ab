"""PanDA's job definitions to grants of ours: recorded ones whole, and what each oddity becomes."""

import json
import time
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pilot.model.faults import Code, Party
from pilot.model.files import Input
from pilot.model.job import GpuNeeds, Grant, Needs
from pilot.wire.envelope import WireError
from pilot.wire.grants import grant_of
from pilot.wire.receipt import Receipt, read_receipt
from pilot.wire.site import Limits, Room, Site
from tests.unit.wire.recorded import SITE, definition

MIB = 1 << 20


def grant(name: str, **changes: object) -> Grant:
    return grant_of(definition(name, **changes), SITE)


def refusal(name: str, **changes: object) -> str:
    found = grant(name, **changes)
    assert found.refusal is not None, found.spec
    assert found.refusal.code is Code.JOB_INVALID
    return found.refusal.detail


def test_the_captured_job() -> None:
    found = grant("echo")
    assert (found.job_id, found.attempt, found.owner) == ("1", 0, "/DC=test/CN=Robot Pilot")
    assert (found.lease_seconds, found.refusal, found.resume, found.destination) == (7200.0, None, None, "")
    spec = found.spec
    assert spec.name == "efc1ab69-e242-4b69-a2fe-f051947d51d5"
    assert spec.command == ("/bin/echo", "hello")
    assert spec.needs == (Needs(1, 500 * MIB, 100 * MIB, 3600),)
    assert (spec.inputs, spec.outputs, spec.image, spec.attempts) == ((), (), "", 1)
    assert spec.log_archive is not None
    assert spec.log_archive.url.startswith("file:///rse/out/test/")
    assert spec.log_archive.url.endswith("/efc1ab69-e242-4b69-a2fe-f051947d51d5.job.log.tgz")
    assert dict(spec.environment)["PandaID"] == "1"
    assert read_receipt(found.receipt) == Receipt(
        batch="slurm 77",
        log="efc1ab69-e242-4b69-a2fe-f051947d51d5.job.log.tgz",
        log_guid="4b68ab26-3840-4cbc-9fd4-66632cacc313",
        log_endpoint="TEST_RSE",
    )


def test_a_task_of_pruns() -> None:
    found = grant("rungen")
    spec = found.spec
    assert found.refusal is None
    assert spec.image == "docker://docker.io/ada/trainer:3.2"
    assert spec.needs == (Needs(4, 8000 * MIB, 20000 * MIB, 86400, GpuNeeds(1, 40000 * MIB)),)
    assert spec.inputs == (
        Input("file:///rse/in/user/ada/eb/73/data._000001.npz", "data._000001.npz", adler32="0a0b0c0d", size=12),
        Input("file:///rse/in/user/ada/76/c3/data._000002.npz", "data._000002.npz", adler32="00000001", size=13),
        Input("file:///rse/in/group/phys-ml/dd/34/calib.v7.json", "calib.v7.json", size=7),
        Input("https://panda.example.org:25443/cache/sources.7b9c.tar.gz", "sources.7b9c.tar.gz"),
    )
    names = [(each.name, each.optional) for each in spec.outputs]
    assert names == [("user.ada.8017._000007.model.pt", False), ("user.ada.8017._000007.logsXYZ.txt.tgz", True)]
    assert read_receipt(found.receipt).outputs == (
        ("user.ada.8017._000007.model.pt", "TEST_RSE"),
        ("user.ada.8017._000007.logsXYZ.txt.tgz", "TEST_RSE"),
    )
    assert read_receipt(found.receipt).cores == 4


def test_base64_parameters() -> None:
    assert grant("base64").spec.command == ("/bin/sh", "-c", 'python3 -c print("2+2")')


@pytest.mark.parametrize(
    ("parameters", "command"),
    [
        ("a 'b c' \"d\"", ("/bin/echo", "a", "b c", "d")),
        ("$HOME x", ("/bin/sh", "-c", "/bin/echo $HOME x")),
        ("a && b", ("/bin/sh", "-c", "/bin/echo a && b")),
        ("--accessmode=direct --useLocalIO a", ("/bin/echo", "a")),
        ("abcdefgh", ("/bin/echo", "abcdefgh")),  # base64 too, but of nothing that could be read
        ("", ("/bin/echo",)),
        ("NULL", ("/bin/echo",)),
    ],
)
def test_commands(parameters: str, command: tuple[str, ...]) -> None:
    assert grant("echo", jobPars=parameters).spec.command == command


@pytest.mark.parametrize(
    ("said", "image"),
    [
        ("NULL", ""),
        ("docker://a/b:1", "docker://a/b:1"),
        ("atlas/analysisbase:21.2", "docker://atlas/analysisbase:21.2"),
        ("alpine:3.20", "docker://alpine:3.20"),
        ("/cvmfs/unpacked/x", "/cvmfs/unpacked/x"),
        ("ml-base", "ml-base"),
        ("oras://ghcr.io/a/b:1", "oras://ghcr.io/a/b:1"),
    ],
)
def test_images(said: str, image: str) -> None:
    assert grant("echo", container_name=said).spec.image == image


def test_an_image_among_the_parameters() -> None:
    spec = grant("echo", jobPars="--containerImage docker://a/b:1 x").spec
    assert (spec.image, spec.command) == ("docker://a/b:1", ("/bin/echo", "x"))


REFUSED = [
    ({"transformation": "NULL"}, "transformation: it is missing"),
    ({"jobPars": "'a"}, "a quote is not closed"),
    ({"jobPars": "a <ZIP_MAP>x</ZIP_MAP>"}, "ZIP_MAP are not done"),
    ({"jobPars": 7.5}, "jobPars: expected text"),
    ({"coreCount": "four"}, "coreCount: expected a whole number, found 'four'"),
    ({"coreCount": -1}, "coreCount: expected a whole number, found -1"),
    ({"coreCount": True}, "coreCount: expected a whole number"),
    ({"minRamCount": 1.5}, "minRamCount: expected a whole number"),
    ({"eventService": "True"}, "does not do event service"),
    ({"secrets": "x"}, "does not do secrets"),
    ({"writeToFile": "tmpin_a:b"}, "does not do lists of inputs"),
    ({"container_name": "http://a/b"}, "is none that can be fetched"),
    ({"container_name": "a b"}, "is none"),
    ({"outFiles": "a,b", "scopeOut": "x,y,z"}, "scopeOut: 3 parts beside"),
    ({"outFiles": "../a", "logFile": "../a"}, "has other signs than"),
    ({"outFiles": "a/b", "logFile": ""}, "has other signs than"),
    ({"outFiles": "a,a", "logFile": "a"}, "names a file twice"),
    ({"outFiles": "a", "logFile": "b"}, "logFile: it is not among the outFiles"),
    ({"scopeLog": ".."}, "the scope '..' is none"),
    ({"inFiles": "a", "scopeIn": "x", "ddmEndPointIn": "TEST_RSE", "checksum": "zz:1"}, "neither adler32 nor md5"),
    ({"inFiles": "a", "scopeIn": "x", "ddmEndPointIn": "TEST_RSE", "fsize": "many"}, "fsize: expected a whole number"),
    ({"cmtConfig": "x86_64#x86_64&amd-MI300X"}, "GPUs of 'amd' are not offered"),
    ({"cmtConfig": '{"gpu_spec": {"model": "A100.*"}}'}, "a condition on the GPU's model"),
    ({"jobPars": "x" * 300_000}, "more than 200000 characters"),
    ({"containerOptions": {"containerExec": "rm -rf /", "containerImage": "a"}}, "a command of the task's own"),
]


def test_a_place_that_this_pilot_cannot_reach_is_the_sites_matter() -> None:
    found = grant_of(definition("echo", ddmEndPointOut="ELSEWHERE"), SITE).refusal
    assert found is not None
    assert (found.code, found.party) == (Code.STORAGE_UNKNOWN, Party.SITE)
    assert "knows no storage for the endpoint 'ELSEWHERE'; name it in panda_storages" in found.detail


def test_a_declined_job_still_has_a_place_for_its_log() -> None:
    found = grant_of(definition("echo", transformation="http://x/unknown-trf"), SITE)
    whole = grant_of(definition("echo"), SITE)
    assert found.refusal is not None
    assert found.spec.log_archive == whole.spec.log_archive is not None
    told, usual = read_receipt(found.receipt), read_receipt(whole.receipt)
    assert (told.log, told.log_guid, told.log_endpoint) == (usual.log, usual.log_guid, usual.log_endpoint)


def test_a_payloads_own_result_is_none_of_ours() -> None:
    assert grant_of(definition("echo"), SITE).spec.contract == ""


@pytest.mark.parametrize(
    ("name", "said"), [("contract.json", "the pilot's own"), ("same.txt", "it is an input and an output")]
)
def test_two_things_of_one_name(name: str, said: str) -> None:
    files = {"inFiles": "same.txt", "ddmEndPointIn": "TEST_RSE", "scopeIn": "x", "fsize": "1", "checksum": "NULL"}
    out = {"outFiles": name, "ddmEndPointOut": "TEST_RSE", "scopeOut": "x", "logFile": ""}
    assert said in refusal("echo", **files, **out)


@pytest.mark.parametrize(("changes", "said"), REFUSED, ids=[str(each)[:60] for each in REFUSED])
def test_what_cannot_be_translated_is_declined_with_the_reason(changes: dict[str, object], said: str) -> None:
    assert said in refusal("echo", **changes)
    assert grant("echo", **changes).job_id == "1"


def test_other_scripts_are_declined_by_name() -> None:
    assert "'buildGen-00-00-01' is a script to be fetched and run" in refusal("buildgen")
    assert "event service" in refusal("eventservice")


@pytest.mark.parametrize("changes", [{"PandaID": None}, {"PandaID": "x"}, {"PandaID": -5}, {"attemptNr": "x"}])
def test_a_job_without_identity_is_none(changes: dict[str, object]) -> None:
    with pytest.raises(WireError):
        grant("echo", **changes)


NAMES = "'a'," * 20_000
LONG: dict[str, dict[str, object]] = {
    "files": {"inFiles": ",".join(f"f{each}" for each in range(200_000)), "scopeIn": "s" + ",s" * 199_999},
    "usual files": {
        "inFiles": ",".join(f"f{each}" for each in range(4000)),
        "scopeIn": "s" + ",s" * 3999,
        "ddmEndPointIn": "TEST_RSE" + ",TEST_RSE" * 3999,
    },
    "outputs": {"outFiles": "," * 1_000_000},
    "name": {"jobName": "é " * 1_000_000},
    "architecture": {"cmtConfig": "&nvidia" + ":x=1" * 500_000},
    "words": {"jobPars": "-p x " * 39_000},
    "quotes": {"jobPars": "'" * 199_999},
    "list": {"jobPars": '-p x -i "[' + "'a'," * 49_000 + ']"'},
    "map": {"jobPars": '-p x --inMap "{' + "'a':['b']," * 19_000 + '}"'},
    "outputs by name": {"jobPars": '-p x -o "{' + ",".join(f"'{each}':'b'" for each in range(15_000)) + '}"'},
    "skipped": {
        "jobPars": "-p x --skipInputByRetry " + ",".join(map(str, range(15_000))) + ' -i "[' + "'a'," * 20_000 + ']"'
    },
    "braces": {"jobPars": "--overwriteQueueData={" * 9000, "transformation": "/bin/echo"},
    "image": {"container_name": "a/" * 2_000_000},
    "options": {"containerOptions": {"containerImage": "x", "containerExec": ["y"] * 30_000}},
}


@pytest.mark.parametrize("name", LONG)
def test_the_worst_definition_costs_little(name: str) -> None:
    cheapest = 1.0
    for _ in range(5):  # of several, for the machine is shared
        before = time.thread_time()
        grant("rungen", **LONG[name])
        cheapest = min(cheapest, time.thread_time() - before)
        if cheapest < 0.1:
            break
    assert cheapest < 0.1


ANY = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30) | st.lists(st.text(), max_size=2)
KEYS = sorted(set(definition("rungen")) | {"container_name", "containerOptions", "secrets", "debug", "isHPO"})


@given(st.sampled_from(["echo", "rungen", "runcontainer", "runhpo"]), st.dictionaries(st.sampled_from(KEYS), ANY))
@settings(deadline=None, max_examples=400)
def test_any_definition_becomes_a_grant_or_a_reason(name: str, changes: dict[str, object]) -> None:
    try:
        found = grant_of({**definition(name), **changes}, SITE)
    except WireError:
        return
    assert found.job_id.isdigit()
    json.dumps(found.receipt)
    assert found.refusal is not None or found.spec.command


@given(st.text(alphabet="""-ijopra "'[]{}:,%IN$\\x""", max_size=80))
@settings(deadline=None, max_examples=400)
def test_any_parameters_of_a_transform(text: str) -> None:
    found = grant("rungen", jobPars=f"-p x {text}")
    assert found.refusal is not None or found.spec.command[:2] == ("/bin/sh", "-c")


# --- what the site's queue adds and takes away ---


def at(site: Site, name: str = "echo", **changes: object) -> Grant:
    return grant_of(definition(name, **changes), site)


def needs_at(room: Room = Room(), **limits: int) -> Needs:  # noqa: B008  frozen
    """Of the captured job: 500 MiB, 100 MiB, 3600 s."""
    (found,) = at(replace(SITE, limits=Limits(**limits), room=room)).spec.needs
    return found


def test_maxtime_bounds_the_walltime() -> None:
    assert needs_at(walltime_seconds=600).walltime_seconds == 600
    assert needs_at(walltime_seconds=7200).walltime_seconds == 3600
    (unsaid,) = at(replace(SITE, limits=Limits(walltime_seconds=600)), maxWalltime=0).spec.needs
    assert unsaid.walltime_seconds == 600


def test_graces_are_given_as_far_as_there_is_room() -> None:
    graces = {"memory_grace": 50, "scratch_grace": 20, "walltime_grace": 10}
    assert needs_at(**graces) == Needs(1, 750 * MIB, 120 * MIB, 3960)
    assert needs_at(Room(600 * MIB, 110 * MIB), **graces) == Needs(1, 600 * MIB, 110 * MIB, 3960)
    assert needs_at(Room(400 * MIB, 90 * MIB), **graces) == Needs(1, 500 * MIB, 100 * MIB, 3960)
    assert needs_at(walltime_seconds=3700, **graces).walltime_seconds == 3700


def test_a_job_that_names_no_disk_may_fill_what_the_queue_gives() -> None:
    site = replace(SITE, limits=Limits(scratch_bytes=100 * MIB, scratch_grace=20), room=Room(0, 1000 * MIB))
    (found,) = at(site, maxDiskCount=0, minRamCount=0).spec.needs
    assert (found.scratch_bytes, found.memory_bytes) == (120 * MIB, 0)


def test_inputs_beyond_maxinputsize_decline_the_job() -> None:
    files = {
        "inFiles": "a,b,c", "fsize": f"{2 * MIB},{MIB + 1},NULL", "scopeIn": "s,s,s",
        "ddmEndPointIn": "TEST_RSE,TEST_RSE,TEST_RSE", "checksum": "",
    }  # fmt: skip
    assert at(replace(SITE, limits=Limits(input_bytes=4 * MIB)), **files).refusal is None
    found = at(replace(SITE, limits=Limits(input_bytes=3 * MIB)), **files).refusal
    assert found is not None
    assert found.detail == "inFiles: 4 MiB, and the queue takes at most 3 MiB of inputs (maxinputsize)"


@pytest.mark.parametrize(
    ("named", "found"),
    [
        ("ml/torch:2", "/cvmfs/u/ml/torch:2"),
        ("torch.sif", "/cvmfs/u/torch.sif"),
        ("/here/x.sif", "/here/x.sif"),
        ("docker://ml/torch:2", "docker://ml/torch:2"),
        ("", ""),
    ],
)
def test_image_base_stands_before_relative_names(named: str, found: str) -> None:
    site = replace(SITE, image_base="/cvmfs/u/")
    assert at(site, container_name=named).spec.image == found
    if named:
        assert at(site, jobPars=f"--containerImage {named} x").spec.image == found


def test_an_image_does_not_leave_its_base() -> None:
    found = at(replace(SITE, image_base="/cvmfs/u"), container_name="../../etc/x.sif").refusal
    assert found is not None
    assert "IMAGE_BASE" in found.detail


def test_the_sites_environment_is_the_payloads_and_the_jobs_goes_before() -> None:
    site = replace(SITE, environ=(("FRONTIER_SERVER", "x"), ("PandaID", "9")))
    values = dict(at(site).spec.environment)
    assert (values["FRONTIER_SERVER"], values["PandaID"]) == ("x", "1")
