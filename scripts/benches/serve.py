"""`pilot queue serve` under load: claims of 20, reports and heartbeats over HTTPS, arriving whatever the answers take.

Before 100 k and before 1 M waiting jobs. Open loop: each request has its moment, and what it took is counted from that
moment. More is sent than the aims ask for, so that each aim can be missed. Server and load are two processes on the
same cores.
"""

import argparse
import asyncio
import json
import os
import random
import signal
import ssl
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benches.queue import offers
from benches.rig import ROOT
from benches.table import Found, progress, sync_cost
from pilot.model.job import Verdict
from pilot.model.plain import to_plain
from pilot.model.queue import JobRow
from pilot.model.report import Report

SIZES = {"100 k": 100_000, "1 M": 1_000_000}
BATCH, CONNECTIONS, SECONDS, WARM_SECONDS = 20, 200, 20.0, 4.0
# Requests in a second, 320: 1,200 claims, as many reports, heartbeats of jobs that run.
RATES = {"claim": 60, "report": 60, "renew": 200}
GRID = "/api/v1/grid/"


def measure(_options: argparse.Namespace) -> Found:
    """One served queue and one load for each size."""
    found = Found()
    with tempfile.TemporaryDirectory(prefix="pilot-bench-", dir=os.environ.get("PILOT_BENCH_DIR")) as name:
        sync_cost(found, Path(name))
        for label, size in SIZES.items():
            _one(found, Path(name), label, size)
    return found


def _one(found: Found, folder: Path, label: str, size: int) -> None:
    path = folder / f"queue{size}.db"
    progress(f"a queue of {label} jobs")
    fill = [sys.executable, "-m", "benches.queue", "fill", str(path), str(size)]
    subprocess.run(fill, stdout=subprocess.DEVNULL, check=True, cwd=ROOT)
    with served(path) as (url, process):
        progress(f"{sum(RATES.values())} requests a second for {SECONDS:.0f} s, {CONNECTIONS} connections")
        said = _load(url, path.with_name(f"{path.stem}-keys"))
        busy, memory = _used(process.pid)
    path.unlink()
    _tell(found, label, said, (busy, memory))


@contextmanager
def served(path: Path) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """The service as a process, on a port that is free."""
    words = [sys.executable, "-m", "pilot", "queue", "serve", "--queue", f"sqlite:{path}", "--listen", "localhost:0"]
    subprocess.run([*words, "--setup"], check=True, stdout=subprocess.DEVNULL, cwd=ROOT)
    process = subprocess.Popen([*words, "--log-level", "error"], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip(), process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)


def _load(url: str, keys: Path) -> dict:
    argv = [sys.executable, "-m", "benches.serve", url, str(keys)]
    return json.loads(subprocess.run(argv, stdout=subprocess.PIPE, text=True, check=True, cwd=ROOT).stdout)


def _used(pid: int) -> tuple[float, float]:
    """Seconds of CPU, and the most memory in MB."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    status = Path(f"/proc/{pid}/status").read_text()
    peak = next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK"), int(peak) * 1024 / 1e6


def _tell(found: Found, label: str, said: dict, used: tuple[float, float]) -> None:
    busy, memory = used
    for verb, times in said["times"].items():
        for each in times:
            found.add(f"{label}: {verb} of {BATCH}", each, "ms")
        found.add(f"{label}: {verb}, 99 of 100", _high(times), "ms")
    whole = _high([each for times in said["times"].values() for each in times])
    answered, claimed = said["answered"] / said["seconds"], said["granted"] / said["seconds"]
    found.add(f"{label}: any request, 99 of 100", whole, "ms")
    found.add(f"{label}: requests answered", answered, "1/s")
    found.add(f"{label}: jobs claimed", claimed, "1/s")
    found.add(f"{label}: CPU of the service a request", 1000 * busy / max(said["all"], 1), "ms")
    found.add(f"{label}: memory of the service", memory, "MB")
    found.add(f"{label}: requests that went wrong", said["wrong"], "")
    found.aim(f"requests/s, {label}", answered, least=300)
    found.aim(f"claims/s, {label}", claimed, least=1000)
    found.aim(f"99 of 100, {label}", whole, most=20)
    found.aim(f"memory, {label}", memory, most=500)
    found.aim(f"requests that went wrong, {label}", said["wrong"], most=0)


def _high(times: list[float]) -> float:
    return sorted(times)[int(len(times) * 0.99)] if times else 0.0


# --- the load, in a process of its own ------------------------------------------------------------------------------


@dataclass
class Load:
    """What is on its way, and what came of it."""

    pilots: list[bytes]
    token: str
    times: dict[str, list[float]] = field(default_factory=lambda: {each: [] for each in RATES})
    ready: deque[JobRow] = field(default_factory=deque)
    running: deque[JobRow] = field(default_factory=lambda: deque(maxlen=4000))
    free: asyncio.Queue = field(default_factory=asyncio.Queue)
    granted: int = 0
    answered: int = 0
    all: int = 0
    wrong: int = 0
    number: int = 0
    counting: bool = False

    def body(self, verb: str) -> bytes:
        """The next request of that kind."""
        if verb == "claim":
            self.number += 1
            claims = [[f"c{self.number}-{each}", 0] for each in range(BATCH)]
            return b'{"offers":[' + random.choice(self.pilots) + b'],"claims":' + json.dumps(claims).encode() + b"}"
        if verb == "report":
            jobs = [self.ready.popleft() for _ in range(min(BATCH, len(self.ready)))]
            reports = [Report(each.job_id, each.attempt, each.name, Verdict.SUCCEEDED, "", "") for each in jobs]
            return json.dumps({"reports": to_plain(reports)}).encode()
        jobs = random.sample(list(self.running), min(BATCH, len(self.running)))
        beats = [{"job_id": each.job_id, "attempt": each.attempt, "phase": "running"} for each in jobs]
        return json.dumps({"beats": beats}).encode()

    def take(self, verb: str, found: dict) -> None:
        """What an answer brings."""
        self.all += 1
        self.wrong += not found["success"]
        if verb == "claim" and found["success"]:
            for each in found["data"]["grants"]:
                if each is not None:
                    row = JobRow(each["job_id"], each["attempt"], "n", "o", "granted")  # type: ignore[arg-type]
                    self.ready.append(row)
                    self.running.append(row)
                    self.granted += self.counting


async def _ask(load: Load, verb: str, due: float) -> None:
    loop = asyncio.get_running_loop()
    reader, writer = await load.free.get()
    body = load.body(verb)
    head = f"POST {GRID}{verb} HTTP/1.1\r\nHost: q\r\nAuthorization: Bearer {load.token}\r\n"
    writer.write(f"{head}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
    answer = await reader.readuntil(b"\r\n\r\n")
    length = next(int(each[15:]) for each in answer.split(b"\r\n") if each.lower().startswith(b"content-length:"))
    found = json.loads(await reader.readexactly(length))
    load.free.put_nowait((reader, writer))
    load.take(verb, found)
    if load.counting:
        load.answered += 1
        load.times[verb].append(1000 * (loop.time() - due))


async def _drive(url: str, keys: Path) -> dict:
    load = Load(
        [json.dumps(to_plain(each)).encode() for each in offers()], (keys / "pilot-pilot.token").read_text().strip()
    )
    context = ssl.create_default_context(cafile=str(keys / "ca.pem"))
    for _ in range(CONNECTIONS):
        load.free.put_nowait(await asyncio.open_connection("localhost", int(url.rpartition(":")[2]), ssl=context))
    loop = asyncio.get_running_loop()
    begun, tasks = loop.time(), []
    plan = sorted(
        (each / rate, verb) for verb, rate in RATES.items() for each in range(int(rate * (WARM_SECONDS + SECONDS)))
    )
    for moment, verb in plan:
        await asyncio.sleep(max(0.0, begun + moment - loop.time()))
        load.counting = moment >= WARM_SECONDS
        tasks.append(asyncio.create_task(_ask(load, verb, begun + moment)))
    await asyncio.gather(*tasks)
    return {"times": load.times, "answered": load.answered, "all": load.all, "granted": load.granted,
            "wrong": load.wrong, "seconds": max(SECONDS, loop.time() - begun - WARM_SECONDS)}  # fmt: skip


if __name__ == "__main__":
    random.seed(1)
    print(json.dumps(asyncio.run(_drive(sys.argv[1], Path(sys.argv[2])))))
