"""The commands a newcomer types: what they leave, how quick they are the second time, and what they say."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPTS = ROOT / "scripts"


def _run(*argv: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    own = {name: value for name, value in os.environ.items() if name != "PILOT_APPTAINER"}  # what is sought here
    env = {**own, **environment}
    return subprocess.run(
        [str(word) for word in argv], env=env, capture_output=True, text=True, timeout=300, check=False
    )


@pytest.mark.apptainer
def test_the_apptainer_named_runs_both_forms_with_an_empty_environment() -> None:
    binary = Path(_run(SCRIPTS / "get-apptainer", "--print").stdout.strip())
    assert binary.is_absolute()
    probe = binary.parents[2] / "probe"
    if not probe.is_dir():
        pytest.skip("issue 2: this machine's own Apptainer is used, which has no probe image beside it")
    for image in (probe, probe.with_suffix(".sif")):
        argv = [binary, "-q", "exec", "--userns", "--containall", image, "/bin/sh", "-c", "echo $((6 * 7))"]
        done = subprocess.run(argv, env={}, capture_output=True, text=True, timeout=60, check=False)
        assert (done.returncode, done.stdout) == (0, "42\n"), done.stderr


@pytest.mark.apptainer
def test_a_second_get_apptainer_is_quick_and_silent() -> None:
    _run(SCRIPTS / "get-apptainer")
    start = time.monotonic()
    again = _run(SCRIPTS / "get-apptainer", http_proxy="http://127.0.0.1:9", https_proxy="http://127.0.0.1:9")
    assert (again.returncode, again.stdout) == (0, "")
    assert time.monotonic() - start < 2


def test_an_apptainer_on_path_is_taken_only_if_it_answers(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "apptainer").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "bin" / "apptainer").chmod(0o755)
    path = f"{tmp_path}/bin:{os.environ['PATH']}"
    broken = _run(SCRIPTS / "get-apptainer", "--print", PATH=path)
    assert broken.stdout.strip() != str(tmp_path / "bin" / "apptainer")
    (tmp_path / "bin" / "apptainer").write_text("#!/bin/sh\necho apptainer version 9.9\n")
    assert _run(SCRIPTS / "get-apptainer", "--print", PATH=path).stdout.strip() == str(tmp_path / "bin" / "apptainer")


@pytest.mark.parametrize("script", ["get-apptainer", "setup"])
def test_a_cache_that_cannot_be_made_is_one_line(tmp_path: Path, script: str) -> None:
    (tmp_path / "file").write_text("")
    home = tmp_path / "tree"
    (home / "scripts").mkdir(parents=True)
    for name in (script, "private-apt.sh"):
        (home / "scripts" / name).write_bytes((SCRIPTS / name).read_bytes())
        (home / "scripts" / name).chmod(0o755)
    done = _run(home / "scripts" / script, PILOT_CACHE=f"{tmp_path}/file/cache", PATH="/usr/bin:/bin:/usr/sbin:/sbin")
    if script == "get-apptainer" and done.returncode == 0:
        pytest.skip("issue 2: this machine has an Apptainer of its own, so nothing is fetched")
    assert done.returncode == 69
    assert len(done.stderr.splitlines()) == 1
    assert "PILOT_CACHE" in done.stderr


def test_a_second_setup_is_quick() -> None:
    if not (ROOT / ".venv" / ".state").exists():
        pytest.skip("issue 2: these tests run in an environment that scripts/setup did not make")
    start = time.monotonic()
    done = _run(SCRIPTS / "setup", "--no-apptainer", http_proxy="http://127.0.0.1:9", https_proxy="http://127.0.0.1:9")
    assert (done.returncode, done.stderr) == (0, "")
    assert time.monotonic() - start < 2


def test_as_user_passes_the_exit_code_and_is_no_root() -> None:
    place = {"PILOT_TEST_HOME": f"/var/tmp/pilot-test-{os.getpid()}"} if os.getuid() == 0 else {}
    try:
        done = _run(SCRIPTS / "as-user", "--", "sh", "-c", "id -u; exit 37", **place)
        assert done.returncode == 37, done.stderr
        assert int(done.stdout) > 0
    finally:
        for folder in place.values():
            subprocess.run(["rm", "-rf", folder], check=True, timeout=60)


@pytest.mark.skipif(os.getuid() != 0, reason="issue 2: only root has somebody else to become")
@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 9), (signal.SIGKILL, -9)])
def test_nothing_outlives_as_user(number: int, status: int) -> None:
    place = f"/var/tmp/pilot-test-{os.getpid()}"
    mark = f"{5000 + os.getpid()}.{number}"
    command = f"trap 'exit 9' TERM; (setsid sleep {mark} &); echo ready; sleep {mark} & wait"
    argv = [SCRIPTS / "as-user", "sh", "-c", command]
    env = {**os.environ, "PILOT_TEST_HOME": place}
    with subprocess.Popen(argv, env=env, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        assert process.wait(20) == status
    end = time.monotonic() + 10
    while _running(mark) and time.monotonic() < end:
        time.sleep(0.05)
    assert not _running(mark)
    subprocess.run(["rm", "-rf", place], check=True, timeout=60)


def _running(mark: str) -> bool:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if words[:2] == [b"sleep", mark.encode()]:
                return True
    return False


def test_no_script_names_a_package_host() -> None:
    """The mirror comes from the machine's own apt sources, the index from pip's own settings."""
    for folder in (SCRIPTS, ROOT / "containers"):
        for path in folder.iterdir():
            if path.is_file():
                text = path.read_text(encoding="utf-8")
                for host in ("debian" + ".org", "pypi" + ".org", "python" + "hosted", "docker" + ".io"):
                    assert host not in text, path
