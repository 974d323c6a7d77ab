"""What the tests of the contract share: the helper, loaded afresh, and a contract as the pilot writes it."""

import importlib.util
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[3]
HELPER = ROOT / "pilot" / "payload" / "pilot_payload.py"


def load_helper() -> ModuleType:
    """Give a new instance of the helper, as a fresh payload process would have it."""
    spec = importlib.util.spec_from_file_location("pilot_payload", HELPER)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def contract_document(run: Path, **changes: object) -> dict[str, object]:
    document: dict[str, object] = {
        "contract": "1.0",
        "job_id": "17",
        "name": "training",
        "attempt": 2,
        "kind": "batch",
        "seed": 4711,
        "deadline_utc": "2026-11-20T14:00:00Z",
        "grace_s": 30.0,
        "resources": {"cpus": 2, "memory_bytes": 2**31, "scratch_bytes": None, "devices": []},
        "inputs": ["ntuple.root"],
        "outputs": ["model.onnx", "metrics/*"],
        "checkpoint_interval_s": None,
        "paths": {
            "run": str(run),
            "inputs": "inputs.json",
            "events": "events.jsonl",
            "control": "control",
            "result": "result.json",
            "checkpoint": "checkpoint",
            "scratch": "/tmp",
        },
    }
    return document | changes
