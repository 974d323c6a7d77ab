"""The zoo's payloads do what its README says, each in a session of its own."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.unit.payload.rundir import HELPER, ROOT

ZOO = ROOT / "tests" / "payloads"


def start(run: Path, name: str, *arguments: str) -> subprocess.Popen[bytes]:
    program = [sys.executable, str(ZOO / name)] if name.endswith(".py") else [str(ZOO / name)]
    environment = os.environ | {"PYTHONPATH": str(HELPER.parent), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.Popen(
        [*program, *arguments],
        cwd=run,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def ended(process: subprocess.Popen[bytes]) -> tuple[int, bytes, bytes]:
    with process:
        try:
            out, err = process.communicate(timeout=30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raise
    return process.returncode, out, err


def test_the_readme_names_every_payload() -> None:
    named = set(re.findall(r"^\| `(\S+?)[ `]", (ZOO / "README.md").read_text(), re.MULTILINE))
    assert named == {path.name for path in ZOO.iterdir() if path.suffix in (".py", ".sh")}


@pytest.mark.parametrize(
    ("command", "status"),
    [
        (["exit_with.sh", "255"], 255),
        (["die_of.sh", "ABRT"], -signal.SIGABRT),
        (["segv.py"], -signal.SIGSEGV),
        (["kill_group.sh"], -signal.SIGKILL),
        (["no_output.sh"], 0),
        (["hard_output.sh"], 0),
        (["escape_output.sh"], 0),
        (["kill_all_visible.sh"], 64),
        (["lie_in_result.py", "nan"], 0),
        (["lie_in_result.py", "fifo"], 0),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_it_ends_as_the_readme_says(run_dir: Path, command: list[str], status: int) -> None:
    assert ended(start(run_dir, *command))[0] == status


def test_the_one_that_ignores_term_needs_kill(run_dir: Path) -> None:
    process = start(run_dir, "ignore_term.py")
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    process.terminate()
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.3)
    process.kill()
    assert ended(process)[0] == -signal.SIGKILL


def test_the_one_that_stops_well_has_its_output(run_dir: Path) -> None:
    process = start(run_dir, "stop_well.py")
    assert process.stdout is not None
    process.stdout.readline()
    process.terminate()
    assert ended(process)[0] == 0
    assert (run_dir / "output.txt").read_text() == "finished in time\n"


def test_the_daemon_outlives_its_payload(run_dir: Path) -> None:
    process = start(run_dir, "daemon.py", "30")
    process.wait(30)
    daemon = int((run_dir / "daemon.pid").read_text())
    try:
        assert os.getsid(daemon) != process.pid
    finally:
        os.kill(daemon, signal.SIGKILL)
    ended(process)


def test_the_flood_is_fast_and_counted(run_dir: Path) -> None:
    status, out, err = ended(start(run_dir, "flood.py", "0.3", "50"))
    assert status == 0
    told = int(re.findall(rb"(\d+) bytes were sent", out[-100:])[0])
    assert told == len(err) + len(out) - len(out.splitlines(keepends=True)[-1])
    assert told > 1e6


def test_a_limited_disk_filler_stops_at_its_limit(run_dir: Path) -> None:
    assert ended(start(run_dir, "fill_disk.py", str(run_dir), "3"))[0] == 0
    assert (run_dir / "filler").stat().st_size == 3 << 20


@pytest.mark.parametrize("how", ["preempt", "term"])
def test_the_saver_resumes_where_it_stood(run_dir: Path, how: str) -> None:
    process = start(run_dir, "save_and_stop.py", "40", "0.02")
    assert process.stdout is not None
    process.stdout.readline()
    time.sleep(0.1)
    if how == "preempt":
        (run_dir / "control" / "PREEMPT.json").write_text("{}")
    else:
        process.terminate()
    assert ended(process)[0] == 85
    assert json.loads((run_dir / "result.json").read_text())["status"] == "checkpointed"
    (run_dir / "control" / "PREEMPT.json").unlink(missing_ok=True)
    status, out, _ = ended(start(run_dir, "save_and_stop.py", "40", "0"))
    assert (status, out[:17]) == (0, b"starting at step ")
    assert int(out.split()[-1]) > 0
    assert (run_dir / "counted.txt").read_text().split() == [str(step) for step in range(40)]


def test_the_searcher_finds_what_is_there_and_only_that(run_dir: Path) -> None:
    secret = f"canary-{os.getpid()}-{time.time_ns()}"
    assert ended(start(run_dir, "find_canary.py", secret[::-1], str(run_dir)))[0] == 0
    (run_dir / "hidden").write_text(f"token={secret}\n")
    status, out, _ = ended(start(run_dir, "find_canary.py", secret[::-1], str(run_dir)))
    assert status == 1
    assert str(run_dir / "hidden") in out.decode()
