"""How long an ML payload takes to start, in each form of the image."""

import argparse
import os
import subprocess
import tempfile
import time
from pathlib import Path

from benches.rig import images
from benches.table import Found, progress

CODE = "import uproot, sklearn.ensemble, onnxruntime"
ROUNDS = 5


def measure(options: argparse.Namespace) -> Found:
    """The forms in turn, after one warm-up each."""
    found = Found()
    apptainer = os.environ.get("PILOT_APPTAINER") or _print("scripts/get-apptainer", "--print")
    forms = {form: images("ml-base", form) for form in ("sif", "directory")}
    with tempfile.TemporaryDirectory(prefix="pilot-bench-") as name:
        for number in range(min(ROUNDS, options.rounds) + 1):
            progress(f"round {number} of {min(ROUNDS, options.rounds)}")
            for form, image in forms.items():
                spent = _start(apptainer, image, Path(name))
                if number:
                    found.add(f"(h) {CODE}: {form}", spent, "s")
    found.ratio("sif/directory", f"(h) {CODE}: sif", f"(h) {CODE}: directory")
    return found


def _print(*argv: str) -> str:
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout.strip()


def _start(apptainer: str, image: Path, folder: Path) -> float:
    argv = [
        apptainer,
        "-q",
        "exec",
        "--userns",
        "--containall",
        "--workdir",
        str(folder),
        str(image),
        "python3",
        "-c",
        CODE,
    ]
    began = time.perf_counter()
    subprocess.run(argv, check=True, env={"PATH": "/usr/bin:/bin", "HOME": str(folder)}, stdin=subprocess.DEVNULL)
    return time.perf_counter() - began
