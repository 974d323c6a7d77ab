"""The pilot's side of the contract against the same schemas and the same helper."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from pilot.model.files import Input, Mode
from pilot.model.job import Grant, Job, JobSpec, Share
from pilot.ports import Gone, Sandbox
from pilot.shell import contract
from tests.unit.payload.rundir import ROOT, load_helper

TERMS = contract.Terms(deadline=1_795_000_000.25, grace=30.0, run_dir="/srv")
SPEC = JobSpec(name="training", command=("true",), checkpoint_interval=300)
INPUTS = (Input("file:///data/a.root", "a.root"), Input("root://host//b.root", "deep/b.root", mode=Mode.STAGE))


@pytest.fixture
def sandbox(tmp_path: Path) -> Sandbox:
    made = Sandbox(tmp_path / "sandbox")
    for folder in (made.work, made.home, made.tmp, made.pilot, made.logs):
        folder.mkdir(parents=True)
    return made


def job(spec: JobSpec = SPEC) -> Job:
    return Job("claim-1", grant=Grant("17", 2, spec, lease_seconds=60.0))


def valid(path: Path, schema: str) -> None:
    text = (ROOT / "pilot" / "schemas" / f"{schema}.json").read_text()
    Draft202012Validator(json.loads(text)).validate(json.loads(path.read_text()))


@pytest.mark.parametrize("spec", [SPEC, replace(SPEC, inputs=INPUTS, checkpoint_interval=0, kind="toys")])
@pytest.mark.parametrize("share", [Share(), Share((0, 1), 2**31, 2**30, ("GPU-1234",), 600)])
@pytest.mark.parametrize("deadline", [0.0, TERMS.deadline])
def test_what_the_pilot_writes_is_valid_and_read_by_the_helper(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, spec: JobSpec, share: Share, deadline: float
) -> None:
    terms = replace(TERMS, deadline=deadline, run_dir=str(sandbox.pilot))
    contract.write_terms(job(spec), share, terms, sandbox, {"a.root": 17})
    valid(sandbox.pilot / "contract.json", "contract-1.0")
    valid(sandbox.pilot / "inputs.json", "inputs-1.0")
    for name, value in contract.environment(job(spec), share, terms):
        monkeypatch.setenv(name, value)
    helper = load_helper()
    granted = helper.contract()
    assert (granted.job_id, granted.attempt, granted.cpus) == ("17", 2, max(1, len(share.cpus)))
    assert granted.seed == helper.seed() == contract.seed_of("17")
    assert (helper.deadline() is None) == (deadline == 0.0)


@pytest.mark.parametrize(("name", "kind"), [("PREEMPT.json", "preempt"), ("CHECKPOINT_NOW", "checkpoint")])
def test_what_the_pilot_says_is_valid_and_heard(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, name: str, kind: str
) -> None:
    monkeypatch.setenv("PILOT_RUN_DIR", str(sandbox.work))
    contract.write_terms(job(), Share(), TERMS, sandbox, {})
    (sandbox.work / "contract.json").write_text((sandbox.pilot / "contract.json").read_text())
    helper = load_helper()
    assert not helper.should_checkpoint()
    for sequence in (1, 2):
        contract.tell(sandbox, name, kind, "because", 10.0, 1_795_000_000.0)
        valid(sandbox.work / "control" / name, "control-1.0")
        assert json.loads((sandbox.work / "control" / name).read_text())["sequence"] == sequence
        assert helper.should_checkpoint()
        with helper.checkpoint():
            pass
    newest = contract.newest_generation(sandbox)
    assert sandbox.work / "checkpoint" / newest == helper.latest().path


def test_no_message_leaves_through_a_link_of_the_payload(sandbox: Sandbox, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (sandbox.work / "control").symlink_to(outside)
    contract.tell(sandbox, "PREEMPT.json", "preempt", "because", 10.0, 0.0)
    assert list(outside.iterdir()) == []


GONE = Gone("17.2.run", exit_code=0, signal=None, gone=True)
LIES = {
    "nan": '{"contract": "1.0", "status": "succeeded", "loss": NaN}',
    "overflow": '{"contract": "1.0", "status": "succeeded", "loss": 1e999}',
    "not json": "loss: 0.5",
    "version": '{"contract": "2.0", "status": "succeeded"}',
    "status": '{"contract": "1.0", "status": 0}',
    "long status": '{"contract": "1.0", "status": "' + "x" * 100_000 + '"}',
    "whole number": '{"contract": "1.0", "status": "succeeded", "loss": 1' + "0" * 400 + "}",
    "deep": "[" * 100_000,
    "list": "[]",
    "huge": '{"contract": "1.0", "status": "succeeded", "message": "' + "x" * (1 << 22) + '"}',
    "empty": "",
    "objective": '{"contract": "1.0", "status": "succeeded", "objectives": {"auc": 1e999}}',
    "diverged with loss": '{"contract": "1.0", "status": "diverged", "loss": 1.0}',
}


@pytest.mark.parametrize("lie", LIES)
def test_a_result_that_breaks_the_contract_is_invalid(sandbox: Sandbox, lie: str) -> None:
    (sandbox.work / "result.json").write_text(LIES[lie])
    ending = contract.ending_of(GONE, sandbox, "")
    assert ending.result_status == "invalid"
    assert ending.result_message
    assert "\n" not in ending.result_message
    assert len(ending.result_message) <= 1000


def test_without_a_contract_a_result_says_nothing(sandbox: Sandbox) -> None:
    """A file of that name is a usual output of programs that never heard of us."""
    (sandbox.work / "result.json").write_text('{"status": "failed", "accuracy": 0.9}')
    assert contract.ending_of(GONE, sandbox, "", "").result_status == ""
    assert contract.ending_of(GONE, sandbox, "").result_status == "invalid"


def test_a_message_is_one_line(sandbox: Sandbox) -> None:
    document = {"contract": "1.0", "status": "failed", "message": "two\nlines " + "x" * 5000}
    (sandbox.work / "result.json").write_text(json.dumps(document))
    ending = contract.ending_of(GONE, sandbox, "")
    assert ending.result_message.startswith("two lines xxx")
    assert len(ending.result_message) == 1000


def test_a_directory_in_place_of_a_message_is_left_alone(sandbox: Sandbox) -> None:
    (sandbox.work / "control" / "PREEMPT.json").mkdir(parents=True)
    contract.tell(sandbox, "PREEMPT.json", "preempt", "because", 10.0, 0.0)
    assert (sandbox.work / "control" / "PREEMPT.json").is_dir()


@pytest.mark.parametrize("kind", ["fifo", "link", "directory"])
def test_a_result_that_is_no_file_is_invalid_and_not_waited_for(sandbox: Sandbox, kind: str) -> None:
    path = sandbox.work / "result.json"
    {"fifo": lambda: os.mkfifo(path), "link": lambda: path.symlink_to("/etc/passwd"), "directory": path.mkdir}[kind]()
    assert contract.ending_of(GONE, sandbox, "").result_status == "invalid"


def test_every_result_of_the_helper_is_understood(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PILOT_RUN_DIR", str(sandbox.work))
    helper = load_helper()
    with helper.checkpoint():
        pass
    for status in helper.STATUSES:
        helper.result(status)
        assert contract.ending_of(GONE, sandbox, "").result_status == status
