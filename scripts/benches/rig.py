"""A queue, a pilot on it, and the image to run in: what the benchmarks share."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pilot.assemble.queue import make_queue, open_queue
from pilot.config.settings import Settings
from pilot.model.queue import QueueSettings, Submission

ROOT = Path(__file__).resolve().parents[2]


def cache() -> Path:
    """The project's cache."""
    return Path(
        os.environ.get("PILOT_CACHE") or Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "pilot"
    )


def images(name: str, form: str) -> Path:
    """The image of that name and form; built if it is not there."""
    subprocess.run(
        [sys.executable, "-m", "pilot", "image", "build", name, "--form", form], check=True, stdout=subprocess.DEVNULL
    )
    pattern = f"{name}-*.sif" if form == "sif" else f"{name}-*.dir"
    return max((cache() / "images").glob(pattern), key=lambda each: each.stat().st_mtime)


class Rig:
    """One queue in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.url = f"sqlite:{folder}/queue.db"
        make_queue(self.url, QueueSettings("default", "bench", destination=(folder / "out").as_uri()))
        self.queue = open_queue(self.url, "default", "bench")

    def add(self, *specs: object) -> list[str]:
        """Hands jobs in; gives their ids."""
        return [row.job_id for row in self.queue.add([Submission(each) for each in specs])]  # type: ignore[arg-type]

    @contextmanager
    def pilot(self, *flags: str) -> Iterator["Running"]:
        """A pilot process on the queue."""
        running = Running(self, flags)
        try:
            yield running
        finally:
            running.end()


class Running:
    """A pilot that runs; its printed objects are read one by one."""

    def __init__(self, rig: Rig, flags: tuple[str, ...]) -> None:
        argv = [
            sys.executable,
            "-m",
            "pilot",
            "run",
            "--queue",
            rig.url,
            "--state",
            str(rig.folder / "state"),
            "--format",
            "json",
            *flags,
        ]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        self.begun = time.time()
        self.process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env=environment)

    def next(self) -> dict:
        """The next object it prints."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError("the pilot ended early")
        return json.loads(line)

    def end(self) -> float:
        """Ends it; seconds from now to its exit."""
        began = time.perf_counter()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)
        if self.process.stdout:
            self.process.stdout.close()
        return time.perf_counter() - began


def cycle(report: dict) -> float:
    """Milliseconds from the claim to the acknowledged report."""
    return sum(report["seconds"].values()) * 1000


__all__ = ["ROOT", "Rig", "Running", "Settings", "cache", "cycle", "images"]
