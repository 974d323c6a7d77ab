"""A Python with the machine-learning stack: the image `ml-base`, or what PILOT_ML_PYTHON names (a command line).

These tests check the payload itself; that the pilot runs it rightly is tests/e2e's business.
"""

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.unit.payload.rundir import ROOT, contract_document

RUN_SECONDS = 120  # a training takes 5 s on an idle machine
FILES = ("train.py", "dilepton.py", "check_model.py")


@dataclass(frozen=True)
class Bench:
    """Where payloads are run by hand: a command that starts the right Python, and the input."""

    python: tuple[str, ...]
    ntuple: Path

    def lay_out(self, directory: Path, interval_s: float | None = None) -> Path:
        """A run directory with the code, the input and the helper in it."""
        directory.mkdir(exist_ok=True)
        document = contract_document(directory, checkpoint_interval_s=interval_s)
        (directory / "contract.json").write_text(json.dumps(document))
        for name in FILES:
            shutil.copyfile(ROOT / "demo" / name, directory / name)
        shutil.copyfile(ROOT / "pilot" / "payload" / "pilot_payload.py", directory / "pilot_payload.py")
        shutil.copyfile(ROOT / "tests" / "unit" / "demo" / "tamper.py", directory / "tamper.py")
        shutil.copyfile(self.ntuple, directory / "ntuple.root")
        (directory / "control").mkdir()
        return directory

    def popen(self, directory: Path, *arguments: str, seed: int = 1) -> subprocess.Popen[str]:
        """Start a payload as a pilot would, in its run directory."""
        given = {"PILOT_CONTRACT": "1.0", "PILOT_RUN_DIR": str(directory), "PILOT_SEED": str(seed)}
        command = [each.replace("{run}", str(directory)) for each in self.python]
        return subprocess.Popen(
            [*command, *arguments],
            cwd=directory,
            env=environment(given),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, directory: Path, *arguments: str, seed: int = 1) -> subprocess.CompletedProcess[str]:
        """Run a payload to its end."""
        with self.popen(directory, *arguments, seed=seed) as process:
            try:
                out, err = process.communicate(timeout=RUN_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)


def environment(given: Mapping[str, str]) -> dict[str, str]:
    """The same variables for a Python started directly and for one in a container."""
    common = {"PYTHONDONTWRITEBYTECODE": "1", "OMP_WAIT_POLICY": "passive", **given}  # as demo/job.yaml says
    return os.environ | common | {f"APPTAINERENV_{name}": value for name, value in common.items()}


@pytest.fixture(scope="session")
def bench() -> Bench:
    return Bench(ml_python(), input_file())


def ml_python() -> tuple[str, ...]:
    """The command that starts Python in the image, with the run directory bound at its own path."""
    named = os.environ.get("PILOT_ML_PYTHON")
    if named:
        return tuple(shlex.split(named))
    apptainer = printed(ROOT / "scripts" / "get-apptainer", "--print")
    images = json.loads(printed(Path(sys.executable).with_name("pilot"), "image", "ls", "--format", "json"))
    paths = [image["path"] for image in images if image["name"] == "ml-base"]
    assert paths, "no image ml-base: build it with `pilot image build ml-base`"
    flags = ("--userns", "--containall", "--no-eval", "--bind", "{run}:{run}", "--pwd", "{run}")
    return (apptainer, "-q", "exec", *flags, paths[0], "python3")


def input_file() -> Path:
    """The ntuple, fetched by the demo's own script where the cache lacks it."""
    code = "import prepare; print(prepare.get_input(prepare.cache() / 'demo'))"
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT / "demo", capture_output=True, text=True, check=True)
    return Path(ended.stdout.strip())


def printed(*command: Path | str) -> str:
    return subprocess.run([str(each) for each in command], capture_output=True, text=True, check=True).stdout.strip()
