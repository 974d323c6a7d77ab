"""Check that model.onnx is usable and is the model that was trained, before anything leaves the node.

The `validate` step of the demo: runs the recorded sample through onnxruntime and compares with the scores that the
training itself gave; exits 1 with one line where something is wrong.
"""

import hashlib
import json
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from dilepton import FEATURES, Floats, fingerprints

TOLERANCE = 1e-5  # scikit-learn adds 300 leaves in double, ONNX in single precision: 2e-7 is seen
AUC_TOLERANCE = 1e-6


class Unfit(Exception):
    """The model may not leave the node; the message says why."""


def main() -> int:
    """Exit status 0 and what was found, or 1 and what is wrong."""
    try:
        print(f"check_model: ok: {check(Path())}")
    except Unfit as error:
        print(f"check_model: {error}", file=sys.stderr)
        return 1
    return 0


def check(directory: Path) -> str:
    """Run every check; gives the line that says what was found."""
    sample = load_sample(directory / "sample.npz")
    check_never_trained_on(sample)
    content = (directory / "model.onnx").read_bytes() if (directory / "model.onnx").is_file() else b""
    check_weights(content)
    difference = check_scores(sample, run(content, sample["features"]))
    auc = check_auc(sample, directory / "metrics.json")
    if hashlib.sha256(content).hexdigest() != str(sample["model_sha256"]):
        raise Unfit("model.onnx was changed after the training exported it (its sha256 differs)")
    events = len(sample["labels"])
    return f"{events} held-out events, largest difference {difference:.1e} (limit {TOLERANCE:.0e}), AUC {auc:.4f}"


def load_sample(path: Path) -> dict[str, np.ndarray]:
    """The recorded sample, complete and of the right shape."""
    wanted = ("features", "scores", "labels", "numbers", "training_numbers", "training_fingerprints", "model_sha256")
    try:
        with np.load(path, allow_pickle=False) as archive:
            sample = {name: archive[name] for name in wanted}
    except (OSError, ValueError, KeyError) as error:
        raise Unfit(f"{path.name}: no recorded sample ({one_line(error)})") from error
    if sample["features"].shape != (len(sample["scores"]), len(FEATURES)) or len(sample["scores"]) == 0:
        raise Unfit(f"{path.name}: {sample['features'].shape} features for {len(sample['scores'])} scores")
    return sample


def check_never_trained_on(sample: dict[str, np.ndarray]) -> None:
    """By number and by content: a renumbered training event is found too."""
    same_number = np.isin(sample["numbers"], sample["training_numbers"])
    same_content = np.isin(fingerprints(sample["features"]), sample["training_fingerprints"])
    count = int((same_number | same_content).sum())
    if count:
        raise Unfit(f"{count} events of the recorded sample are training data")


def check_weights(content: bytes) -> None:
    """Every number in the model is finite."""
    import onnx
    from google.protobuf.message import DecodeError

    try:
        model = onnx.load_from_string(content)
        onnx.checker.check_model(model)
    except (DecodeError, onnx.checker.ValidationError, ValueError) as error:
        raise Unfit(f"model.onnx is no ONNX model ({one_line(error)})") from error
    if not all(np.isfinite(numbers).all() for numbers in numbers_of(model)):
        raise Unfit("model.onnx has a weight that is not finite")


def numbers_of(model: "onnx.ModelProto") -> Iterable[np.ndarray]:  # noqa: F821
    """Every number stored in the model."""
    from onnx import numpy_helper

    for initializer in model.graph.initializer:
        yield numpy_helper.to_array(initializer)
    for node in model.graph.node:
        for attribute in node.attribute:
            yield np.array([attribute.f, *attribute.floats], dtype=np.float64)
            if attribute.HasField("t"):
                yield numpy_helper.to_array(attribute.t)


def run(content: bytes, features: Floats) -> Floats:
    """The model's own scores for the sample, on the CPU."""
    import onnxruntime
    from onnxruntime.capi import onnxruntime_pybind11_state as errors

    refusals = (errors.Fail, errors.InvalidGraph, errors.InvalidProtobuf, errors.InvalidArgument)
    refusals = (*refusals, errors.NotImplemented, errors.RuntimeException, errors.NoSuchFile, ValueError)
    try:
        session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
        name = session.get_inputs()[0].name
        output = session.run(["probabilities"], {name: features})[0]
    except refusals as error:
        raise Unfit(f"onnxruntime refuses model.onnx ({one_line(error)})") from error
    if output.shape != (len(features), 2):
        raise Unfit(f"model.onnx gives scores of shape {output.shape}, wanted ({len(features)}, 2)")
    scores: Floats = output[:, 1]
    return scores


def check_scores(sample: dict[str, np.ndarray], scores: Floats) -> float:
    """The largest difference from the training's own scores, within the limit."""
    if not np.isfinite(scores).all():
        raise Unfit("model.onnx gives scores that are not finite")
    difference = np.abs(scores.astype(np.float64) - sample["scores"])
    apart = int((difference > TOLERANCE).sum())
    if apart or np.isnan(difference).any():
        raise Unfit(
            f"model.onnx and the training disagree on {apart} of {len(scores)} recorded events "
            f"(by up to {difference.max():.2g}, limit {TOLERANCE:.0e})"
        )
    return float(difference.max())


def check_auc(sample: dict[str, np.ndarray], path: Path) -> float:
    """The AUC in metrics.json is the AUC of the recorded scores."""
    try:
        claimed = float(json.loads(path.read_text())["auc"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Unfit(f"{path.name}: no AUC in it ({one_line(error)})") from error
    found = auc_of(sample["labels"] == 1, sample["scores"])
    if not abs(claimed - found) <= AUC_TOLERANCE:
        raise Unfit(f"{path.name} claims AUC {claimed:.6f}, the recorded scores give {found:.6f}")
    return found


def auc_of(positive: np.ndarray, scores: Floats) -> float:
    """The chance that a signal event scores above a background event, ties counted half."""
    values, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    signal = np.bincount(inverse, weights=positive, minlength=len(values))
    background = counts - signal
    below = np.cumsum(background) - background
    return float((signal * (below + background / 2)).sum() / (signal.sum() * background.sum()))


def one_line(error: BaseException) -> str:
    """The error as one short line."""
    return " ".join(str(error).split())[:200] or type(error).__name__


if __name__ == "__main__":
    sys.exit(main())
