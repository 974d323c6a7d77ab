"""One round: a queue with a few jobs, a pilot that is killed, pilots that go on, and the checker's findings."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from pilot.adapters.matcher_classad import ClassAdMatcher
from pilot.model.queue import QueueSettings
from pilot.queue.settings import write_settings
from pilot.queue.store import create_store, open_store
from pilot.queue.users import LocalQueue
from tests.drills.arms import hit, kill_supervisors
from tests.drills.checker import Restart, Round, check, processes_of
from tests.drills.menu import Scenario
from tests.sandboxes import TREE, apptainer_cache

LOOK_SECONDS = 0.005
PILOT_SECONDS = 40.0  # a pilot that has not ended by itself by then hangs
MOST_PILOTS = 4
GONE_SECONDS = 0.5  # beyond window and grace


@dataclass(frozen=True)
class Blow:
    """What strikes one pilot: an armed point (`name:verb@n`), or a kill of `victim` after some seconds."""

    armed: str = ""
    after: float | None = None
    victim: str = "kill"

    def __str__(self) -> str:
        return self.armed or (f"{self.victim} after {self.after:.3f} s" if self.after is not None else "nothing")


@dataclass(frozen=True)
class Plan:
    """A scenario, and what strikes its pilots, one after another; the last ones are left alone."""

    scenario: Scenario
    blows: tuple[Blow, ...]
    mistake: str = ""
    real: bool = False  # a pilot as a process of its own from the first line on, not by fork
    census: Path | None = None

    def __str__(self) -> str:
        return f"{self.scenario.name}: {', '.join(map(str, self.blows)) or 'nothing'}" + f" {self.mistake}".rstrip()


@dataclass
class Result:
    """What came of a round."""

    plan: Plan
    violations: list[str] = field(default_factory=list)
    struck: int = 0
    seconds: float = 0.0
    slowest: float = 0.0  # from a restart to the last word about an attempt that the dead pilot had


@dataclass
class Child:
    """A pilot."""

    pid: int
    code: int | None = None
    signal: int | None = None
    over: bool = False


class Nursery:
    """The warm process, from outside; safe from several threads."""

    def __init__(self) -> None:
        environment = {**os.environ, "PYTHONPATH": str(TREE)}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.drills.nursery"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=TREE,
            env=environment,
        )  # fmt: skip
        assert self._process.stdout is not None
        assert json.loads(self._process.stdout.readline())["ready"]
        self._lock = threading.Lock()
        self._births: dict[str, SimpleQueue[int]] = {}
        self._children: dict[str, Child] = {}
        self._count = 0
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def bear(self, request: dict[str, Any]) -> Child:
        with self._lock:
            self._count += 1
            identity = str(self._count)
            birth = self._births[identity] = SimpleQueue()
            child = self._children[identity] = Child(0)
            assert self._process.stdin is not None
            self._process.stdin.write(json.dumps({"id": identity, **request}).encode() + b"\n")
            self._process.stdin.flush()
        try:
            child.pid = birth.get(timeout=PILOT_SECONDS)
        except Empty:
            raise AssertionError("the nursery does not answer") from None
        return child

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            said = json.loads(line)
            if "pid" in said:
                self._births.pop(said["id"]).put(said["pid"])
            else:
                child = self._children.pop(said["id"])
                child.code, child.signal, child.over = said["code"], said["signal"], True

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(30)
        self._reader.join(30)
        self._process.stdout.close()


class RealChild(Child):
    """A pilot that was started as a person starts it."""

    def __init__(self, request: dict[str, Any]) -> None:
        armed = {"PILOT_FAILPOINT": request["armed"]} if request["armed"] else {}
        with Path(request["out"]).open("ab") as out, Path(request["err"]).open("ab") as err:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "pilot", *request["argv"]], stdin=subprocess.DEVNULL, stdout=out, stderr=err,
                env={**request["environment"], "PYTHONPATH": str(TREE), **armed}, cwd=request["directory"],
                start_new_session=True,
            )  # fmt: skip
        super().__init__(self.process.pid)

    def look(self) -> None:
        status = self.process.poll()
        if status is not None:
            self.code, self.signal, self.over = (None, -status, True) if status < 0 else (status, None, True)


def _listens(child: Child) -> bool:
    """Whether the pilot has its signal handlers: before that a signal means what it means to any program."""
    try:
        lines = Path(f"/proc/{child.pid}/status").read_text().splitlines()
    except OSError:
        return False
    caught = next(int(each.split()[1], 16) for each in lines if each.startswith("SigCgt"))
    return bool(caught >> (signal.SIGCONT - 1) & 1)


class Drill:
    """Runs rounds in a folder of its own."""

    def __init__(self, folder: Path, nursery: Nursery) -> None:
        self._folder = folder
        self._nursery = nursery
        self._number = 0
        self._lock = threading.Lock()

    def run(self, plan: Plan) -> Result:
        """One round, with all that is left of it removed unless something was wrong."""
        with self._lock:
            self._number += 1
            root = self._folder / f"r{self._number:05}"
        began = time.monotonic()
        stage = Stage(root, plan, self._nursery)
        result = Result(plan)
        try:
            stage.play(result)
        except AssertionError as problem:
            result.violations.append(str(problem))
        finally:
            stage.clear()
        result.violations += check(stage.round)
        for state in (root / "state", root / "other-state"):
            kill_supervisors(state)  # there is none, unless something was wrong
        result.slowest = stage.round.slowest
        result.seconds = time.monotonic() - began
        if not result.violations:
            shutil.rmtree(root)
        else:
            result.violations.append(f"see {root}")
        return result


class Stage:
    """Where one round is played."""

    def __init__(self, root: Path, plan: Plan, nursery: Nursery) -> None:
        root.mkdir(parents=True)
        self.root, self.plan, self._nursery = root, plan, nursery
        self.state = root / "state"
        self._acts = list(plan.scenario.acts)
        self._children: list[Child] = []
        cache = root / "cache"  # receipts are this round's own; images are everybody's
        cache.mkdir()
        for name in ("images", "apptainer"):
            if (apptainer_cache() / name).exists():
                (cache / name).symlink_to((apptainer_cache() / name).resolve())
        made = plan.scenario.make(root)
        self.round = Round(root, self.state, {each.job_id: expected for each, expected in made}, plan.scenario)
        create_store(root / "queue.db")
        store = open_store(root / "queue.db")
        self._user = LocalQueue(store, ClassAdMatcher(), "drill")
        write_settings(
            store,
            QueueSettings("default", "drill", destination=(root / "out").as_uri(), lease_seconds=plan.scenario.lease,
                          poll_seconds=0.05),
        )  # fmt: skip
        self._user.add([each for each, _ in made])

    def play(self, result: Result) -> None:
        """Pilot after pilot until every job is done."""
        for number in range(MOST_PILOTS + len(self.plan.blows)):
            blow = self.plan.blows[number] if number < len(self.plan.blows) else Blow()
            began = time.time()
            child = self._run(blow, number > len(self.plan.blows))
            result.struck += child.signal == signal.SIGKILL or "supervisor" in str(blow)
            if child.signal == signal.SIGKILL:
                self.round.restarts.append(Restart(began, *self.round.snapshot()))
                if self.plan.scenario.usurped:
                    self._usurp()
                self.round.restarts[-1].restarted = time.time()
            else:
                self.round.ended_well(child.code or -(child.signal or 0), str(blow))
            alone = number >= len(self.plan.blows) - 1 and child.signal is None
            if alone and self.round.all_done():
                break
        self._user.close()

    def _usurp(self) -> None:
        """The dead pilot's payload ends by itself; then the lease ends, and another pilot does the job."""
        scenario = self.plan.scenario
        deadline = time.monotonic() + scenario.adopt_window + scenario.grace + GONE_SECONDS
        while (left := processes_of(self.root)) and time.monotonic() < deadline:
            time.sleep(LOOK_SECONDS)
        self.round.problems += [f"outlived its pilot: {each}" for each in left]
        own, self.state = self.state, self.root / "other-state"
        self._run(Blow(), patient=True)
        self.state = own

    def clear(self) -> None:
        """Nothing of ours is running afterwards, whatever went wrong."""
        for child in self._children:
            if not self._over(child):
                hit(child.pid, signal.SIGKILL)
            if isinstance(child, RealChild):
                child.process.wait(30)

    def _run(self, blow: Blow, patient: bool) -> Child:
        child = self._bear(blow, patient)
        self._children.append(child)
        began = time.monotonic()
        while not self._over(child):
            self._act(child)
            lived = time.monotonic() - began
            if blow.after is not None and lived > blow.after:
                self._strike(child, blow.victim)
                blow = Blow()
            if lived > PILOT_SECONDS:
                hit(child.pid, signal.SIGKILL)
                raise AssertionError(f"a pilot hangs: {self._last_words()}")
            time.sleep(LOOK_SECONDS)
        return child

    @staticmethod
    def _over(child: Child) -> bool:
        if isinstance(child, RealChild):
            child.look()
        return child.over

    def _strike(self, child: Child, victim: str) -> None:
        if victim != "kill-supervisor":
            hit(child.pid, signal.SIGKILL)
        if victim != "kill":
            kill_supervisors(self.state)

    def _bear(self, blow: Blow, patient: bool) -> Child:
        scenario = self.plan.scenario
        argv = ["run", "--queue", f"sqlite:{self.root}/queue.db", "--state", str(self.state), "--format", "json",
                "--runtime", scenario.runtime, "--prefetch", str(scenario.prefetch)]  # fmt: skip
        request = {
            "argv": argv,
            "environment": self._environment(patient),
            "directory": str(self.root),
            "out": str(self.root / "stdout"),
            "err": str(self.root / "stderr"),
            "armed": blow.armed,
            "state": str(self.state),
            "mistake": self.plan.mistake,
            "census": str(self.plan.census) if self.plan.census else "",
        }
        return RealChild(request) if self.plan.real else self._nursery.bear(request)

    def _environment(self, patient: bool) -> dict[str, str]:
        scenario = self.plan.scenario
        own = {name: os.environ[name] for name in ("PATH", "PILOT_APPTAINER") if name in os.environ}
        places = {"HOME": str(self.root), "TMPDIR": str(self.root), "PILOT_CACHE": str(self.root / "cache")}
        told = {
            "PILOT_CPUS": str(scenario.cpus),
            "PILOT_GRACE": f"{scenario.grace:g}",
            "PILOT_ADOPT_WINDOW": f"{scenario.adopt_window:g}",
        }
        own |= {"PILOT_IDLE_EXIT": "2" if patient else "0.15", "PILOT_TRACEBACK": "1"}
        return {**own, **places, **told}

    def _act(self, child: Child) -> None:
        for act in list(self._acts):
            trigger, what = act
            if self._triggered(trigger) and _listens(child):
                self._acts.remove(act)
                self._do(what, child)

    def _triggered(self, trigger: str) -> bool:
        """A file of the round is there; or, after a colon, the pilot's log holds that text, so many times."""
        text, _, times = trigger.partition("*")
        if not text.startswith(":"):
            return (self.root / trigger).exists()
        log = self.state / "pilot.log"
        return log.exists() and log.read_text().count(text[1:]) >= int(times or 1)

    def _do(self, what: str, child: Child) -> None:
        match what:
            case "usr1":
                hit(child.pid, signal.SIGUSR1)
            case "term":
                hit(child.pid, signal.SIGTERM)
            case "cancel":
                self._user.cancel([f"{self.root.name}-cancelled"])
            case "open":
                (self.root / "shut").unlink()
                (self.root / "shut").mkdir()

    def _last_words(self) -> str:
        log = self.state / "pilot.log"
        return " | ".join(log.read_text().splitlines()[-3:]) if log.exists() else "it wrote no log"
