"""Sandboxes, requests and images for tests of runtimes."""

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from pilot.model.facts import WAITING
from pilot.model.files import ImageUsed
from pilot.model.job import JobSpec, Share
from pilot.ports import RunPlan, RunRequest, Sandbox

TREE = Path(__file__).parents[1]
HELPER = TREE / "pilot" / "payload"


def sandbox_in(folder: Path) -> Sandbox:
    """An attempt's directories, as staging makes them."""
    sandbox = Sandbox(folder / "17.1")
    for each in (sandbox.work, sandbox.home, sandbox.tmp, sandbox.inputs, sandbox.code, sandbox.pilot, sandbox.logs):
        each.mkdir(parents=True)
    (sandbox.pilot / "contract.json").write_text('{"contract": "1.0"}')
    (sandbox.pilot / "inputs.json").write_text("[]")
    return sandbox


def request(sandbox: Sandbox, *command: str, image: ImageUsed | None = None, **changes: object) -> RunRequest:
    """One run of that command."""
    binds = changes.pop("binds", ())
    step = changes.pop("step", "run")
    spec = JobSpec("test", command, **changes)  # type: ignore[arg-type]
    terms = (("PILOT_JOB_ID", "17"), ("PILOT_ATTEMPT", "1"))
    return RunRequest("17", 1, spec, Share(cpus=(0, 1)), sandbox, image, str(step), (), terms, binds)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Ran:
    """How a plan ended when it was run."""

    code: int
    out: bytes
    err: bytes

    @property
    def text(self) -> str:
        return self.out.decode()


def run(plan: RunPlan, timeout: float = 60.0) -> Ran:
    """The plan as the launcher runs it: this very environment, an own session, no input."""
    done = subprocess.run(
        plan.argv,
        env=dict(plan.environment),
        cwd=plan.directory,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=timeout,
        start_new_session=True,
        check=False,
    )
    return Ran(done.returncode, done.stdout, done.stderr)


def marker(sandbox: Sandbox) -> str:
    """What the entry script left."""
    path = sandbox.work / ".pilot" / "marker"
    said = path.read_text().strip() if path.exists() else "removed"
    return "" if said == WAITING else said


def apptainer_cache() -> Path:
    """Where scripts/get-apptainer keeps it."""
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(os.environ.get("PILOT_CACHE") or f"{home}/pilot")


def apptainer() -> Path:
    """A working Apptainer; its absence is a failure, never a silent skip."""
    found = subprocess.run(
        [TREE / "scripts" / "get-apptainer", "--print"], capture_output=True, text=True, timeout=300, check=False
    )
    if found.returncode:
        pytest.fail(f"no apptainer: {found.stderr.strip()}")
    return Path(found.stdout.strip())


def tiny_images() -> dict[str, Path]:
    """The one-megabyte images that scripts/get-apptainer leaves beside the binary, in both forms."""
    prefix = apptainer_cache() / "apptainer" / "current"
    apptainer()
    return {"directory": prefix / "probe", "sif": prefix / "probe.sif"}
