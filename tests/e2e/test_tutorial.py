"""Every command of the tutorial, run literally, in order, in one shell."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.piloted import Rig
from tests.sandboxes import TREE

pytestmark = pytest.mark.apptainer

SECONDS = 300  # three trainings of 6 s on a quiet machine


def blocks(page: Path) -> list[str]:
    return re.findall(r"^```sh\n(.*?)^```$", page.read_text(encoding="utf-8"), re.M | re.S)


@pytest.fixture
def clone(rig: Rig) -> Path:
    """What of the tree the page uses, and this very environment in place of its .venv."""
    place = rig.root / "clone"
    shutil.copytree(TREE / "demo", place / "demo", ignore=shutil.ignore_patterns("__pycache__"))
    commands = place / ".venv" / "bin"
    commands.mkdir(parents=True)
    for name, words in {"pilot": "-m pilot", "python3": ""}.items():
        (commands / name).write_text(f'#!/bin/sh\nexec {sys.executable} {words} "$@"\n')
        (commands / name).chmod(0o755)
    return place


def test_the_tutorial(rig: Rig, clone: Path) -> None:
    script = "set -eux\n" + "".join(blocks(TREE / "docs" / "tutorial.md"))
    ran = subprocess.run(
        ["/bin/sh", "-c", script], cwd=clone, env=rig.environment(PATH=os.environ["PATH"]), capture_output=True,
        text=True, timeout=SECONDS, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr[-3000:]
    assert "succeeded: dilepton-classifier" in ran.stdout
    assert "failed: too-strict" in ran.stdout
    assert "not good enough" in ran.stdout
    assert "needs.cpus" in ran.stdout.splitlines()[-2] + ran.stdout.splitlines()[-1]
    auc = re.search(r'"auc": ([0-9.]+)', ran.stdout)
    assert auc
    assert abs(float(auc[1]) - 0.5) < 0.04
    assert (clone / "demo-output" / "tutorial" / "shuffled" / "roc.png").exists()
