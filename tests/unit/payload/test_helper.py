"""The helper that payloads import: what it writes, what it refuses, and how it stops."""

import ast
import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

from tests.unit.payload.rundir import HELPER, load_helper


def events(run: Path, kind: str | None = None) -> list[dict[str, object]]:
    lines = [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]
    return [line for line in lines if kind is None or line["type"] == kind]


def result_of(run: Path) -> dict[str, object]:
    document: dict[str, object] = json.loads((run / "result.json").read_text())
    return document


@pytest.fixture
def restored_signals() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_it_parses_as_python_3_8_and_imports_the_standard_library_alone() -> None:
    tree = ast.parse(HELPER.read_text(), feature_version=(3, 8))
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.split(".")[0] for name in imported} <= sys.stdlib_module_names
    assert not {"subprocess", "socket", "threading", "dataclasses"} & imported  # each costs a payload's start


def test_contract_is_typed(helper: ModuleType, run_dir: Path) -> None:
    granted = helper.contract()
    assert (granted.job_id, granted.attempt, granted.seed, granted.cpus) == ("17", 2, 4711, 2)
    assert granted.memory_bytes == 2**31
    assert granted.run_dir == run_dir
    assert granted.deadline == pytest.approx(time.time() + 3600, abs=60)
    assert granted.raw["name"] == "training"


def test_a_later_minor_version_is_read(helper: ModuleType, write_contract: Callable[..., None]) -> None:
    write_contract(contract="1.7", something_new={"a": 1})
    assert helper.contract().version == "1.7"


@pytest.mark.parametrize("version", ["2.0", "0.9", "", None, 1.0])
def test_another_major_version_is_refused(
    helper: ModuleType, write_contract: Callable[..., None], version: object
) -> None:
    write_contract(contract=version)
    with pytest.raises(helper.ContractError, match=r"remove the copy of pilot_payload\.py"):
        helper.contract()


def test_another_major_version_is_refused_by_the_first_event(
    helper: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PILOT_CONTRACT", "2.0")
    with pytest.raises(helper.ContractError, match="PILOT_CONTRACT"):
        helper.progress(step=1)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"contract": "1.0"}'])
def test_a_broken_contract_is_one_clear_line(helper: ModuleType, run_dir: Path, text: str) -> None:
    (run_dir / "contract.json").write_text(text)
    with pytest.raises(helper.ContractError, match=r"contract\.json") as caught:
        helper.contract()
    assert "\n" not in str(caught.value)


def test_progress_is_one_line_each_after_one_greeting(helper: ModuleType, run_dir: Path) -> None:
    helper.progress(epoch=1, step=10, steps_total=100, metrics={"loss": 0.5})
    helper.progress(epoch=2, metrics={"loss": 0.0})
    assert [line["type"] for line in events(run_dir)] == ["hello", "progress", "progress"]
    assert events(run_dir, "progress")[1]["metric"] == {"loss": 0.0}


def test_a_metric_that_is_not_finite_is_named_and_null(helper: ModuleType, run_dir: Path) -> None:
    helper.progress(step=3, metrics={"loss": math.nan, "lr": 0.1, "norm": math.inf})
    (line,) = events(run_dir, "progress")
    assert line["metric"] == {"loss": None, "lr": 0.1, "norm": None}
    assert line["nonfinite"] == ["loss", "norm"]


def test_an_event_too_long_for_one_line_is_refused(helper: ModuleType, run_dir: Path) -> None:
    with pytest.raises(helper.ContractError, match="send fewer metrics"):
        helper.progress(metrics={f"metric-{number:0100d}": 1.0 for number in range(100)})


def test_a_link_in_place_of_the_event_file_is_not_followed(
    helper: ModuleType, run_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (run_dir / "events.jsonl").symlink_to(run_dir / "elsewhere")
    helper.progress(step=1)
    helper.progress(step=2)
    assert not (run_dir / "elsewhere").exists()
    assert capsys.readouterr().err.count("progress is not recorded") == 1


def test_lines_of_several_writers_never_mix(run_dir: Path) -> None:
    code = (
        "import pilot_payload as p\n"
        "for n in range(200): p.progress(step=n, metrics={'m' * 100 + str(i): n for i in range(20)})"
    )
    environment = os.environ | {"PYTHONPATH": str(HELPER.parent), "PYTHONDONTWRITEBYTECODE": "1"}
    writers = [subprocess.Popen([sys.executable, "-c", code], env=environment) for _ in range(3)]
    assert [writer.wait(60) for writer in writers] == [0, 0, 0]
    assert len(events(run_dir, "progress")) == 600


def test_an_artifact_is_announced_relative_to_the_run_directory(helper: ModuleType, run_dir: Path) -> None:
    (run_dir / "model.onnx").write_bytes(b"12345")
    helper.artifact("model.onnx", kind="model")
    assert events(run_dir, "artifact")[0] | {"t": 0} == {
        "t": 0,
        "type": "artifact",
        "path": "model.onnx",
        "bytes": 5,
        "kind": "model",
    }
    with pytest.raises(helper.ContractError, match="outside the working directory"):
        helper.artifact("/etc/hostname")


def test_a_loss_of_zero_is_a_loss(helper: ModuleType, run_dir: Path) -> None:
    helper.result(loss=0.0, objectives={"auc": 0.75}, metadata={"events": 9812})
    assert result_of(run_dir)["loss"] == 0.0
    assert result_of(run_dir)["objectives"] == {"auc": 0.75}
    assert [path.name for path in run_dir.iterdir() if path.suffix == ".tmp"] == []


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_not_finite_is_no_result(helper: ModuleType, run_dir: Path, bad: float) -> None:
    for arguments in ({"loss": bad}, {"objectives": {"auc": bad}}, {"metadata": {"x": [bad]}}):
        with pytest.raises(helper.ContractError):
            helper.result(**arguments)
    with pytest.raises(helper.ContractError, match="loss=None"):
        helper.result(status="diverged", loss=1.0)
    assert not (run_dir / "result.json").exists()
    helper.result(status="diverged")
    assert (result_of(run_dir)["status"], result_of(run_dir)["loss"]) == ("diverged", None)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"status": "finished"}, "one of succeeded"),
        ({"status": "checkpointed"}, "without a checkpoint"),
        ({"metadata": {"x": object()}}, "plain, finite values"),
        ({"metadata": {"x": "y" * 2**20}}, "use an output file"),
    ],
)
def test_a_malformed_result_is_refused(
    helper: ModuleType, run_dir: Path, arguments: dict[str, object], message: str
) -> None:
    with pytest.raises(helper.ContractError, match=message):
        helper.result(**arguments)
    assert not (run_dir / "result.json").exists()


def test_an_error_is_described(helper: ModuleType, run_dir: Path) -> None:
    try:
        raise OSError("no such branch")
    except OSError as error:
        helper.result(status="failed", error=error)
    described = result_of(run_dir)["error"]
    assert isinstance(described, dict)
    assert (described["type"], described["message"]) == ("OSError", "no such branch")
    assert "test_helper.py" in described["traceback"]


def test_a_checkpoint_is_a_generation(helper: ModuleType, run_dir: Path) -> None:
    assert helper.latest() is None
    with helper.checkpoint(step=40) as directory:
        assert directory.name == "gen-000001.tmp"
        (directory / "deep").mkdir()
        (directory / "deep" / "state.bin").write_bytes(b"x" * 100)
        assert helper.latest() is None
    generation = helper.latest()
    assert (generation.number, generation.name, generation.step) == (1, "gen-000001", 40)
    assert (generation.path / "deep" / "state.bin").read_bytes() == b"x" * 100
    assert (run_dir / "checkpoint" / "LATEST").read_text() == "gen-000001\n"
    assert events(run_dir, "checkpoint")[0]["path"] == "checkpoint/gen-000001"


def test_a_checkpoint_that_fails_leaves_the_one_before(helper: ModuleType, run_dir: Path) -> None:
    with helper.checkpoint(step=1) as directory:
        (directory / "state").write_text("good")
    with pytest.raises(FileNotFoundError), helper.checkpoint(step=2) as directory:
        (directory / "missing" / "state").write_text("half")
    assert helper.latest().step == 1
    assert sorted(path.name for path in (run_dir / "checkpoint").iterdir()) == ["LATEST", "gen-000001"]


def test_old_generations_go(helper: ModuleType, run_dir: Path) -> None:
    for step in range(5):
        with helper.checkpoint(step=step):
            pass
    kept = sorted(path.name for path in (run_dir / "checkpoint").iterdir())
    assert kept == ["LATEST", "gen-000004", "gen-000005"]


def test_killed_at_any_point_of_a_save_the_latest_is_whole(run_dir: Path) -> None:
    """A child is killed at every system-call-sized step of its second save; what is left must be complete."""
    program = (
        "import os, sys, pilot_payload as p\n"
        "left = int(sys.argv[1])\n"
        "def hook(event, arguments):\n"
        "    global left\n"
        "    watched = 'open os.rename os.mkdir os.remove os.rmdir os.scandir os.listdir'.split()\n"
        "    if armed and event in watched:\n"
        "        left -= 1\n"
        "        if left < 0: os.kill(os.getpid(), 9)\n"
        "armed = False\n"
        "sys.addaudithook(hook)\n"
        "for step in (1, 2, 3):\n"
        "    armed = step == 3\n"
        "    with p.checkpoint(step=step) as d: (d / 'state').write_text(str(step) * 1000)\n"
    )
    environment = os.environ | {"PYTHONPATH": str(HELPER.parent), "PYTHONDONTWRITEBYTECODE": "1"}
    seen = []
    for point in range(100):
        subprocess.run(["rm", "-rf", str(run_dir / "checkpoint")], check=True)
        ended = subprocess.run([sys.executable, "-c", program, str(point)], env=environment, timeout=60, check=False)
        newest = load_helper().latest()
        assert newest.step in (2, 3)
        assert (newest.path / "state").read_text() == str(newest.step) * 1000
        with load_helper().checkpoint(step=9):  # and whoever comes next can save
            pass
        assert load_helper().latest().step == 9
        seen.append(newest.step)
        if ended.returncode == 0:
            break
    assert ended.returncode == 0
    assert len(seen) > 15
    assert seen == sorted(seen)


def test_nothing_is_asked_until_the_pilot_asks(helper: ModuleType) -> None:
    assert not helper.should_stop()
    assert not helper.should_checkpoint()
    assert not helper.should_drain()


def test_preempt_means_save_and_leave(helper: ModuleType, run_dir: Path) -> None:
    (run_dir / "control" / "PREEMPT.json").write_text("{}")
    assert helper.should_stop()
    assert helper.should_checkpoint()
    assert helper.should_drain()


def test_drain_means_begin_nothing_new(helper: ModuleType, run_dir: Path) -> None:
    (run_dir / "control" / "DRAIN").write_text("{}")
    assert helper.should_drain()
    assert not helper.should_stop()


@pytest.mark.parametrize(("first", "second"), [('{"sequence": 1}', '{"sequence": 2}')])
def test_checkpoint_now_asks_once_per_message(helper: ModuleType, run_dir: Path, first: str, second: str) -> None:
    request = run_dir / "control" / "CHECKPOINT_NOW"
    request.write_text(first)
    assert helper.should_checkpoint()
    assert not helper.should_stop()
    with helper.checkpoint():
        request.write_text(second)  # comes while saving: it is a new request
    assert helper.should_checkpoint()
    with helper.checkpoint():
        pass
    assert not helper.should_checkpoint()


def test_an_empty_checkpoint_now_counts(helper: ModuleType, run_dir: Path) -> None:
    (run_dir / "control" / "CHECKPOINT_NOW").touch()
    assert helper.should_checkpoint()


def test_the_interval_asks(helper: ModuleType, write_contract: Callable[..., None]) -> None:
    write_contract(checkpoint_interval_s=0.05)
    deadline = time.monotonic() + 5
    while not helper.should_checkpoint():
        assert time.monotonic() < deadline
    with helper.checkpoint():
        pass
    assert not helper.should_checkpoint()


def test_it_leaves_in_time_to_save_once_more(helper: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PILOT_DEADLINE", str(time.time() + 5))
    assert not helper.should_stop()
    helper._state.slowest_save = 4.0
    assert helper.should_stop()


def test_a_signal_only_sets_a_flag(helper: ModuleType, restored_signals: None) -> None:
    helper.stop_on_signals()
    os.kill(os.getpid(), signal.SIGTERM)
    assert helper.should_stop()
    assert helper.should_checkpoint()


def test_leave_tells_the_pilot_what_to_resume(helper: ModuleType, run_dir: Path) -> None:
    with pytest.raises(SystemExit) as ended:
        helper.leave()
    assert ended.value.code == 99
    assert not (run_dir / "result.json").exists()
    with helper.checkpoint(step=3):
        pass
    with pytest.raises(SystemExit) as ended:
        helper.leave()
    assert ended.value.code == 85
    assert (result_of(run_dir)["status"], result_of(run_dir)["generation"]) == ("checkpointed", "gen-000001")


def test_on_a_laptop_the_same_script_runs(
    laptop: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    laptop.progress(epoch=1, metrics={"loss": 0.25})
    laptop.log("reading")
    laptop.result(loss=0.25)
    assert (laptop.contract(), laptop.deadline(), laptop.seed(7)) == (None, None, 7)
    assert laptop.seconds_left() == math.inf
    assert not laptop.should_stop()
    assert not laptop.should_checkpoint()
    assert list(tmp_path.iterdir()) == []
    assert "loss" in capsys.readouterr().err
