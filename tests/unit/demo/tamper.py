"""Spoils what a training wrote, in many ways, and prints what check_model.py says to each as one JSON object.

Runs in the image, beside the payload, because it needs onnx. Each damage starts from the good files.
"""

import hashlib
import io
import json
import random
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import check_model
import numpy as np
import onnx

MODEL, SAMPLE, METRICS = Path("model.onnx"), Path("sample.npz"), Path("metrics.json")


def verdict() -> list[object]:
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        status = check_model.main()
    return [status, out.getvalue() + err.getvalue()]


def put_sample(**changes: np.ndarray) -> None:
    np.savez_compressed(SAMPLE, **(GOOD_SAMPLE | changes))


def put_model(model: onnx.ModelProto) -> None:
    """Store a model together with its new digest, so that only its scores can give it away."""
    content = model.SerializeToString()
    MODEL.write_bytes(content)
    put_sample(model_sha256=np.array(hashlib.sha256(content).hexdigest()))


def weights(model: onnx.ModelProto) -> onnx.AttributeProto:
    (node,) = [node for node in model.graph.node if node.op_type.startswith("TreeEnsemble")]
    (found,) = [each for each in node.attribute if each.name in ("class_weights", "target_weights")]
    return found


def with_weight(index: int, value: float) -> list[object]:
    model = onnx.load_from_string(GOOD_MODEL)
    weights(model).floats[index] = value
    put_model(model)
    return verdict()


def with_sample(**changes: np.ndarray) -> list[object]:
    put_sample(**changes)
    return verdict()


def with_bit(position: int) -> list[object]:
    content = bytearray(GOOD_MODEL)
    content[position // 8] ^= 1 << position % 8
    MODEL.write_bytes(bytes(content))
    return verdict()


def restore() -> None:
    MODEL.write_bytes(GOOD_MODEL)
    METRICS.write_text(GOOD_METRICS)
    put_sample()


def each(damages: dict[str, object]) -> dict[str, list[object]]:
    said = {}
    for name, damage in damages.items():
        restore()
        said[name] = damage()  # type: ignore[operator]
    restore()
    return said


def damages(seed: int) -> dict[str, object]:
    draw = random.Random(seed)
    leaves = list(weights(onnx.load_from_string(GOOD_MODEL)).floats)
    # 1e-3 moves a score by at most 2.5e-4 and by 1e-4 where it stands at 0.9: well above the limit of 1e-5.
    heavy = [index for index, weight in enumerate(leaves) if abs(weight) > 1e-3]
    found: dict[str, object] = {
        f"flipped leaf {index}": lambda index=index: with_weight(index, -leaves[index])
        for index in draw.sample(heavy, 40)
    }
    for position in draw.sample(range(8 * len(GOOD_MODEL)), 40):
        found[f"bit {position}"] = lambda position=position: with_bit(position)
    found["nan leaf"] = lambda: with_weight(heavy[0], float("nan"))
    found["infinite leaf"] = lambda: with_weight(heavy[0], float("inf"))
    found["empty model"] = lambda: (MODEL.write_bytes(b""), verdict())[1]
    found["no model"] = lambda: (MODEL.unlink(), verdict())[1]
    found["cut model"] = lambda: (MODEL.write_bytes(GOOD_MODEL[: len(GOOD_MODEL) // 2]), verdict())[1]
    found["no sample"] = lambda: (SAMPLE.unlink(), verdict())[1]
    found["no metrics"] = lambda: (METRICS.unlink(), verdict())[1]
    found["better metrics"] = lambda: (
        METRICS.write_text(GOOD_METRICS.replace('"auc": 0.', '"auc": 0.9', 1)),
        verdict(),
    )[1]
    found.update(of_the_sample())
    return found


def of_the_sample() -> dict[str, object]:
    known = GOOD_SAMPLE["training_numbers"].copy()
    known[17] = GOOD_SAMPLE["numbers"][5]
    prints = GOOD_SAMPLE["training_fingerprints"].copy()
    prints[17] = check_model.fingerprints(GOOD_SAMPLE["features"][5:6])[0]
    scores = GOOD_SAMPLE["scores"].copy()
    scores[5] += 1e-4
    unknown = scores.copy()
    unknown[5] = np.nan
    return {
        "trained on one number": lambda: with_sample(training_numbers=known),
        "trained on one event renumbered": lambda: with_sample(training_fingerprints=prints),
        "one score off": lambda: with_sample(scores=scores),
        "one score nan": lambda: with_sample(scores=unknown),
        "empty sample": lambda: with_sample(features=GOOD_SAMPLE["features"][:0], scores=scores[:0]),
    }


GOOD_MODEL, GOOD_METRICS = MODEL.read_bytes(), METRICS.read_text()
with np.load(SAMPLE, allow_pickle=False) as archive:
    GOOD_SAMPLE = {name: archive[name] for name in archive}

if __name__ == "__main__":
    json.dump({"good": verdict(), **each(damages(int(sys.argv[1])))}, sys.stdout)
