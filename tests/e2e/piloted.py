"""The pilot as a person runs it: the real command, in a place of its own, and the proof that nothing of it is left."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pilot.adapters.matcher_classad import ClassAdMatcher
from pilot.model.plain import full_plain
from pilot.queue.store import open_store
from pilot.queue.users import LocalQueue
from pilot.supervisor import procs
from tests.sandboxes import TREE, apptainer, apptainer_cache

ZOO = TREE / "tests" / "payloads"
PATIENCE_S = 60.0
_PASSED_ON = ("PATH", "PILOT_APPTAINER", "LANG")


@dataclass(frozen=True)
class Ended:
    """How one command ended, and what it said."""

    code: int
    out: str
    err: str
    seconds: float = 0.0

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()

    @property
    def said(self) -> list[str]:
        return self.err.splitlines()

    def json(self) -> Any:
        return json.loads(self.out)

    def objects(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.lines]


@dataclass(frozen=True)
class One(Ended):
    """One job of `pilot run --job`: what the terminal showed, the report, and where things were put."""

    report: dict[str, Any] = field(default_factory=dict)
    output: Path = Path()
    state: Path = Path()

    @property
    def fault(self) -> tuple[str, str]:
        found = self.report["fault"]
        return (found["party"], found["code"]) if found else ("", "")

    def log(self, name: str) -> bytes:
        return (self.output / "logs" / f"{name}.log").read_bytes()


class Rig:
    """One place with a home, a TMPDIR, job files, outputs and state directories."""

    def __init__(self, root: Path, cache: Path | None = None) -> None:
        self.root = root
        self.cache = cache or apptainer_cache()
        self.tmp, self.home, self.jobs = root / "tmp", root / "home", root / "jobs"
        for each in (self.tmp, self.home, self.jobs):
            each.mkdir()

    # --- commands ---

    def environment(self, **more: str) -> dict[str, str]:
        own = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
        places = {"HOME": str(self.home), "TMPDIR": str(self.tmp), "PILOT_CACHE": str(self.cache)}
        return {**own, **places, "PYTHONPATH": str(TREE), "PILOT_ADOPT_WINDOW": "1s", "PILOT_GRACE": "2s", **more}

    @contextlib.contextmanager
    def begin(
        self, *arguments: str | Path, cwd: Path | None = None, prefix: Sequence[str] = (), **env: str
    ) -> Iterator[subprocess.Popen[str]]:
        """Runs `pilot ARGUMENTS`, behind the words of `prefix`, in `cwd`; kills it where the test forgot it."""
        argv = [*prefix, sys.executable, "-m", "pilot", *map(str, arguments)]
        with subprocess.Popen(
            argv, env=self.environment(**env), cwd=cwd or self.root, stdin=subprocess.DEVNULL, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
        ) as process:  # fmt: skip
            try:
                yield process
            finally:
                if process.poll() is None:
                    process.send_signal(signal.SIGKILL)

    def pilot(self, *arguments: str | Path, cwd: Path | None = None, prefix: Sequence[str] = (), **env: str) -> Ended:
        """Runs `pilot ARGUMENTS` to its end."""
        began = time.monotonic()
        with self.begin(*arguments, cwd=cwd, prefix=prefix, **env) as process:
            out, err = process.communicate(timeout=PATIENCE_S)
        return Ended(process.returncode, out, err, time.monotonic() - began)

    # --- jobs ---

    def job(self, name: str, *command: str, zoo: Sequence[str] = (), **keys: object) -> Path:
        """A job file in a folder of its own, with payloads of the zoo beside it that travel as its code."""
        folder = self.jobs / name
        folder.mkdir()
        for each in zoo:
            shutil.copy(ZOO / each, folder / each)
        code = {"code": list(zoo)} if zoo else {}
        path = folder / "job.json"
        path.write_text(json.dumps({"name": name, "command": list(command), **code, **keys}))
        return path

    def one(self, job: Path, *flags: str | Path, runtime: str = "bare", **env: str) -> One:
        """`pilot run --job`, in text; the report is read from the queue that it leaves in its state directory."""
        name = job.parent.name
        output, state = self.root / "out" / name, self.root / "state" / name
        places = ("--output", output, "--state", state, "--runtime", runtime)
        ended = self.pilot("run", "--job", job, *places, *flags, **env)
        reports = self.reports(state / "job.db") if (state / "job.db").exists() else []
        return One(ended.code, ended.out, ended.err, ended.seconds, reports[-1] if reports else {}, output, state)

    def reports(self, database: Path, job: str = "") -> list[dict[str, Any]]:
        """Every report that a queue has accepted, as users read them."""
        queue = LocalQueue(open_store(database), ClassAdMatcher(), "")
        with contextlib.closing(queue):
            ids = [job] if job else [each.job_id for each in queue.find()]
            return [full_plain(each) for name in ids for each in queue.results(name)]  # type: ignore[misc]

    # --- queues ---

    @property
    def url(self) -> str:
        return f"sqlite:{self.root}/queue.db"

    def queue(self, *jobs: Path) -> list[str]:
        """Hands jobs to the rig's queue, which is made on first use; gives their ids."""
        if not (self.root / "queue.db").exists():
            made = self.pilot("queue", "init", "--queue", self.url, "--output", self.root / "out")
            assert made.code == 0, made.err
        if not jobs:
            return []
        added = self.pilot("queue", "add", "--queue", self.url, "--format", "json", *jobs)
        assert added.code == 0, added.err
        return [each["job_id"] for each in added.json()]

    def serve(self, *flags: str | Path, runtime: str = "bare", **env: str) -> Ended:
        """A pilot on the rig's queue that leaves when there is no more work."""
        places = ("--state", self.root / "state" / "queue", "--runtime", runtime, "--format", "json")
        return self.pilot("run", "--queue", self.url, *places, "--idle-exit", "0.3s", *flags, **env)

    # --- what is left ---

    def left(self) -> list[str]:
        """Processes, mounts, sandboxes and temporary files that should be gone."""
        return [*self._processes(), *self._mounts(), *map(str, self.tmp.iterdir()), *map(str, self._sandboxes())]

    def _processes(self) -> list[str]:
        return [text for each in procs.table() if each.state not in "ZX" and (text := self._ours(each.pid))]

    def _ours(self, pid: int) -> str:
        if pid == os.getpid():
            return ""
        words = [_read(pid, "cmdline"), _read(pid, "environ"), _read(pid, "cwd")]
        return f"{pid} {words[0]!r}" if os.fsencode(f"{self.root}/") in b"/ ".join(words) + b"/" else ""

    def _mounts(self) -> list[str]:
        return [each for each in Path("/proc/self/mountinfo").read_text().splitlines() if str(self.root) in each]

    def _sandboxes(self) -> list[Path]:
        return [*self.root.glob("state/*/scratch/jobs/*"), *self.root.glob("state/*/*.sock")]


def _read(pid: int, name: str) -> bytes:
    """What /proc says of a process; nothing of one that has gone, or is somebody else's."""
    path = Path(f"/proc/{pid}/{name}")
    try:
        return os.fsencode(os.readlink(path)) if path.is_symlink() else path.read_bytes()
    except OSError:
        return b""


def until(true: Any, patience_s: float = 20.0) -> None:
    """Waits for something that nobody announces."""
    deadline = time.monotonic() + patience_s
    while not true():
        assert time.monotonic() < deadline, f"still not so after {patience_s} s"
        time.sleep(0.02)


def until_nothing_is_left(rig: Rig, patience_s: float = 10.0) -> None:
    """Ten seconds are what the pilot promises."""
    deadline = time.monotonic() + patience_s
    while left := rig.left():
        assert time.monotonic() < deadline, f"left behind: {left}"
        time.sleep(0.05)


def needs_apptainer() -> None:
    """Its absence is a failure, never a silent skip."""
    apptainer()
