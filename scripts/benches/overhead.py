"""What the pilot adds around a payload, and what it costs while it waits."""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from benches.rig import ROOT, Rig, Running, cycle, images
from benches.table import Found, progress, sync_cost
from pilot.model.files import Input, Output
from pilot.model.job import JobSpec

MEGABYTE = 1_000_000
IDLE_SECONDS = 20.0


def measure(options: argparse.Namespace) -> Found:
    """All rows, the alternatives alternating."""
    found = Found()
    with tempfile.TemporaryDirectory(prefix="pilot-bench-", dir=os.environ.get("PILOT_BENCH_DIR")) as name:
        folder = Path(name)
        sync_cost(found, folder)
        for form, most in (("sif", 1.25), ("directory", 1.35)):
            progress(f"(a) (b) (c) {form}, {options.rounds} rounds")
            (folder / form).mkdir()
            _cycles(found, Rig(folder / form), form, options.rounds)
            found.ratio(f"b/a {form}", f"(b) whole cycle, {form}", f"(a) apptainer exec true, {form}")
            found.aim(f"b/a {form}", found.ratios[f"b/a {form}"], most=most)
        (folder / "edges").mkdir()
        progress("(d) (e) (f) start, exit, SIGTERM")
        _edges(found, Rig(folder / "edges"), max(5, options.rounds // 2))
        (folder / "idle").mkdir()
        progress(f"(g) waiting for {IDLE_SECONDS:.0f} s")
        _idle(found, Rig(folder / "idle"))
    return found


def _cycles(found: Found, rig: Rig, form: str, rounds: int) -> None:
    image = str(images("test-tiny", form))
    data = rig.folder / "megabyte"
    data.write_bytes(os.urandom(MEGABYTE))
    plain = JobSpec(name="true", command=("true",), image=image)
    files = replace(
        plain,
        command=("cp", "in.bin", "out.bin"),
        inputs=(Input(data.as_uri(), "in.bin"),),
        outputs=(Output("out.bin"),),
    )
    with rig.pilot() as pilot:
        rig.add(plain)
        argv, environment = _direct(rig, pilot)
        for number in range(rounds + 1):
            _direct_run(found if number else Found(), argv, environment, form)
            rig.add(plain)
            _note(found if number else Found(), f"(b) whole cycle, {form}", pilot)
            rig.add(files)
            _note(found if number else Found(), f"(c) the same with 1 MB in and out, {form}", pilot)


def _note(found: Found, row: str, pilot: Running) -> None:
    report = pilot.next()
    if report["verdict"] != "succeeded":
        raise RuntimeError(f"{row}: {report['fault']}")
    found.add(row, cycle(report), "ms")


def _direct(rig: Rig, pilot: Running) -> tuple[list[str], dict[str, str]]:
    """The very command of a real cycle, less our entry script: taken from a dry run of the same job."""
    pilot.next()
    spec = JobSpec(
        name="shape",
        command=("true",),
        image=str(images("test-tiny", "sif" if rig.folder.name == "sif" else "directory")),
    )
    other = Rig(_made(rig.folder / "shape"))
    other.add(spec)
    argv = [
        sys.executable,
        "-m",
        "pilot",
        "run",
        "--queue",
        other.url,
        "--state",
        str(other.folder / "state"),
        "--dry-run",
        "--format",
        "json",
    ]
    said = subprocess.run(argv, capture_output=True, text=True, check=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    plan = json.loads(said.stdout)["would_claim"]
    command = _without_entry(plan["argv"])
    _make_sandbox(command)
    return command, {"PATH": "/usr/bin:/bin:/usr/sbin:/sbin", "HOME": str(rig.folder)}


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def _without_entry(argv: list[str]) -> list[str]:
    """Up to the image: what follows is the entry script and the job's command."""
    image = next(index for index, word in enumerate(argv) if word.endswith((".sif", ".dir")) and index > 3)
    return [*argv[: image + 1], "/bin/true"]


def _make_sandbox(argv: list[str]) -> None:
    """The directories and files that the binds name."""
    for word in argv:
        for part in word.replace(":", ",").split(","):
            path = part.removeprefix("src=")
            if "/scratch/jobs/" not in path:
                continue
            if Path(path).suffix or Path(path).name in ("env", "entry"):
                Path(path).parent.mkdir(parents=True, exist_ok=True)
                Path(path).touch()
            else:
                Path(path).mkdir(parents=True, exist_ok=True)


def _direct_run(found: Found, argv: list[str], environment: dict[str, str], form: str) -> None:
    began = time.perf_counter()
    subprocess.run(argv, check=True, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    found.add(f"(a) apptainer exec true, {form}", (time.perf_counter() - began) * 1000, "ms")


def _edges(found: Found, rig: Rig, rounds: int) -> None:
    image = str(images("test-tiny", "directory"))
    for _ in range(rounds):
        rig.add(JobSpec(name="true", command=("true",), image=image))
        with rig.pilot("--max-jobs", "1") as pilot:
            report = pilot.next()
            said = time.perf_counter()
            pilot.process.wait(30)
            found.add("(e) last report to exit", time.perf_counter() - said, "s")
            found.add("(d) start of pilot run to its first claim", _wall(report["started"]) - pilot.begun, "s")
        _sigterm(found, rig, image)
    found.aim("(d)", found.median("(d) start of pilot run to its first claim"), most=0.5)
    found.aim("(e)", found.median("(e) last report to exit"), most=0.5)
    found.aim("(f)", found.median("(f) SIGTERM to final report"), most=0.5)


def _sigterm(found: Found, rig: Rig, image: str) -> None:
    rig.add(JobSpec(name="sleep", command=("sleep", "600"), image=image, attempts=1, max_interruptions=0))
    with rig.pilot() as pilot:
        _until_running(rig)
        pilot.process.send_signal(signal.SIGTERM)
        began = time.perf_counter()
        pilot.next()
        found.add("(f) SIGTERM to final report", time.perf_counter() - began, "s")


def _until_running(rig: Rig) -> None:
    """The payload itself is there: a process `sleep 600` of ours."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        for entry in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                if entry.read_bytes() == b"sleep\x00600\x00" and entry.parent.stat().st_uid == os.getuid():
                    return
            except OSError:
                continue
        time.sleep(0.02)
    raise RuntimeError("the payload did not start")


def _wall(text: str) -> float:
    from datetime import datetime

    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


def _idle(found: Found, rig: Rig) -> None:
    with rig.pilot() as pilot:
        time.sleep(3)
        supervisor = _supervisor(rig)
        before, began = _cpu(pilot.process.pid), time.monotonic()
        time.sleep(IDLE_SECONDS)
        share = (_cpu(pilot.process.pid) - before) / (time.monotonic() - began) * 100
        found.add("(g) pilot, resident while waiting", _resident(pilot.process.pid), "MB")
        found.add("(g) supervisor, resident", _resident(supervisor), "MB")
        found.add("(g) CPU while waiting", share, "% core")
    found.aim("(g) resident", found.median("(g) pilot, resident while waiting"), most=45)
    found.aim("(g) CPU", found.median("(g) CPU while waiting"), most=0.1)


def _supervisor(rig: Rig) -> int:
    state = str(rig.folder / "state")
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = entry.read_bytes().split(b"\x00")
        except OSError:
            continue
        if state.encode() in words and b"run" not in words:
            return int(entry.parent.name)
    raise RuntimeError("no supervisor")


def _cpu(pid: int) -> float:
    """User and system seconds; ticks are too coarse, so the scheduler's own nanoseconds."""
    return sum(int(each.read_text().split()[0]) for each in Path(f"/proc/{pid}/task").glob("*/schedstat")) / 1e9


def _resident(pid: int) -> float:
    line = next(each for each in Path(f"/proc/{pid}/status").read_text().splitlines() if each.startswith("VmRSS"))
    return int(line.split()[1]) * 1024 / 1e6
