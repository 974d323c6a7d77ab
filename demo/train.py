"""Train a classifier of electron-muon against same-flavour events by gradient boosting, in resumable epochs.

Writes model.onnx, metrics.json, roc.png and sample.npz (held-out events with this script's own scores, for
check_model.py). The seed is the job's. Runs on a laptop too: PYTHONPATH=pilot/payload python3 demo/train.py.
"""

import argparse
import hashlib
import json
import pickle
import platform
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import pilot_payload
from dilepton import FEATURES, Events, Floats, Mask, fingerprints, held_out, read
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import log_loss, roc_auc_score, roc_curve

TREES_PER_EPOCH = 25
LEARNING_RATE = 0.02
LEAVES = 8
# A leaf holds at least 40 training events, so about 17 of the recorded sample fall into it: each weight is checked.
EVENTS_PER_LEAF = 40
OPSETS = {"": 18, "ai.onnx.ml": 3}
DEFAULT_SEED = 20200131


@dataclass(frozen=True)
class Plan:
    """What makes one training: the same plan and file give the same model."""

    epochs: int
    shuffled: bool
    seed: int
    file_sha256: str


@dataclass
class Training:
    """Where a training stands: the model so far and one line per epoch."""

    plan: Plan
    model: HistGradientBoostingClassifier
    curve: list[dict[str, float]] = field(default_factory=list)


def main() -> None:
    """Read, train, export, draw."""
    options = parse()
    began = time.monotonic()
    plan = Plan(options.epochs, options.shuffle_labels, pilot_payload.seed(DEFAULT_SEED), sha256(options.input))
    events = read(options.input)
    if plan.shuffled:  # a random stream of its own: the split uses the seed alone
        labels = np.random.default_rng([plan.seed, 1]).permutation(events.labels)
        events = Events(events.numbers, events.features, labels, events.common)
    test = held_out(events.numbers, plan.seed)
    training = resume(plan) or Training(plan, new_model(plan))
    pilot_payload.stop_on_signals()
    train(training, events, test)
    finish(training, events, test, began)


def parse() -> argparse.Namespace:
    """The command line, checked before anything heavy."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--input", type=Path, default=Path("ntuple.root"))
    parser.add_argument("--epochs", type=int, default=12, help=f"each adds {TREES_PER_EPOCH} trees")
    parser.add_argument("--shuffle-labels", action="store_true", help="a control: the AUC must become 0.5")
    options = parser.parse_args()
    if options.epochs < 1:
        parser.error("--epochs: at least 1")
    if not options.input.is_file():
        parser.error(f"--input {options.input}: no such file")
    return options


def sha256(path: Path) -> str:
    """The digest of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def new_model(plan: Plan) -> HistGradientBoostingClassifier:
    """An untrained model: small trees, slow learning, each epoch goes on from the last."""
    return HistGradientBoostingClassifier(
        learning_rate=LEARNING_RATE,
        max_leaf_nodes=LEAVES,
        min_samples_leaf=EVENTS_PER_LEAF,
        early_stopping=False,
        warm_start=True,
        random_state=plan.seed % 2**32,
    )


def train(training: Training, events: Events, test: Mask) -> None:
    """Add epoch after epoch; save and leave when the pilot asks."""
    for epoch in range(len(training.curve) + 1, training.plan.epochs + 1):
        training.model.set_params(max_iter=epoch * TREES_PER_EPOCH)
        training.model.fit(events.features[~test], events.labels[~test])
        line = measure(training.model, events, test)
        training.curve.append(line)
        pilot_payload.progress(epoch=epoch, step=epoch, steps_total=training.plan.epochs, metrics=line)
        print(f"epoch {epoch:3d}  " + "  ".join(f"{name} {value:.4f}" for name, value in line.items()), flush=True)
        if epoch < training.plan.epochs:
            save_if_asked(training)


def measure(model: HistGradientBoostingClassifier, events: Events, test: Mask) -> dict[str, float]:
    """Loss and AUC after an epoch."""
    scores = scores_of(model, events.features)
    return {
        "loss_train": float(log_loss(events.labels[~test], scores[~test])),
        "loss_held_out": float(log_loss(events.labels[test], scores[test])),
        "auc_held_out": float(roc_auc_score(events.labels[test], scores[test])),
    }


def scores_of(model: HistGradientBoostingClassifier, features: Floats) -> Floats:
    """The score of each event, in the precision that ONNX gives."""
    scores: Floats = model.predict_proba(features)[:, 1].astype(np.float32)
    return scores


def save_if_asked(training: Training) -> None:
    """Checkpoint between epochs when the pilot asks, and leave when it says so."""
    if pilot_payload.should_checkpoint():
        with pilot_payload.checkpoint(step=len(training.curve)) as directory:
            (directory / "training.pickle").write_bytes(pickle.dumps(training))
    if pilot_payload.should_stop():
        pilot_payload.leave()


def resume(plan: Plan) -> Training | None:
    """The training so far, unless there is none or it was another one."""
    generation = pilot_payload.latest()
    if generation is None:
        return None
    # A pickle runs code when read: this one is the job's own, restored by the pilot with its checksum.
    training: Training = pickle.loads((generation.path / "training.pickle").read_bytes())
    if training.plan != plan:
        pilot_payload.log(f"{generation.name} is of another training: starting anew", level="warning")
        return None
    print(f"resuming after epoch {len(training.curve)} from {generation.name}", flush=True)
    return training


def finish(training: Training, events: Events, test: Mask, began: float) -> None:
    """Write everything that the job promises."""
    scores = scores_of(training.model, events.features)
    digest = export(training.model)
    record(events, test, scores, digest)
    metrics = summary(training, events, test, scores) | {"seconds": round(time.monotonic() - began, 3)}
    Path("metrics.json").write_text(json.dumps(metrics, indent=1) + "\n")
    draw(training, events[test], scores[test])
    for name, kind in (("model.onnx", "model"), ("metrics.json", "metrics"), ("roc.png", "picture")):
        pilot_payload.artifact(name, kind)
    last = training.curve[-1]
    pilot_payload.result(loss=last["loss_held_out"], objectives={"auc": last["auc_held_out"]})
    print(f"AUC {metrics['auc']:.4f} on {int(test.sum())} held-out events")


def export(model: HistGradientBoostingClassifier) -> str:
    """Write model.onnx; gives its checksum."""
    from skl2onnx import to_onnx

    converted = to_onnx(model, np.zeros((1, len(FEATURES)), np.float32), options={"zipmap": False}, target_opset=OPSETS)
    content = converted.SerializeToString()
    Path("model.onnx").write_bytes(content)
    return hashlib.sha256(content).hexdigest()


def record(events: Events, test: Mask, scores: Floats, model_sha256: str) -> None:
    """Write the recorded sample: all held-out events, this script's scores, and who was trained on."""
    np.savez_compressed(
        "sample.npz",
        features=events.features[test],
        scores=scores[test],
        labels=events.labels[test].astype(np.int8),
        numbers=events.numbers[test],
        training_numbers=events.numbers[~test],
        training_fingerprints=fingerprints(events.features[~test]),
        model_sha256=np.array(model_sha256),
    )


def summary(training: Training, events: Events, test: Mask, scores: Floats) -> dict[str, object]:
    """What metrics.json says."""
    common = test & events.common
    return {
        "auc": float(roc_auc_score(events.labels[test], scores[test])),
        "auc_train": float(roc_auc_score(events.labels[~test], scores[~test])),
        "auc_common_selection": float(roc_auc_score(events.labels[common], scores[common])),
        "auc_of_the_cuts_alone": float(roc_auc_score(events.labels[test], ~events.common[test])),
        "loss": training.curve[-1]["loss_held_out"],
        "epochs": [{"epoch": number, **line} for number, line in enumerate(training.curve, 1)],
        "trees": len(training.curve) * TREES_PER_EPOCH,
        "events": {"all": len(test), "train": int((~test).sum()), "held_out": int(test.sum())},
        "elmu_events": int(events.labels.sum()),
        "features": FEATURES,
        "plan": asdict(training.plan),
        "versions": versions(),
    }


def versions() -> dict[str, str]:
    """What was at work."""
    names = ("numpy", "sklearn", "uproot", "skl2onnx", "onnx")
    return {"python": platform.python_version()} | {name: str(sys.modules[name].__version__) for name in names}


def draw(training: Training, test: Events, scores: Floats) -> None:
    """The ROC curve beside the loss per epoch (no pyplot: it costs half a second and wants a display)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4.6), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    everything = np.ones(len(scores), dtype=bool)
    for name, chosen, style in (("all held-out events", everything, "C0-"), ("same cuts for both", test.common, "C1-")):
        wrong, right_rate, _ = roc_curve(test.labels[chosen], scores[chosen])
        left.plot(
            wrong,
            right_rate,
            style,
            lw=2,
            label=f"{name}: AUC {roc_auc_score(test.labels[chosen], scores[chosen]):.3f}",
        )
    left.plot([0, 1], [0, 1], "k:", lw=1, label="guessing: 0.5")
    left.set(
        xlabel="fraction of same-flavour events taken for $e\\mu$",
        ylabel="fraction of $e\\mu$ events found",
        title="ROC",
        aspect="equal",
    )
    epochs = range(1, len(training.curve) + 1)
    for name, label in (("loss_train", "training"), ("loss_held_out", "held out")):
        right.plot(epochs, [line[name] for line in training.curve], "o-", ms=4, label=label)
    right.set(xlabel=f"epoch ({TREES_PER_EPOCH} trees each)", ylabel="log loss", title="Loss")
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)
    shuffled = " (labels shuffled)" if training.plan.shuffled else ""
    figure.suptitle(rf"$e\mu$ against $ee$ and $\mu\mu${shuffled}: ATLAS tW dilepton ntuple, gradient boosting")
    figure.savefig("roc.png", dpi=110)


if __name__ == "__main__":
    main()
