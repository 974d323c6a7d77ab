"""What is drawn from the life cycle's table is up to date."""

import subprocess
import sys

from pilot.model.job import Phase
from tests.architecture.tree import ROOT


def test_picture_and_diagram_show_the_table_as_it_is() -> None:
    order = [sys.executable, "scripts/draw-lifecycle", "--check"]
    done = subprocess.run(order, check=False, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_picture_shows_every_phase() -> None:
    picture = (ROOT / "docs/lifecycle.svg").read_text(encoding="utf-8")
    assert all(f">{phase.value.replace('_', '-')}</text>" in picture for phase in Phase)
