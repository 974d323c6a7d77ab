"""scripts/get-panda: quick and silent the second time, one line when it cannot."""

import os
import subprocess
import time
from pathlib import Path

import pytest

from tests.beds.panda import TREE

pytestmark = pytest.mark.panda

NO_NETWORK = {"http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9"}


def get_panda(*words: str, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [TREE / "scripts/get-panda", *words],
        env={**os.environ, **more}, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip


def test_a_second_one_is_quick_and_silent_and_needs_no_network() -> None:
    made = Path(get_panda("--print").stdout.strip())
    assert (made / "venv/bin/python").exists()
    began = time.monotonic()
    again = get_panda(**NO_NETWORK)
    assert (again.returncode, again.stdout, again.stderr) == (0, "", "")
    assert time.monotonic() - began < 1


def test_without_network_it_ends_in_one_line_and_leaves_nothing_half_made(tmp_path: Path) -> None:
    ended = get_panda(PILOT_CACHE=str(tmp_path), **NO_NETWORK)
    *_, last = ended.stderr.splitlines()
    assert ended.returncode == 69
    assert "network" in last
    assert "failed.log" in last
    assert sorted(each.name for each in (tmp_path / "panda").iterdir()) == [".lock", "failed.log"]
