"""Run the demo's job through the pilot and say in a few lines what happened; `scripts/demo` has set everything up."""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from urllib.parse import unquote, urlsplit

HERE = Path(__file__).resolve().parent
PILOT = [sys.executable, "-m", "pilot"]


def main() -> int:
    """Exit 0 when the job succeeded, else the exit code of the step that did not."""
    options = _options()
    began = time.monotonic()
    target = options.output or HERE.parent / "demo-output" / time.strftime("%Y%m%d-%H%M%S")
    with tempfile.TemporaryDirectory(prefix="pilot-demo-") as scratch:
        steps = Steps(Path(scratch))
        try:
            report = steps.run(target.resolve())
        except Failed as problem:
            print(f"demo: {problem}", file=sys.stderr)
            return problem.code
    _tell(report, steps.node, target.resolve(), time.monotonic() - began, options.format)
    return 0 if report["verdict"] == "succeeded" else 20


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, epilog="Example: scripts/demo --output /tmp/demo")
    parser.add_argument("--output", type=Path, help="where the outputs land")
    parser.add_argument("--format", choices=["text", "json"], default="text")
    return parser.parse_args()


class Failed(Exception):
    """A step failed; the message says which and what to do."""

    def __init__(self, text: str, code: int) -> None:
        super().__init__(text)
        self.code = code


class Steps:
    """The demo, step by step, with progress on stderr."""

    def __init__(self, scratch: Path) -> None:
        self._scratch = scratch
        self.node: dict[str, object] = {}

    def run(self, target: Path) -> dict[str, object]:
        """Image, input, queue, pilot; gives the job's report."""
        _say("1/5 image ml-base: built from Debian's packages if it is not here yet (a few minutes, once)")
        _call([*PILOT, "image", "build", "ml-base"], show=True)
        _say("2/5 input: the ATLAS tW dilepton ntuple, 9,812 events")
        job = _call([sys.executable, str(HERE / "prepare.py"), str(self._scratch / "job")]).strip()
        _say("3/5 probe: what this node may use")
        self.node = json.loads(_call([*PILOT, "probe", "--format", "json"]))
        _say("4/5 queue: one job handed in")
        queue = f"sqlite:{self._scratch}/queue.db"
        _call([*PILOT, "queue", "init", "--queue", queue, "--output", str(target)])
        _call([*PILOT, "queue", "add", "--queue", queue, job])
        _say("5/5 pilot: claims it, stages in, trains in the container, validates, stages out, reports")
        state = ["--state", str(self._scratch / "state")]
        said = _call(
            [*PILOT, "run", "--queue", queue, *state, "--max-jobs", "1", "--idle-exit", "5s", "--format", "json"]
        )
        reports = [
            json.loads(line) for line in said.splitlines() if '"verdict"' in line and '"pilot":' not in line[:12]
        ]
        if not reports:
            why = _call([*PILOT, "queue", "explain", "--queue", queue, "dilepton-classifier"])
            raise Failed(f"the pilot found no job that fits this node: {why.strip()}", 71)
        return dict(reports[-1])


def _call(argv: list[str], show: bool = False) -> str:
    environment = {**os.environ, "PYTHONPATH": str(HERE.parent)}
    ended = subprocess.run(
        argv, stdout=subprocess.PIPE, stderr=None if show else subprocess.PIPE, text=True, check=False, env=environment
    )
    if ended.returncode != 0:
        said = (ended.stderr or "").strip().splitlines()
        raise Failed(said[-1] if said else f"{argv[3]} failed with exit code {ended.returncode}", ended.returncode)
    return ended.stdout


def _say(text: str) -> None:
    print(f"demo: {text}", file=sys.stderr)


def _tell(report: dict, node: dict, target: Path, seconds: float, style: str) -> None:
    outputs = {each["name"]: unquote(urlsplit(each["url"]).path) for each in report["outputs"]}
    metrics = json.loads(Path(outputs["metrics.json"]).read_text()) if "metrics.json" in outputs else {}
    if style == "json":
        found = {"auc": metrics.get("auc"), "model": outputs.get("model.onnx"), "picture": outputs.get("roc.png")}
        print(json.dumps({"report": report, **found}))
        return
    print(_summary(report, node, outputs, metrics, target, seconds))


def _summary(report: dict, node: dict, outputs: dict, metrics: dict, target: Path, seconds: float) -> str:
    slot, spent = node["slot"], report["seconds"]
    phases = ", ".join(f"{name.replace('_', '-')} {value:.2f} s" for name, value in spent.items() if value >= 0.005)
    lines = [
        "",
        f"verdict   {report['verdict']}" + (f": {report['fault']['detail']}" if report["fault"] else ""),
        f"node      {slot['cpus']} cores, {slot['memory_bytes'] / 2**30:.1f} GiB,"
        f" {slot['scratch_bytes'] / 2**30:.0f} GiB scratch, {slot['microarch'] or slot['arch']}",
        f"matched   {report['name']}, attempt {report['attempt']}: {len(report['share']['cpus'])} cores,"
        f" image {Path(report['image']['path']).name} ({report['image']['form']}, {report['image']['verified']})",
        f"phases    {phases}",
        f"AUC       {metrics.get('auc', float('nan')):.3f}"
        f" on {metrics.get('events', {}).get('held_out', '?')} held-out events",
        f"validated {report['validated']}: the ONNX model gives the payload's own scores",
        f"outputs   {target}",
        f"picture   {outputs.get('roc.png', 'none')}",
        f"in all    {seconds:.1f} s",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
