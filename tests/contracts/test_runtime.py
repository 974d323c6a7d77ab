"""The `Runtime` port: what a payload may rely on, with and without a container."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pilot.adapters.apptainer_found import Search
from pilot.adapters.runtime_apptainer import ApptainerRuntime
from pilot.adapters.runtime_bare import BareRuntime
from pilot.model.faults import Code
from pilot.model.files import ImageUsed
from pilot.ports import PortError, RunPlan, Runtime, Sandbox
from tests.sandboxes import HELPER, apptainer_cache, marker, request, run, sandbox_in, tiny_images

Plan = Callable[..., RunPlan]


@pytest.fixture(params=["bare", pytest.param("apptainer", marks=pytest.mark.apptainer)])
def runtime(request: pytest.FixtureRequest, tmp_path: Path) -> Runtime:
    if request.param == "bare":
        return BareRuntime(HELPER)
    return ApptainerRuntime(HELPER, tmp_path / "receipts", Search(path=os.environ["PATH"], cache=apptainer_cache()))


@pytest.fixture
def sandbox(tmp_path: Path) -> Sandbox:
    return sandbox_in(tmp_path)


@pytest.fixture
def plan(runtime: Runtime, sandbox: Sandbox) -> Plan:
    bare = isinstance(runtime, BareRuntime)
    image = None if bare else ImageUsed("probe", str(tiny_images()["directory"]), "", "directory")
    return lambda *command, **changes: runtime.prepare(request(sandbox, *command, image=image, **changes))


def test_a_payload_stands_in_its_working_directory(runtime: Runtime, plan: Plan, sandbox: Sandbox) -> None:
    ran = run(plan("/bin/sh", "-c", 'pwd; echo "$PILOT_RUN_DIR"; echo out > out.txt'))
    assert ran.text.splitlines() == [runtime.workdir(sandbox)] * 2
    assert (sandbox.work / "out.txt").read_text() == "out\n"


def test_inputs_code_terms_and_helper_are_there(plan: Plan, sandbox: Sandbox) -> None:
    for path in (sandbox.inputs / "data" / "events.root", sandbox.code / "lib" / "part.py", sandbox.code / "train.sh"):
        path.parent.mkdir(exist_ok=True)
        path.write_text("#!/bin/sh\ncat data/events.root lib/part.py\n" if path.suffix == ".sh" else path.name)
    (sandbox.code / "train.sh").chmod(0o755)
    script = './train.sh; cat contract.json inputs.json; ls "$PYTHONPATH/pilot_payload.py" >&2'
    ran = run(plan("/bin/sh", "-c", script))
    assert ran.text == 'events.rootpart.py{"contract": "1.0"}[]'
    assert b"pilot_payload.py" in ran.err


def test_what_is_there_is_read_only(plan: Plan, sandbox: Sandbox) -> None:
    (sandbox.inputs / "events.root").write_text("events")
    (sandbox.code / "train.py").write_text("train")
    script = (
        'for each in events.root train.py contract.json; do [ "$(stat -c %a "$each")" = 444 ] || echo "$each"; done'
    )
    if "apptainer" in plan("true").argv[0]:
        script = (
            "for each in events.root train.py contract.json; do (echo x >> $each) 2>/dev/null && echo $each; done; :"
        )
    assert run(plan("/bin/sh", "-c", script)).text == ""


def test_the_environment_is_built_from_nothing(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CANARY", "LD_PRELOAD", "APPTAINER_BIND", "PYTHONSTARTUP", "X509_USER_PROXY", "BEARER_TOKEN"):
        monkeypatch.setenv(name, "canary")
    values = {"OMP_NUM_THREADS": "7", "MINE": " it's $HOME `id`\n", "BYTES": os.fsdecode(b"\xff\x81")}
    ran = run(plan("cat", "/proc/self/environ", environment=tuple(values.items())))
    seen = dict(each.split(b"=", 1) for each in ran.out.split(b"\0") if each)
    assert b"canary" not in ran.out
    assert {name: seen[os.fsencode(name)] for name in values} == {k: os.fsencode(v) for k, v in values.items()}
    assert (seen[b"MKL_NUM_THREADS"], seen[b"CUDA_VISIBLE_DEVICES"]) == (b"2", b"")
    assert seen[b"PILOT_JOB_ID"] == b"17"


def test_the_jobs_own_python_path_keeps_the_helper(plan: Plan) -> None:
    ran = run(plan("/bin/sh", "-c", 'echo "$PYTHONPATH"', environment=(("PYTHONPATH", "mine:lib"),)))
    assert ran.text.startswith("mine:lib:/")


@pytest.mark.parametrize("name", ["PILOT_JOB_ID", "PILOT_X", "a b", "1A", "", "A=B", "UID", "IFS"])
def test_a_variable_that_no_job_may_set_is_refused(plan: Plan, name: str) -> None:
    with pytest.raises(PortError) as caught:
        plan("true", environment=((name, "x"),))
    assert caught.value.fault.code is Code.JOB_INVALID


@pytest.mark.parametrize("code", [0, 1, 127, 255])
def test_exit_codes_come_through(plan: Plan, sandbox: Sandbox, code: int) -> None:
    assert (run(plan("/bin/sh", "-c", f"exit {code}")).code, marker(sandbox)) == (code, "started")


@pytest.mark.parametrize("command", ["nonesuch", "./nonesuch", "./plain", ".", "-x", "./odd"])
def test_a_command_that_is_not_there_says_so(plan: Plan, sandbox: Sandbox, command: str) -> None:
    (sandbox.code / "plain").write_text("no program")
    (sandbox.code / "odd").write_text("#!/no/such/interpreter\n")
    (sandbox.code / "odd").chmod(0o755)
    ran = run(plan(command))
    assert (ran.code, marker(sandbox)) == (127, f"missing {command}")
    assert b"pilot: not there" in ran.err


def test_a_step_after_a_hostile_one_follows_no_link(plan: Plan, sandbox: Sandbox, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (sandbox.inputs / "data").mkdir()
    (sandbox.inputs / "data" / "x").write_text("input")
    spoil = (
        f"mv data moved; ln -s {outside} data; rm -f train.py; mkdir train.py; rm -rf .pilot; ln -s {outside} .pilot; :"
    )
    (sandbox.code / "train.py").write_text("train")
    run(plan("/bin/sh", "-c", spoil))
    ran = run(plan("cat", "data/x", "train.py", step="validate"))
    assert ran.text == "inputtrain"
    assert marker(sandbox) == "started"
    assert list(outside.iterdir()) == []


@pytest.mark.parametrize("name", [".pilot", "contract.json", "inputs.json"])
def test_a_file_of_the_jobs_cannot_take_the_place_of_one_of_ours(plan: Plan, sandbox: Sandbox, name: str) -> None:
    (sandbox.inputs / name).write_text("mine")
    with pytest.raises(PortError) as caught:
        plan("true")
    assert (caught.value.fault.code, name in caught.value.fault.detail) == (Code.JOB_INVALID, True)


def test_isolation_is_told_as_it_is(runtime: Runtime, plan: Plan) -> None:
    finding = runtime.check()
    assert finding.works
    isolation = plan("true").isolation
    assert isolation.container == ("none" if finding.name == "bare" else "apptainer")
    assert isolation.network == ("none" if finding.network_none else "host")


@pytest.fixture(autouse=True)
def nothing_left(tmp_path: Path) -> Iterator[None]:
    yield
    assert str(tmp_path) not in Path("/proc/self/mountinfo").read_text()
    shutil.rmtree(tmp_path)
