"""Generated pages and schemas are up to date, and what the commands read and print fits the schemas."""

import json
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
import yaml

from pilot.cli.probe import as_json
from pilot.cli.schema import schemas
from pilot.config.settings import KEYS
from pilot.model.capability import Capabilities, LimitedBy, View
from pilot.model.faults import Code
from pilot.model.job import Verdict
from pilot.model.plain import full_plain
from pilot.model.report import Report

ROOT = Path(__file__).parents[3]


def check(name: str, data: object) -> None:
    schema = json.loads(schemas()[name].read_text("utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.Draft202012Validator(schema).validate(data)


def test_pages_and_schemas_are_up_to_date() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts/docs"), "--check"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_every_code_and_key_has_its_line() -> None:
    faults = (ROOT / "docs/reference/faults.md").read_text("utf-8")
    assert [each.value for each in Code if f"| `{each.value}` |" not in faults] == []
    configuration = (ROOT / "docs/reference/configuration.md").read_text("utf-8")
    assert [each for each in KEYS if f"| `{each}` |" not in configuration] == []


@pytest.mark.parametrize("name", sorted(schemas()))
def test_every_schema_is_one_and_says_what_it_is_for(name: str) -> None:
    schema = json.loads(schemas()[name].read_text("utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["description"]


JOB = """
name: a
command: [python3, train.py]
code: [train.py]
needs: {cpus: 2, memory: 2GiB, walltime: 1h30m, gpus: {count: 1, capability: ">=8.0"}}
inputs: [{url: "file:///a", as: b}]
outputs: [{name: "metrics/*", optional: true}]
validate: [x]
checkpoint: {interval: 5m}
"""


def test_the_job_schema_takes_what_the_reader_takes() -> None:
    check("job", yaml.safe_load(JOB))
    check("job", [{"name": "a", "command": ["x"], "needs": [{"cpus": 1}]}])
    for wrong in ({"name": "a"}, {"name": "a", "command": ["x"], "nmae": 1}, {"name": "a", "command": "x"}):
        with pytest.raises(jsonschema.ValidationError):
            check("job", wrong)


def test_the_config_schema_takes_what_the_reader_takes() -> None:
    check("config", {"cpus": 1, "memory": "2GiB", "binds": ["/a"], "labels": {"a": 1}, "grace": "10s", "lifetime": 3})
    for wrong in ({"cpu": 1}, {"runtime": "docker"}, {"binds": "/a"}):
        with pytest.raises(jsonschema.ValidationError):
            check("config", wrong)


def test_reports_and_probes_fit_their_schemas() -> None:
    check("report", full_plain(Report("1", 1, "a", Verdict.SUCCEEDED, "2026-11-20T00:00:00Z", "2026-11-20T00:00:01Z")))
    view = View(1, 1, 1, "x86_64", "x86_64-v3")
    check("probe", as_json(Capabilities("host", view, view, LimitedBy("node", "node", "node"))))
