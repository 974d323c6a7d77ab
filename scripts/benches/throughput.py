"""Jobs per second of `true`: the pilot's whole journalled cycle without a container, beside Parsl without a journal."""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benches.rig import Rig, cache
from benches.table import Found, progress, sync_cost
from pilot.model.job import JobSpec

ROUNDS = 3


def measure(options: argparse.Namespace) -> Found:
    """The two in turn, three times."""
    found = Found()
    parsl = _parsl()
    with tempfile.TemporaryDirectory(prefix="pilot-bench-", dir=os.environ.get("PILOT_BENCH_DIR")) as name:
        sync_cost(found, Path(name))
        for number in range(ROUNDS):
            progress(f"round {number + 1} of {ROUNDS}")
            found.add("pilot, bare, journalled", _pilot(Path(name) / str(number), options.jobs), "jobs/s")
            if parsl is not None:
                found.add("parsl, two workers, no journal", _parsl_rate(parsl, Path(name), options.jobs), "jobs/s")
            found.add("subprocess.run, one after another", _floor(options.jobs), "jobs/s")
    found.aim("pilot, bare, journalled", found.median("pilot, bare, journalled"), least=300)
    return found


def _pilot(folder: Path, jobs: int) -> float:
    folder.mkdir()
    rig = Rig(folder)
    rig.add(*[JobSpec(name=f"true-{number}", command=("true",)) for number in range(jobs)])
    with rig.pilot("--runtime", "bare", "--max-jobs", str(jobs), "--prefetch", "8") as pilot:
        reports = [pilot.next() for _ in range(jobs)]
        ended = time.time()
    failed = [each for each in reports if each["verdict"] != "succeeded"]
    if failed:
        raise RuntimeError(f"{len(failed)} jobs failed: {failed[0]['fault']}")
    from benches.overhead import _wall

    return jobs / (ended - min(_wall(each["started"]) for each in reports))


def _floor(jobs: int) -> float:
    began = time.perf_counter()
    for _ in range(jobs):
        subprocess.run(["/bin/true"], check=True)
    return jobs / (time.perf_counter() - began)


def _parsl() -> Path | None:
    """A Python that has Parsl, in the cache; None where it cannot be had."""
    venv = cache() / "bench-parsl"
    python = venv / "bin/python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
    ended = subprocess.run([str(python), "-m", "pip", "install", "-q", "parsl"], check=False)
    if ended.returncode:
        progress("Parsl cannot be had: its row is left out")
        return None
    return python


SCRIPT = """
import sys, time, parsl
from parsl import bash_app
from parsl.config import Config
from parsl.executors import HighThroughputExecutor
from parsl.providers import LocalProvider
workers = HighThroughputExecutor(
    address="127.0.0.1", max_workers_per_node=2, provider=LocalProvider(init_blocks=1, max_blocks=1)
)
parsl.load(Config(executors=[workers], run_dir=sys.argv[2], usage_tracking=0))
@bash_app
def true():
    return "true"
true().result()
began = time.perf_counter()
for each in [true() for _ in range(int(sys.argv[1]))]:
    each.result()
print(int(sys.argv[1]) / (time.perf_counter() - began))
parsl.dfk().cleanup()
"""


def _parsl_rate(python: Path, folder: Path, jobs: int) -> float:
    run_dir = tempfile.mkdtemp(dir=folder)
    path = {**os.environ, "PATH": f"{python.parent}:{os.environ.get('PATH', '/usr/bin:/bin')}"}
    said = subprocess.run(
        [str(python), "-c", SCRIPT, str(jobs), run_dir], capture_output=True, text=True, check=True, env=path
    )
    return float(said.stdout.strip().splitlines()[-1])
