"""The contract's JSON Schemas accept what the helper and the pilot write, and nothing malformed."""

import json
import math
from pathlib import Path
from types import ModuleType

import pytest
from jsonschema import Draft202012Validator

from tests.unit.payload.rundir import ROOT, contract_document

SCHEMAS = ROOT / "pilot" / "schemas"
NAMES = ["contract-1.0", "inputs-1.0", "event-1.0", "control-1.0", "result-1.0"]


def validator(name: str) -> Draft202012Validator:
    return Draft202012Validator(json.loads((SCHEMAS / f"{name}.json").read_text()))


def accepts(name: str, document: object) -> bool:
    return bool(validator(name).is_valid(document))


@pytest.mark.parametrize("name", NAMES)
def test_each_schema_is_a_schema(name: str) -> None:
    schema = json.loads((SCHEMAS / f"{name}.json").read_text())
    Draft202012Validator.check_schema(schema)
    assert schema["$id"].endswith(name)
    assert schema["description"]


def test_what_the_helper_writes_is_valid(helper: ModuleType, run_dir: Path) -> None:
    helper.progress(epoch=0.5, step=1, steps_total=2, metrics={"loss": math.nan, "auc": 0.5}, eta_seconds=3.0)
    helper.progress()
    helper.log("x" * 9000, level="warning")
    with helper.checkpoint(step=1):
        pass
    with helper.checkpoint():
        pass
    (run_dir / "model.onnx").write_bytes(b"1")
    helper.artifact("model.onnx")
    lines = (run_dir / "events.jsonl").read_text().splitlines()
    assert len(lines) == 7
    for line in lines:
        validator("event-1.0").validate(json.loads(line))


def test_every_result_of_the_helper_is_valid(helper: ModuleType, run_dir: Path) -> None:
    with helper.checkpoint():
        pass
    for arguments in (
        {},
        {"loss": 0.0, "objectives": {"auc": 0.7}, "message": "m" * 2000, "metadata": {"a": [1]}},
        {"status": "diverged"},
        {"status": "transient", "error": OSError("e" * 3000)},
        {"status": "checkpointed"},
        {"status": "failed", "error": KeyError("x")},
    ):
        helper.result(**arguments)
        validator("result-1.0").validate(json.loads((run_dir / "result.json").read_text()))


def test_the_contract_of_the_tests_is_valid(tmp_path: Path) -> None:
    validator("contract-1.0").validate(contract_document(tmp_path))


CONTRACT_FAULTS: list[dict[str, object]] = [
    {"contract": "2.0"},
    {"contract": 1.0},
    {"attempt": 0},
    {"seed": -1},
    {"kind": "interactive"},
    {"grace_s": -1},
    {"deadline_utc": "tomorrow"},
    {"deadline_utc": "2026-11-20T14:00:00"},
    {"inputs": ["../ntuple.root"]},
    {"inputs": ["/etc/passwd"]},
    {"resources": {"cpus": 0, "memory_bytes": None, "scratch_bytes": None, "devices": []}},
    {"paths": {"run": "srv"}},
    {"job_id": ""},
]


@pytest.mark.parametrize("fault", CONTRACT_FAULTS, ids=str)
def test_a_bad_contract_is_refused(tmp_path: Path, fault: dict[str, object]) -> None:
    assert not accepts("contract-1.0", contract_document(tmp_path, **fault))


GOOD: list[tuple[str, object]] = [
    ("contract-1.0", contract_document(Path("/srv"), deadline_utc=None, later_key=1)),
    ("inputs-1.0", []),
    (
        "inputs-1.0",
        [
            {
                "name": "a/b.root",
                "url": "file:///a",
                "path": "a/b.root",
                "bytes": 1,
                "mode": "stage",
                "adler32": "0a1b2c3d",
            }
        ],
    ),
    ("inputs-1.0", [{"name": "a", "url": "root://x//a", "path": None, "bytes": None, "mode": "stream"}]),
    (
        "control-1.0",
        {
            "contract": "1.0",
            "type": "preempt",
            "sequence": 1,
            "reason": "batch",
            "sent_utc": "2026-11-20T14:00:00.5Z",
            "grace_s": 10,
        },
    ),
    (
        "control-1.0",
        {
            "contract": "1.0",
            "type": "drain",
            "sequence": 1,
            "reason": "",
            "sent_utc": "2026-11-20T14:00:00Z",
            "grace_s": None,
        },
    ),
    ("event-1.0", {"t": 1.0, "type": "health", "message": "warm", "healthy": True}),
    ("event-1.0", {"t": 1, "type": "progress", "metric": {}, "later_key": "x"}),
    ("result-1.0", {"contract": "1.0", "status": "succeeded"}),
    ("result-1.0", {"contract": "1.3", "status": "diverged", "loss": None}),
]

BAD: list[tuple[str, object]] = [
    ("inputs-1.0", {}),
    ("inputs-1.0", [{"name": "a", "url": "u", "path": "a", "bytes": -1, "mode": "stage"}]),
    ("inputs-1.0", [{"name": "a", "url": "u", "path": "a", "bytes": 1, "mode": "auto"}]),
    ("inputs-1.0", [{"name": "a", "url": "u", "path": "../a", "bytes": 1, "mode": "stage"}]),
    ("inputs-1.0", [{"name": "a", "url": "u", "path": "a", "bytes": 1, "mode": "stage", "adler32": "0A1B2C3D"}]),
    (
        "control-1.0",
        {
            "contract": "1.0",
            "type": "stop",
            "sequence": 1,
            "reason": "",
            "sent_utc": "2026-11-20T14:00:00Z",
            "grace_s": 1,
        },
    ),
    (
        "control-1.0",
        {
            "contract": "1.0",
            "type": "preempt",
            "sequence": 0,
            "reason": "",
            "sent_utc": "2026-11-20T14:00:00Z",
            "grace_s": 1,
        },
    ),
    (
        "control-1.0",
        {"contract": "1.0", "type": "preempt", "sequence": 1, "reason": "", "sent_utc": "now", "grace_s": 1},
    ),
    ("event-1.0", {"type": "progress", "metric": {}}),
    ("event-1.0", {"t": 1, "type": "progress"}),
    ("event-1.0", {"t": 1, "type": "progress", "metric": {"loss": "0.5"}}),
    ("event-1.0", {"t": 1, "type": "progress", "metric": {"loss": [0.5]}}),
    ("event-1.0", {"t": 1, "type": "dance", "metric": {}}),
    ("event-1.0", {"t": 1, "type": "artifact", "path": "/etc/passwd", "bytes": 1}),
    ("event-1.0", {"t": 1, "type": "artifact", "path": "a/../../b", "bytes": 1}),
    ("event-1.0", {"t": 1, "type": "log", "message": "x" * 5000}),
    ("event-1.0", {"t": 1, "type": "checkpoint", "generation": 0, "path": "c", "bytes": 1, "seconds": 1}),
    ("event-1.0", ["t", 1]),
    ("result-1.0", {"status": "succeeded"}),
    ("result-1.0", {"contract": "1.0"}),
    ("result-1.0", {"contract": "2.0", "status": "succeeded"}),
    ("result-1.0", {"contract": "1.0", "status": 0}),
    ("result-1.0", {"contract": "1.0", "status": "succeeded", "loss": "0.5"}),
    ("result-1.0", {"contract": "1.0", "status": "succeeded", "loss": math.inf}),
    ("result-1.0", {"contract": "1.0", "status": "diverged", "loss": 3.0}),
    ("result-1.0", {"contract": "1.0", "status": "succeeded", "objectives": {"auc": None}}),
    ("result-1.0", {"contract": "1.0", "status": "checkpointed"}),
    ("result-1.0", {"contract": "1.0", "status": "checkpointed", "generation": "../../etc"}),
    ("result-1.0", {"contract": "1.0", "status": "succeeded", "message": "x" * 1001}),
    ("result-1.0", {"contract": "1.0", "status": "succeeded", "surprise": 1}),
]


@pytest.mark.parametrize(("name", "document"), GOOD, ids=str)
def test_good_examples(name: str, document: object) -> None:
    validator(name).validate(document)


@pytest.mark.parametrize(("name", "document"), BAD, ids=str)
def test_bad_examples(name: str, document: object) -> None:
    assert not accepts(name, document)
