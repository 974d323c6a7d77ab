"""`pilot image` as a person uses it, with a real Apptainer."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.sandboxes import TREE, apptainer, tiny_images

pytestmark = pytest.mark.apptainer


@pytest.fixture
def pilot(tmp_path: Path):
    """Runs `pilot image ...` with a store of its own."""
    environment = {**os.environ, "PILOT_CACHE": str(tmp_path / "cache"), "PILOT_APPTAINER": str(apptainer())}

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        argv = [sys.executable, "-m", "pilot", "image", *words]
        return subprocess.run(argv, cwd=TREE, env=environment, capture_output=True, text=True, timeout=120, check=False)

    return run


def rows(done: subprocess.CompletedProcess[str]) -> list[dict[str, object]]:
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_pulled_listed_verified_and_evicted(pilot, tmp_path: Path) -> None:
    pulled = rows(pilot("pull", str(tiny_images()["sif"]), "--form", "both", "--name", "tiny", "--format", "json"))
    assert [(each["name"], each["form"]) for each in pulled] == [("tiny", "directory"), ("tiny", "sif")]
    assert set(pulled[0]) == {"name", "path", "sha256", "form", "bytes"}
    listed = rows(pilot("ls", "--format", "json"))
    assert sorted(map(str, listed)) == sorted(map(str, pulled))
    assert all(each["status"] == "ok" for each in rows(pilot("verify", "--format", "json")))
    assert (Path(str(pulled[0]["path"])) / "bin" / "busybox").exists()
    assert len(rows(pilot("gc", "--budget", "1KiB", "--format", "json"))) == 2
    assert rows(pilot("ls", "--format", "json")) == []
    kept = tmp_path / "cache" / "images"
    assert [each.name for each in kept.iterdir()] == [".build"]
    assert not list(kept.glob(".build/work-*"))


def test_a_damaged_image_is_found_and_told(pilot) -> None:
    pulled = rows(pilot("pull", str(tiny_images()["sif"]), "--form", "sif", "--name", "tiny", "--format", "json"))
    with open(str(pulled[0]["path"]), "r+b") as file:
        file.seek(900_000)
        byte = file.read(1)
        file.seek(900_000)
        file.write(bytes([byte[0] ^ 1]))
    done = pilot("verify", "--format", "json")
    assert done.returncode == 71
    assert [each["status"] for each in json.loads(done.stdout)] == ["image.corrupt"]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("pull", "/no/such.sif"), 71, "No such file"),
        (("pull", "/etc/passwd"), 71, "no image in SIF form"),
        (("pull", "docker://localhost:1/x"), 71, "connection refused"),
        (("gc", "--budget", "1x"), 64, "unknown unit"),
        (("build", "ml-base", "--arg", "nonsense"), 64, "NAME=VALUE"),
    ],
)
def test_an_error_is_one_line(pilot, words: tuple[str, ...], code: int, said: str) -> None:
    done = pilot(*words)
    assert done.returncode == code
    assert said in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_a_wrong_pin_is_refused_before_anything_is_kept(pilot) -> None:
    done = pilot("pull", f"{tiny_images()['sif']}@sha256:{'ab' * 32}")
    assert (done.returncode, "wanted is abab" in done.stderr) == (65, True)
    assert rows(pilot("ls", "--format", "json")) == []
