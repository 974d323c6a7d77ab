"""The demo's training and its check, run with the real stack on the real events."""

import json
import random
import shutil
import signal
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from tests.unit.demo.conftest import Bench
from tests.unit.payload.rundir import ROOT

pytestmark = pytest.mark.apptainer
OUTPUTS = {"model.onnx", "metrics.json", "roc.png", "sample.npz"}


@pytest.fixture(scope="module")
def trained(bench: Bench, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run directory after a whole training of 12 epochs."""
    directory = bench.lay_out(tmp_path_factory.mktemp("trained"))
    ended = bench.run(directory, "train.py")
    assert ended.returncode == 0, ended.stderr
    return directory


def metrics_of(directory: Path) -> dict[str, object]:
    document: dict[str, object] = json.loads((directory / "metrics.json").read_text())
    return document


def number(directory: Path, name: str) -> float:
    return float(str(metrics_of(directory)[name]))


def test_it_learns_the_cuts_and_nothing_more(trained: Path) -> None:
    assert 0.70 < number(trained, "auc") < 0.78
    assert number(trained, "auc_common_selection") == pytest.approx(0.5, abs=0.05)
    epochs = metrics_of(trained)["epochs"]
    assert isinstance(epochs, list)
    losses = [line["loss_train"] for line in epochs]
    assert len(losses) == 12
    assert losses == sorted(losses, reverse=True)


def test_no_feature_gives_the_label_away(trained: Path) -> None:
    features = metrics_of(trained)["features"]
    assert isinstance(features, list)
    assert len(features) == len(set(features)) == 56
    tell_tale = (
        "weight_",
        "reg",
        "OS",
        "SS",
        "el",
        "mu",
        "DL1",
        "mv2c10",
        "nb",
        "minimaxmbl",
        "run",
        "event",
        "randum",
    )
    assert not [name for name in features if name.startswith(tell_tale)]


def test_it_writes_what_it_promises(trained: Path) -> None:
    assert {path.name for path in trained.iterdir()} >= OUTPUTS | {"events.jsonl", "result.json"}
    assert (trained / "roc.png").read_bytes().startswith(b"\x89PNG")
    check(trained / "result.json", "result-1.0", [json.loads((trained / "result.json").read_text())])
    lines = [json.loads(line) for line in (trained / "events.jsonl").read_text().splitlines()]
    check(trained / "events.jsonl", "event-1.0", lines)
    assert [line["epoch"] for line in lines if line["type"] == "progress"] == list(range(1, 13))


def check(path: Path, schema: str, documents: list[object]) -> None:
    validator = Draft202012Validator(json.loads((ROOT / "pilot" / "schemas" / f"{schema}.json").read_text()))
    for document in documents:
        assert validator.is_valid(document), f"{path}: {document}"


def test_the_check_catches_every_damage(bench: Bench, trained: Path, tmp_path: Path) -> None:
    """Flipped weights (with the digest set right again), flipped bits, trained-on samples, missing files."""
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    ended = bench.run(tmp_path, "tamper.py", "20261120")
    assert ended.returncode == 0, ended.stderr
    said: dict[str, tuple[int, str]] = json.loads(ended.stdout)
    status, text = said.pop("good")
    assert (status, text.split(",")[0]) == (0, "check_model: ok: 2944 held-out events")
    assert {name: each for name, each in said.items() if each[0] != 1} == {}
    assert {name: each for name, each in said.items() if each[1].count("\n") != 1} == {}
    flipped = {name: each[1] for name, each in said.items() if name.startswith("flipped leaf")}
    assert len(flipped) == 40
    assert {name: text for name, text in flipped.items() if "disagree" not in text} == {}
    wanted = {
        "trained on one number": "training data",
        "trained on one event renumbered": "training data",
        "one score off": "disagree on 1 of 2944",
        "nan leaf": "not finite",
        "better metrics": "claims AUC",
        "cut model": "no ONNX model",
    }
    assert {name: said[name][1] for name, text in wanted.items() if text not in said[name][1]} == {}


def test_shuffled_labels_teach_nothing(bench: Bench, tmp_path: Path) -> None:
    ended = bench.run(bench.lay_out(tmp_path), "train.py", "--shuffle-labels")
    assert ended.returncode == 0, ended.stderr
    assert number(tmp_path, "auc") == pytest.approx(0.5, abs=0.03)


def test_the_same_seed_gives_the_same_model_and_another_seed_another(bench: Bench, tmp_path: Path) -> None:
    models = []
    for name, seed in (("a", 5), ("b", 5), ("c", 6)):
        directory = bench.lay_out(tmp_path / name)
        assert bench.run(directory, "train.py", "--epochs", "2", seed=seed).returncode == 0
        models.append((directory / "model.onnx").read_bytes())
    assert models[0] == models[1]
    assert models[0] != models[2]


def test_stopped_after_every_epoch_it_ends_with_the_same_model(bench: Bench, tmp_path: Path) -> None:
    whole, pieces = bench.lay_out(tmp_path / "whole"), bench.lay_out(tmp_path / "pieces")
    assert bench.run(whole, "train.py", "--epochs", "4").returncode == 0
    (pieces / "control" / "PREEMPT.json").write_text("{}")
    for epoch in (1, 2, 3):
        ended = bench.run(pieces, "train.py", "--epochs", "4")
        assert ended.returncode == 85, ended.stderr
        assert json.loads((pieces / "result.json").read_text())["generation"] == f"gen-{epoch:06d}"
        assert ("resuming" in ended.stdout) == (epoch > 1)
    assert bench.run(pieces, "train.py", "--epochs", "4").returncode == 0
    assert (whole / "model.onnx").read_bytes() == (pieces / "model.onnx").read_bytes()
    assert number(whole, "auc") == number(pieces, "auc")


@pytest.mark.drill
def test_killed_at_any_moment_it_ends_with_the_same_model(bench: Bench, tmp_path: Path) -> None:
    """A checkpoint after every epoch, SIGKILL at drawn epochs: what is there is whole, and the end is the same."""
    draw = random.Random(20261120)
    whole, killed = bench.lay_out(tmp_path / "whole"), bench.lay_out(tmp_path / "killed", interval_s=0.001)
    assert bench.run(whole, "train.py", "--epochs", "8").returncode == 0
    for _ in range(3):
        with bench.popen(killed, "train.py", "--epochs", "8") as process:
            assert process.stdout is not None
            for _line in range(draw.randint(2, 3)):
                process.stdout.readline()
            process.send_signal(signal.SIGKILL)
            process.communicate(timeout=60)
    ended = bench.run(killed, "train.py", "--epochs", "8")
    assert ended.returncode == 0, ended.stderr
    assert "resuming after epoch" in ended.stdout
    assert (whole / "model.onnx").read_bytes() == (killed / "model.onnx").read_bytes()


def test_a_checkpoint_of_another_training_is_not_resumed(bench: Bench, tmp_path: Path) -> None:
    directory = bench.lay_out(tmp_path)
    (directory / "control" / "PREEMPT.json").write_text("{}")
    assert bench.run(directory, "train.py", "--epochs", "3", seed=1).returncode == 85
    (directory / "control" / "PREEMPT.json").unlink()
    ended = bench.run(directory, "train.py", "--epochs", "3", seed=2)
    assert ended.returncode == 0
    assert "resuming" not in ended.stdout
    assert "another training" in (directory / "events.jsonl").read_text()
