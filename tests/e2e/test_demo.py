"""The demo, through the pilot and in the real image: it shows what it says, and a spoilt model stays on the node."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.e2e.piloted import Rig
from tests.sandboxes import TREE

pytestmark = pytest.mark.apptainer

# Each runs after the training, in the image, and spoils what it has left.
FLIP_A_WEIGHT = """
import hashlib, numpy, onnx
model = onnx.load("model.onnx")
[trees] = [node for node in model.graph.node if node.op_type.startswith("TreeEnsemble")]
[weights] = [each for each in trees.attribute if each.name in ("class_weights", "target_weights")]
largest = max(range(len(weights.floats)), key=lambda index: abs(weights.floats[index]))
weights.floats[largest] = -weights.floats[largest]
content = model.SerializeToString()
open("model.onnx", "wb").write(content)
sample = dict(numpy.load("sample.npz"))  # its digest too, so that only the scores can give the weight away
numpy.savez_compressed("sample.npz", **sample | {"model_sha256": numpy.array(hashlib.sha256(content).hexdigest())})
"""
TRAIN_ON_THE_SAMPLE = """
import numpy
sample = dict(numpy.load("sample.npz"))
sample["training_numbers"] = numpy.append(sample["training_numbers"], sample["numbers"][:1])
numpy.savez_compressed("sample.npz", **sample)
"""
NO_MODEL = "open('model.onnx', 'wb').write(b'')"


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The demo's job as demo/prepare.py lays it out, with the real input."""
    folder = tmp_path_factory.mktemp("demo") / "job"
    argv = [sys.executable, TREE / "demo" / "prepare.py", folder]
    laid_out = subprocess.run(argv, capture_output=True, text=True, timeout=600, check=True)
    job = yaml.safe_load(Path(laid_out.stdout.strip()).read_text())
    assert isinstance(job, dict)
    return {**job, "folder": folder}


def changed(rig: Rig, demo: dict[str, Any], name: str, *more: str, spoil: str = "") -> Path:
    """The demo's job with more arguments of the training, and with something that spoils its work afterwards."""
    folder = rig.jobs / name
    folder.mkdir()
    for each in demo["code"]:
        (folder / each).write_bytes((demo["folder"] / each).read_bytes())
    (folder / "spoil.py").write_text(spoil)
    train = " ".join((*demo["command"], *more))
    keys = {key: value for key, value in demo.items() if key != "folder"}
    keys |= {"name": name, "code": [*demo["code"], "spoil.py"], "attempts": 1}
    keys["command"] = ["sh", "-c", f"{train} && python3 spoil.py"]
    path = folder / "job.json"
    path.write_text(json.dumps(keys))
    return path


def test_the_demo_shows_what_the_pilot_does(rig: Rig) -> None:
    """The script that `scripts/demo` ends in: real data, a real training, and every file that it names."""
    argv = [sys.executable, TREE / "demo" / "show.py", "--output", rig.root / "out", "--format", "json"]
    shown = subprocess.run(
        argv, env=rig.environment(), cwd=rig.root, capture_output=True, text=True, timeout=300, check=False
    )
    assert shown.returncode == 0, shown.stderr
    said = json.loads(shown.stdout)
    report = said["report"]
    assert (report["verdict"], report["validated"], report["attempt"]) == ("succeeded", True, 1)
    assert 0.70 < said["auc"] < 0.80
    assert Path(said["picture"]).read_bytes().startswith(b"\x89PNG")
    assert Path(said["model"]).stat().st_size > 1000
    assert sorted(each["name"] for each in report["outputs"]) == ["metrics.json", "model.onnx", "roc.png", "sample.npz"]
    metrics = json.loads((Path(said["model"]).parent / "metrics.json").read_text())
    losses = [each["loss_train"] for each in metrics["epochs"]]
    assert losses == sorted(losses, reverse=True)
    assert len(losses) == 12
    assert (report["image"]["form"], len(report["image"]["sha256"])) == ("directory", 64)
    assert report["isolation"]["container"] == "apptainer"
    assert report["seconds"]["running"] > 1
    assert "check_model: ok" in (Path(said["model"]).parent / "logs" / "validate.stdout.log").read_text()


@pytest.mark.parametrize(
    ("name", "spoil", "says"),
    [
        ("flipped-weight", FLIP_A_WEIGHT, "disagree on"),
        ("trained-on-the-sample", TRAIN_ON_THE_SAMPLE, "training data"),
        ("no-model", NO_MODEL, "model.onnx"),
    ],
    ids=["flipped-weight", "trained-on-the-sample", "no-model"],
)
def test_a_model_that_is_not_the_trained_one_stays_on_the_node(
    rig: Rig, demo: dict[str, Any], name: str, spoil: str, says: str
) -> None:
    one = rig.one(changed(rig, demo, name, "--epochs", "2", spoil=spoil), runtime="apptainer")
    assert one.fault == ("payload", "payload.invalid")
    assert says in one.report["fault"]["detail"]
    assert (one.report["validated"], one.report["outputs"], one.code) == (False, [], 20)
    assert [each.name for each in one.output.iterdir()] == ["logs"]
    assert "payload.invalid" in one.lines[0]


def test_shuffled_labels_teach_nothing(rig: Rig, demo: dict[str, Any]) -> None:
    """The control of the whole analysis: with labels that mean nothing, the AUC is that of guessing."""
    one = rig.one(changed(rig, demo, "shuffled", "--shuffle-labels"), runtime="apptainer")
    assert one.report["verdict"] == "succeeded", one.out
    assert one.report["validated"] is True
    metrics = json.loads((one.output / "metrics.json").read_text())
    assert abs(metrics["auc"] - 0.5) < 0.04  # 2,944 events: a standard deviation of 0.011


def test_an_input_that_is_not_the_recorded_one_is_refused(rig: Rig, demo: dict[str, Any]) -> None:
    """One byte of the ntuple is another: the job's checksum says so before anything is trained."""
    source = Path(demo["inputs"][0]["url"].removeprefix("file://"))
    content = bytearray(source.read_bytes())
    content[len(content) // 2] ^= 1
    (rig.root / "ntuple.root").write_bytes(content)
    wrong = {**demo, "inputs": [{**demo["inputs"][0], "url": (rig.root / "ntuple.root").as_uri()}]}
    one = rig.one(changed(rig, wrong, "wrong-input"), runtime="apptainer")
    assert one.fault == ("input", "stage-in.checksum")
    assert one.report["exit_code"] is None
