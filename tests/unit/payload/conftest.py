"""A run directory as the pilot lays it out, and the helper loaded afresh in it."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from tests.unit.payload.rundir import contract_document, load_helper


@pytest.fixture
def write_contract(tmp_path: Path) -> Callable[..., None]:
    def write(**changes: object) -> None:
        (tmp_path / "contract.json").write_text(json.dumps(contract_document(tmp_path, **changes)))

    return write


@pytest.fixture
def run_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write_contract: Callable[..., None]) -> Path:
    """The environment and directory that the pilot gives a payload."""
    for name in ("control", "checkpoint"):
        (tmp_path / name).mkdir()
    write_contract()
    environment = {
        "PILOT_CONTRACT": "1.0",
        "PILOT_JOB_ID": "17",
        "PILOT_ATTEMPT": "2",
        "PILOT_RUN_DIR": str(tmp_path),
        "PILOT_DEADLINE": str(time.time() + 3600),
        "PILOT_GRACE_SECONDS": "30",
        "PILOT_SEED": "4711",
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def helper(run_dir: Path) -> ModuleType:
    """The helper inside a pilot."""
    return load_helper()


@pytest.fixture
def laptop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The helper where no pilot is."""
    for name in ("PILOT_RUN_DIR", "PILOT_DEADLINE", "PILOT_SEED", "PILOT_CONTRACT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    return load_helper()
