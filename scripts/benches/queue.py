"""The embedded queue at scale: 1,000 shapes, 1,000 pilots, one file; the same claims before 10 k, 100 k, 1 M jobs."""

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

from benches.rig import ROOT
from benches.table import Found, progress, sync_cost
from pilot.adapters.matcher_classad import ClassAdMatcher
from pilot.model.capability import Accelerator, Offer
from pilot.model.job import GpuNeeds, Grant, JobSpec, Needs, Verdict
from pilot.model.queue import QueueSettings, Submission
from pilot.model.report import Report
from pilot.ports import ClaimRequest
from pilot.queue.local import LocalServer
from pilot.queue.settings import write_settings
from pilot.queue.store import create_store, open_store
from pilot.queue.users import LocalQueue

SHAPES, OWNERS, PILOTS = 1000, 10, 1000
BATCH = 20
BATCHES = 100  # and as many to warm up and by others, so that 10,000 jobs are enough
WARM = 40  # the first batches read shapes and offers
GIB = 1 << 30
SIZES = {"10 k": 10_000, "100 k": 100_000, "1 M": 1_000_000}
FULL = {**SIZES, "10 M": 10_000_000}
SWEEP = 200_000
MICROARCH = ("x86_64-v2", "x86_64-v3", "x86_64-v4")


def measure(options: argparse.Namespace) -> Found:
    """Each size in processes of its own: one that fills, one that claims."""
    found = Found()
    sizes = FULL if options.full else SIZES
    with tempfile.TemporaryDirectory(prefix="pilot-bench-", dir=os.environ.get("PILOT_BENCH_DIR")) as name:
        sync_cost(found, Path(name))
        progress(f"one sweep of {SWEEP:,} jobs")
        _take(found, _child("sweep", Path(name) / "sweep.db", SWEEP), "sweep of one template")
        for label, size in sizes.items():
            progress(f"{label} jobs in {SHAPES:,} shapes")
            path = Path(name) / f"{size}.db"
            _take(found, _child("fill", path, size), f"filling, {label}")
            for role in ("claim", "cycle", "beside"):
                _take(found, _child(role, path, size), f"{role}, {label}")
            path.unlink()
    _judge(found, list(sizes))
    return found


def _child(role: str, path: Path, size: int) -> dict:
    argv = [sys.executable, "-m", "benches.queue", role, str(path), str(size)]
    said = subprocess.run(argv, stdout=subprocess.PIPE, text=True, check=True, cwd=ROOT)
    return json.loads(said.stdout)


def _take(found: Found, said: dict, label: str) -> None:
    for row, (values, unit) in said.items():
        for value in values:
            found.add(f"{label}: {row}", value, unit)


def _judge(found: Found, labels: list[str]) -> None:
    low, row = labels[0], "a claim of 20"
    for high in labels[1:]:
        found.ratio(f"claim at {high} / {low}", f"claim, {high}: {row}", f"claim, {low}: {row}")
        found.ratio(f"CPU of a claim at {high} / {low}", f"claim, {high}: {row}, CPU", f"claim, {low}: {row}, CPU")
        found.aim(f"claim at {high} / {low}", found.ratios[f"claim at {high} / {low}"], most=1.2)
    for label in labels:
        found.aim(f"claims/s, {label}", found.median(f"claim, {label}: claims in a row"), least=3000)
        largest = max(found.median(f"{role}, {label}: memory") for role in ("filling", "claim", "cycle", "beside"))
        found.aim(f"memory, {label}", largest, most=500)
    found.aim("memory, sweep", found.median("sweep of one template: memory"), most=500)
    found.aim("sweep", found.median("sweep of one template: jobs handed in"), least=50_000)


# --- in the children ----------------------------------------------------------------------------------------------

Rows = dict[str, tuple[list[float], str]]


def needs_of(number: int) -> tuple[Needs, ...]:
    """One of the shapes: most small, some large, one in ten with accelerators."""
    gpus = GpuNeeds(1 + number % 4, (8 + number % 3 * 16) * GIB) if number % 10 == 9 else GpuNeeds()
    walltime = 600 * (number % 7)
    return (Needs(1 + number % 16, (1 + number // 16) * GIB // 2, GIB * (number % 5), walltime, gpus),)


def template(number: int) -> JobSpec:
    """The description of a sweep of that shape."""
    expression = 'TARGET.Microarch >= "x86_64-v3"' if number % 10 == 3 else ""
    command = ("python3", "train.py", "--lr", "{lr}", "--seed", "{seed}")
    return JobSpec(f"sweep{number}", command, "ml-base", needs=needs_of(number), requirements=expression)


def values(jobs: int) -> Iterator[dict[str, str]]:
    """The parameters of so many jobs."""
    return ({"lr": f"{each % 1000 / 1e5:.5f}", "seed": str(each)} for each in range(jobs))


def offers() -> list[Offer]:
    """The pilots, each with something else free."""
    chance = random.Random(1)
    return [_offer(number, chance) for number in range(PILOTS)]


def _offer(number: int, chance: random.Random) -> Offer:
    devices = [Accelerator(f"GPU-{number}-{each}", "nvidia", "A100", 40 * GIB, "8.0") for each in range(number % 5)]
    memory, scratch = chance.randrange(16 * GIB, 256 * GIB), chance.randrange(50 * GIB, 900 * GIB)
    seconds = chance.choice([0.0, chance.uniform(3600, 86400)])
    return Offer(f"n{number}/p", f"n{number}", chance.randrange(4, 64), memory, scratch, seconds, tuple(devices),
                 microarch=MICROARCH[number % 3])  # fmt: skip


def fill(path: Path, size: int) -> Rows:
    """A queue of that many jobs: a sweep for each shape, the shapes dealt out to the owners."""
    create_store(path)
    store = open_store(path)
    write_settings(store, QueueSettings("default", "bench", lease_seconds=3600.0))
    began = time.perf_counter()
    for number in range(SHAPES):
        user = LocalQueue(store, ClassAdMatcher(), f"owner{number % OWNERS}")
        user.add_sweep(Submission(template(number)), values(size // SHAPES))
    spent = time.perf_counter() - began
    store.close()
    return {"jobs": ([size / spent], "1/s"), "memory": ([peak()], "MB")}


def sweep(path: Path, size: int) -> Rows:
    """One sweep of that many jobs."""
    create_store(path)
    store = open_store(path)
    write_settings(store, QueueSettings("default", "bench"))
    with closing(store):
        user = LocalQueue(store, ClassAdMatcher(), "ada")
        began, cpu = time.perf_counter(), time.process_time()
        user.add_sweep(Submission(template(0)), values(size))
        spent, worked = time.perf_counter() - began, time.process_time() - cpu
    return {
        "jobs handed in": ([size / spent], "1/s"),
        "jobs handed in, CPU alone": ([size / worked], "1/s"),
        "memory": ([peak()], "MB"),
    }


def claim(path: Path, _: int) -> Rows:
    """Batches of claims, each of another pilot, and nothing else."""
    return _batches(path, lambda server, grants: None)


def cycle(path: Path, _: int) -> Rows:
    """Batches of claims, each followed by the reports of what was granted."""
    return _batches(path, lambda server, grants: server.report([_report(each) for each in grants]))


def beside(path: Path, _: int) -> Rows:
    """Batches of claims, while somebody else hands in a job between any two of them."""
    other = open_store(path)
    user = LocalQueue(other, ClassAdMatcher(), "owner1")
    with closing(other):
        return _batches(path, lambda server, grants: user.add([Submission(template(1))]))


def _batches(path: Path, after: Callable[[LocalServer, list[Grant]], object]) -> Rows:
    crowd, born = offers(), time.perf_counter()
    server = LocalServer(open_store(path), ClassAdMatcher())
    prefix, chance = os.urandom(6).hex(), random.Random(2)
    times: list[float] = []
    worked: list[float] = []
    granted, whole, first = 0, 0.0, 0.0
    for number in range(-WARM, BATCHES):
        offer = crowd[chance.randrange(PILOTS)]
        requests = [ClaimRequest(f"{prefix}-{number}-{each}", offer) for each in range(BATCH)]
        began, cpu = time.perf_counter(), time.process_time()
        grants = [each for each in server.claim(requests) if each is not None]
        spent, busy = time.perf_counter() - began, time.process_time() - cpu
        after(server, grants)
        first = first or (time.perf_counter() - born) * 1000
        if number >= 0:
            times.append(spent * 1000)
            worked.append(busy * 1000)
            granted += len(grants)
            whole += time.perf_counter() - began
    server.close()
    return {
        "a claim of 20": (times, "ms"),
        "a claim of 20, CPU": (worked, "ms"),
        "a claim of 20, 99 of 100": ([sorted(times)[int(len(times) * 0.99)]], "ms"),
        "from a start to the first batch": ([first], "ms"),
        "claims in a row": ([granted / whole], "1/s"),
        "granted of asked": ([granted / BATCH / BATCHES], ""),
        "memory": ([peak()], "MB"),
    }


def _report(grant: Grant) -> Report:
    return Report(grant.job_id, grant.attempt, grant.spec.name, Verdict.SUCCEEDED, "", "")


def peak() -> float:
    """The most memory this process ever had resident, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


if __name__ == "__main__":
    WORK = {"fill": fill, "sweep": sweep, "claim": claim, "cycle": cycle, "beside": beside}
    print(json.dumps(WORK[sys.argv[1]](Path(sys.argv[2]), int(sys.argv[3]))))
