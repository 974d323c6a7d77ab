"""Apptainer as the pilot drives it: real starts, both forms of the image, every promise by itself."""

import hashlib
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pilot.adapters.apptainer_found import Search
from pilot.adapters.runtime_apptainer import ApptainerRuntime
from pilot.model.faults import Code
from pilot.model.files import ImageUsed
from pilot.ports import PortError, Sandbox
from pilot.supervisor import procs
from tests.sandboxes import HELPER, apptainer, apptainer_cache, marker, request, run, sandbox_in, tiny_images

pytestmark = pytest.mark.apptainer

SH = ("/bin/sh", "-c")
# What a site, a batch system or a user may have left in the pilot's own environment.
HOSTILE = {
    "APPTAINER_BIND": "/etc:/hostetc",
    "SINGULARITY_BIND": "/etc:/hostetc2",
    "APPTAINER_BINDPATH": "/etc:/hostetc3",
    "APPTAINER_CONTAINLIBS": "/lib/x86_64-linux-gnu/libc.so.6",
    "APPTAINERENV_STOWAWAY": "1",
    "SINGULARITYENV_STOWAWAY2": "1",
    "APPTAINER_WRITABLE_TMPFS": "1",
    "APPTAINER_NO_PID": "1",
    "LD_PRELOAD": "/lib/x86_64-linux-gnu/libm.so.6",
    "PYTHONSTARTUP": "/etc/passwd",
    "CANARY_TOKEN": "canary-of-the-environment",
}


@pytest.fixture(scope="session")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> ApptainerRuntime:
    apptainer()
    search = Search(path=os.environ["PATH"], cache=apptainer_cache())
    return ApptainerRuntime(HELPER, tmp_path_factory.mktemp("receipts"), search)


@pytest.fixture(params=["directory", "sif"])
def image(request: pytest.FixtureRequest) -> ImageUsed:
    path = tiny_images()[request.param]
    return ImageUsed("probe", str(path), "", request.param)


@pytest.fixture
def directory() -> ImageUsed:
    return ImageUsed("probe", str(tiny_images()["directory"]), "", "directory")


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[Sandbox]:
    made = sandbox_in(tmp_path)
    yield made
    mounts = Path("/proc/self/mountinfo").read_text()
    assert str(tmp_path) not in mounts
    assert left_of(tmp_path) == []


def left_of(folder: Path) -> list[str]:
    """Command lines of processes that still name the folder."""
    found = []
    for process in procs.table():
        try:
            line = Path(f"/proc/{process.pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(folder) in line and process.state not in "ZX":
            found.append(line)
    return found


def plan_of(runtime: ApptainerRuntime, sandbox: Sandbox, image: ImageUsed, *command: str, **changes: object):
    return runtime.prepare(request(sandbox, *command, image=image, **changes))


# --- what the payload sees ------------------------------------------------------------------------------------------


def test_the_payload_starts_in_a_writable_working_directory(runtime, sandbox, image) -> None:
    script = 'pwd; echo "$HOME $TMPDIR $PILOT_RUN_DIR"; echo out > out.txt; touch "$HOME/h" /tmp/t /var/tmp/v'
    ran = run(plan_of(runtime, sandbox, image, *SH, script))
    assert (ran.code, ran.err) == (0, b"")
    assert ran.text.splitlines() == ["/srv", "/home/payload /tmp /srv"]
    assert (sandbox.work / "out.txt").read_text() == "out\n"
    assert (sandbox.home / "h").exists()
    assert marker(sandbox) == "started"


def test_inputs_code_and_terms_are_there_and_read_only(runtime, sandbox, image) -> None:
    (sandbox.inputs / "data").mkdir()
    (sandbox.inputs / "data" / "events.root").write_text("events")
    (sandbox.code / "lib").mkdir()
    (sandbox.code / "lib" / "part.py").write_text("part")
    (sandbox.code / "train.sh").write_text("#!/bin/sh\necho trained")
    (sandbox.code / "train.sh").chmod(0o755)
    script = """
        ./train.sh; cat data/events.root lib/part.py contract.json; ls .pilot/lib/pilot_payload.py
        for each in data/events.root lib/part.py train.sh contract.json inputs.json .pilot/lib/pilot_payload.py \
            .pilot/run/env .pilot/run/entry
        do
            (echo x >> $each) 2>/dev/null && echo "wrote $each"
            rm -f $each 2>/dev/null; [ -e $each ] || echo "removed $each"
        done
        mv .pilot elsewhere 2>/dev/null && echo "moved .pilot"
        touch /anywhere /usr/x 2>/dev/null && echo "wrote to the image"
        exit 0"""
    ran = run(plan_of(runtime, sandbox, image, *SH, script))
    assert ran.text == 'trained\neventspart{"contract": "1.0"}.pilot/lib/pilot_payload.py\n', ran.err
    assert (sandbox.inputs / "data" / "events.root").read_text() == "events"


def test_values_arrive_byte_by_byte(runtime, sandbox, image, tmp_path) -> None:
    values = {
        "NEWLINES": "\n a\n\nb\n",
        "CARRIAGE": "a\r\nb\r",
        "QUOTES": "it's \"so\" `id` $(id) $HOME ${X:-y} \\ \\n \\' ''",
        "UNICODE": "é ü 日本 \u202e",
        "BYTES": os.fsdecode(b"\xff\xfe\x81\x82\x88 z"),
        "CONTROL": "\x01\x02\x7f\x1b[31m",
        "BLANKS": "  lead and trail  ",
        "EMPTY": "",
        "GLOB": "* ? [a] ~ {a,b} !x #y",
        "LONG": "x" * 100_000,
        "OMP_NUM_THREADS": "7",
    }
    ran = run(plan_of(runtime, sandbox, image, "cat", "/proc/self/environ", environment=tuple(values.items())))
    assert ran.code == 0, ran.err
    seen = dict(each.split(b"=", 1) for each in ran.out.split(b"\0") if each)
    assert {name: seen.get(os.fsencode(name)) for name in values} == {k: os.fsencode(v) for k, v in values.items()}
    assert seen[b"MKL_NUM_THREADS"] == b"2"
    assert (seen[b"CUDA_VISIBLE_DEVICES"], seen[b"NVIDIA_VISIBLE_DEVICES"]) == (b"", b"void")
    caches = ("HF_HOME", "TORCH_HOME", "MPLCONFIGDIR", "XDG_CACHE_HOME", "TRITON_CACHE_DIR", "NUMBA_CACHE_DIR")
    assert all(seen[os.fsencode(each)].startswith(b"/home/payload/.cache") for each in caches)
    assert not [name for name in seen if name.startswith((b"APPTAINER", b"SINGULARITY"))]
    assert os.fsencode(tmp_path) not in ran.out


def test_arguments_arrive_as_they_are(runtime, sandbox, image) -> None:
    words = ("a b", "it's", '"q"', "$HOME", "`id`", "$(id)", "", "-x", "--mount=a", "*", "back\\slash", "a\nb", "é")
    ran = run(plan_of(runtime, sandbox, image, "printf", r"<%s>\0", *words))
    assert ran.out.decode().split("\0")[:-1] == [f"<{each}>" for each in words]


def test_the_pilots_own_terms_cannot_be_overridden(runtime, sandbox, directory) -> None:
    with pytest.raises(PortError) as caught:
        plan_of(runtime, sandbox, directory, "true", environment=(("PILOT_JOB_ID", "666"),))
    assert caught.value.fault.code is Code.JOB_INVALID


def test_tmp_is_roomy_and_goes_with_the_sandbox(runtime, sandbox, image) -> None:
    script = "for each in /tmp /var/tmp; do dd if=/dev/zero of=$each/big bs=1M count=80 2>/dev/null || exit 9; done"
    assert run(plan_of(runtime, sandbox, image, *SH, script)).code == 0
    sizes = [each.stat().st_size for each in sandbox.tmp.rglob("big")]
    assert sizes == [80 << 20, 80 << 20]


# --- what the payload does not see ----------------------------------------------------------------------------------


def test_nothing_of_the_pilots_environment_gets_in(runtime, sandbox, image, monkeypatch) -> None:
    clean = plan_of(runtime, sandbox, image, *SH, "env | sort; cut -d ' ' -f 5 /proc/self/mountinfo; ls / /hostetc*")
    first = run(clean)
    for name, value in HOSTILE.items():
        monkeypatch.setenv(name, value)
    second = run(plan_of(runtime, sandbox, image, *clean.argv[-3:]))
    assert second.text == first.text
    assert "canary" not in second.text
    assert "STOWAWAY" not in second.text
    assert "/hostetc" not in second.text


def test_the_mount_table_is_the_one_we_wrote(runtime, sandbox, directory) -> None:
    """Everything of the node's own disks that the payload can reach, by name: a new bind must be added here."""
    ran = run(plan_of(runtime, sandbox, directory, "cat", "/proc/self/mountinfo"))
    rows = [line.split() for line in ran.text.splitlines()]
    virtual = {"proc", "sysfs", "tmpfs", "devpts", "mqueue", "devtmpfs", "cgroup", "cgroup2", "overlay"}
    disks = {row[4]: row[5].split(",")[0] for row in rows if row[row.index("-") + 1] not in virtual}
    writable = ("/srv", "/srv/.pilot", "/home/payload", "/tmp", "/var/tmp")
    read_only = ("/srv/.pilot/run", "/srv/.pilot/lib", "/srv/contract.json", "/srv/inputs.json")
    of_apptainer = ("/", "/etc/hosts", "/etc/localtime")
    golden = dict.fromkeys(writable, "rw") | dict.fromkeys(read_only, "ro")
    assert {where: how for where, how in disks.items() if where not in of_apptainer} == golden


def test_a_sites_bind_is_read_only_and_reported(runtime, sandbox, image, tmp_path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    (shared / "catalogue").write_text("entries\n")
    plan = plan_of(runtime, sandbox, image, *SH, f"cat {shared}/*; touch {shared}/x", binds=(str(shared),))
    ran = run(plan)
    assert ran.text == "entries\n"
    assert b"Read-only file system" in ran.err
    assert plan.isolation.binds == (str(shared),)


@pytest.mark.parametrize("name", ["a,dst=x", "a:b", 'a"b', "a\nb"])
def test_no_name_of_the_jobs_becomes_a_bind_of_its_own(runtime, sandbox, directory, name) -> None:
    (sandbox.inputs / name).write_text("x")
    with pytest.raises(PortError) as caught:
        plan_of(runtime, sandbox, directory, "true")
    assert caught.value.fault.code is Code.JOB_INVALID


def test_processes_of_the_node_are_out_of_reach(runtime, sandbox, image) -> None:
    """Signals to everything visible reach nobody outside: also `kill -9 -1`."""
    witness = subprocess.Popen(["sleep", "60"])
    try:
        run(plan_of(runtime, sandbox, image, *SH, f"kill -9 {witness.pid} {os.getpid()}; kill -9 -1"))
        assert witness.poll() is None
    finally:
        witness.kill()
        witness.wait()


def test_without_network_the_nodes_loopback_is_unreachable(runtime, sandbox, image) -> None:
    if not runtime.check().network_none:
        pytest.fail("--net --network none does not work here: " + runtime.check().detail)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        knock = (*SH, f"echo hello | nc -w 2 127.0.0.1 {port} && echo reached; cat /proc/net/unix | grep -c @")
        closed = plan_of(runtime, sandbox, image, *knock)
        assert "reached" not in run(closed).text
        assert closed.isolation.network == "none"
        outbound = plan_of(runtime, sandbox, image, *knock, network="outbound")
        assert outbound.isolation.network == "host"
        assert plan_of(runtime, sandbox, image, *knock, network="loopback").isolation.network == "host"
        assert plan_of(runtime, sandbox, image, *knock, network="a word of a hostile queue").isolation.network == "none"


# --- how it ends ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [0, 1, 37, 75, 255])
def test_exit_codes_come_through_and_the_marker_says_that_user_code_ran(runtime, sandbox, image, code) -> None:
    ran = run(plan_of(runtime, sandbox, image, *SH, f"exit {code}"))
    assert (ran.code, marker(sandbox)) == (code, "started")


@pytest.mark.parametrize("command", ["nonesuch", "/no/such", "./plain.txt", ".", "-c", "./wrong-interpreter"])
def test_a_command_that_is_not_there_is_told_from_one_that_failed(runtime, sandbox, image, command) -> None:
    (sandbox.code / "plain.txt").write_text("no program")
    (sandbox.code / "wrong-interpreter").write_text("#!/no/such/python\n")
    (sandbox.code / "wrong-interpreter").chmod(0o755)
    ran = run(plan_of(runtime, sandbox, image, command, "argument"))
    assert (ran.code, marker(sandbox)) == (127, f"missing {command}")


def test_what_never_reached_user_code_leaves_no_marker(runtime, sandbox, tmp_path) -> None:
    sif = tiny_images()["sif"].read_bytes()
    damaged = {"missing": None, "junk": b"junk", "truncated": sif[: len(sif) // 2]}
    for name, data in damaged.items():
        path = tmp_path / f"{name}.sif"
        if data is not None:
            path.write_bytes(data)
        ran = run(plan_of(runtime, sandbox, ImageUsed(name, str(path), "", "sif"), "true"))
        assert (ran.code, marker(sandbox)) == (255, ""), name
        assert b"FATAL" in ran.err


def test_an_old_marker_does_not_speak_for_the_next_step(runtime, sandbox, directory) -> None:
    run(plan_of(runtime, sandbox, directory, "true"))
    plan = plan_of(runtime, sandbox, directory, "true", step="validate")
    assert marker(sandbox) == ""
    assert (run(plan).code, marker(sandbox)) == (0, "started")


def test_what_a_payload_puts_in_place_of_mount_points_is_not_followed(runtime, sandbox, directory, tmp_path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (sandbox.inputs / "data").mkdir()
    (sandbox.inputs / "data" / "x").write_text("input")
    run(plan_of(runtime, sandbox, directory, *SH, f"mv data moved; ln -s {outside} data; ln -s {outside} .p"))
    assert (sandbox.work / "data").is_symlink()
    ran = run(plan_of(runtime, sandbox, directory, "cat", "data/x", step="validate"))
    assert ran.text == "input"
    assert list(outside.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left_of_a_stopped_payload(runtime, sandbox, image, tmp_path, number) -> None:
    """Term ends all by itself; kill leaves the FUSE server in the session, for the supervisor's sweep to end."""
    plan = plan_of(runtime, sandbox, image, *SH, "echo ready > here; sleep 1000 & sleep 1000")
    leader = subprocess.Popen(plan.argv, env=dict(plan.environment), cwd=plan.directory, start_new_session=True)
    wait_for((sandbox.work / "here").exists)
    session = [each for each in procs.table() if each.session == leader.pid]
    assert len(session) >= 3
    os.killpg(leader.pid, number)
    leader.wait(10)
    if number == signal.SIGKILL:
        for each in procs.table():
            if each.session == leader.pid:
                procs.send(each, signal.SIGKILL)
    wait_for(lambda: not [each for each in procs.table() if each.session == leader.pid and each.state not in "ZX"])


def wait_for(true) -> None:
    deadline = time.monotonic() + 10
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


# --- what works here ------------------------------------------------------------------------------------------------


def test_a_finding_is_tried_once_and_then_read_from_its_receipt(tmp_path) -> None:
    search = Search(path=os.environ["PATH"], cache=apptainer_cache())
    began = time.monotonic()
    first = ApptainerRuntime(HELPER, tmp_path, search).check()
    tried = time.monotonic() - began
    again = ApptainerRuntime(HELPER, tmp_path, search).check()
    assert first.works
    assert re.fullmatch(r"\d+\.\d+\..*", first.version)
    assert (first, time.monotonic() - began - tried < tried / 10) == (again, True)
    assert [each.name for each in tmp_path.iterdir()] == [f"apptainer-{os.geteuid()}.json"]


def test_a_receipt_of_another_binary_or_a_broken_one_does_not_count(tmp_path) -> None:
    search = Search(path=os.environ["PATH"], cache=apptainer_cache())
    finding = ApptainerRuntime(HELPER, tmp_path, search).check()
    receipt = next(tmp_path.iterdir())
    good = receipt.read_text()
    for bad in ("", "{", "[]", good.replace('"tried": ', '"tried": 1'), good.replace('["/', '["/x')):
        receipt.write_text(bad)
        assert ApptainerRuntime(HELPER, tmp_path, search).check() == finding
        assert hashlib.sha256(receipt.read_bytes()).digest() != hashlib.sha256(bad.encode()).digest()


@pytest.mark.parametrize("configured", ["/no/such/apptainer", "/bin/true", "/etc/passwd"])
def test_what_is_no_apptainer_is_one_line(tmp_path, sandbox, directory, configured) -> None:
    runtime = ApptainerRuntime(HELPER, tmp_path / "receipts", Search(configured=configured))
    assert not runtime.check().works
    with pytest.raises(PortError) as caught:
        runtime.prepare(request(sandbox, "true", image=directory))
    assert caught.value.fault.code is Code.RUNTIME_MISSING
    assert configured in caught.value.fault.detail
    assert "\n" not in caught.value.fault.detail
