"""`pilot queue serve` killed with -9 again and again while pilots and a user are at work on it.

The pilots are threads with our own adapters; what they were told is kept here, outside of what is killed, and compared
with the file at the end: every grant in it reached the pilot that asked, and every answer that a pilot had is in it.
"""

import json
import os
import random
import select
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import TypeVar

from pilot.adapters.credentials_token import TokenFile
from pilot.adapters.matcher_classad import ClassAdMatcher
from pilot.adapters.server_calls import Calls
from pilot.adapters.server_gate import Gate
from pilot.adapters.server_http import HttpLine
from pilot.adapters.server_own import OwnServer
from pilot.adapters.server_queue import OwnQueue
from pilot.model.job import Grant, Verdict
from pilot.model.queue import QueueSettings
from pilot.model.report import Report
from pilot.ports import Beat, Final, Passing, Unclaim
from pilot.queue.service.call import Role
from pilot.queue.service.keys import KeyFolder, set_up, write_token
from pilot.queue.settings import write_settings
from pilot.queue.store import create_store, open_store
from pilot.queue.users import LocalQueue
from tests.beds.served import NAMES
from tests.contracts.server_beds import ask, job, offer

T = TypeVar("T")
TREE = Path(__file__).parents[2]
LEASE = 3600.0  # longer than any drill: an attempt that is not the first was given back
PILOTS, BATCH = 6, 4
POINTS = [f"queue.{each}.{side}" for each in ("claim", "commit", "renew", "report", "give-back", "add")
          for side in ("before", "after")]  # fmt: skip
PATIENCE_SECONDS = 60.0


@dataclass
class Told:
    """What pilots and user were told, whatever became of the service."""

    grants: dict[str, tuple[str, int]] = field(default_factory=dict)  # by claim id
    twice: list[str] = field(default_factory=list)
    reported: dict[str, int] = field(default_factory=dict)
    returned: set[str] = field(default_factory=set)
    fenced: list[str] = field(default_factory=list)
    added: set[str] = field(default_factory=set)
    odd: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)


class ServedDrill:
    """One file, one port, many lives of the service."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.path = folder / "queue.db"
        self.chance = random.Random(seed)
        self.told = Told()
        self.ending = threading.Event()
        self.keys = KeyFolder(folder / "queue-keys")
        set_up(self.keys, NAMES, "user")
        self.tokens = {
            each: write_token(self.keys, each, each.value, 86400.0, self.keys.token(each, each.value))
            for each in (Role.PILOT, Role.SUBMITTER)
        }
        create_store(self.path)
        store = open_store(self.path)
        write_settings(store, QueueSettings("default", "owner", destination="file:///out", lease_seconds=LEASE))
        store.close()
        with socket.create_server(("localhost", 0)) as free:
            self.port = free.getsockname()[1]
        self.lives = 0

    def run(self, kills: int) -> list[str]:
        """What was wrong, after so many kills."""
        crowd = [threading.Thread(target=self._pilot, args=(f"p{number}",)) for number in range(PILOTS)]
        crowd.append(threading.Thread(target=self._user))
        for each in crowd:
            each.start()
        for number in range(kills):
            self._live_and_die(number)
        last = self._start("")
        self.ending.set()
        for each in crowd:
            each.join(PATIENCE_SECONDS)
        left = self._finish()
        last.send_signal(signal.SIGTERM)
        code = last.wait(20)
        stuck = [f"{each.name} does not end" for each in crowd if each.is_alive()]
        odd = [] if code in (143, -15) else [f"the last life ended with {code} after TERM"]
        return [*self.told.odd, *stuck, *odd, *left, *self._compare()]

    # --- lives of the service ---

    def _live_and_die(self, number: int) -> None:
        """Every second time at a point in the midst of a transaction, else at any moment."""
        point = f"{self.chance.choice(POINTS)}:kill@{self.chance.randrange(1, 6)}" if number % 2 else ""
        process = self._start(point)
        try:
            process.wait(2.0 if point else self.chance.uniform(0.02, 0.6))
        except subprocess.TimeoutExpired:
            process.kill()
        if process.wait(10) != -signal.SIGKILL:
            self.told.odd.append(f"life {number} ended by itself with {process.returncode}")

    def _start(self, failpoint: str) -> subprocess.Popen[bytes]:
        self.lives += 1
        command = [sys.executable, "-m", "pilot", "queue", "serve", "--queue", f"sqlite:{self.path}",
                   "--listen", f"localhost:{self.port}", "--log-level", "error"]  # fmt: skip
        environment = {**os.environ, "PILOT_FAILPOINT": failpoint, "PYTHONPATH": str(TREE)}
        process = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, cwd=TREE)
        assert process.stdout is not None
        with process.stdout as words:
            ready, _, _ = select.select([words], [], [], 30)
            began = bool(ready) and words.readline().startswith(b"https://")
            if not began and process.wait(10) != -signal.SIGKILL:  # it may be struck while it begins, too
                self.told.odd.append(f"life {self.lives} did not begin")
        return process

    # --- those who use it ---

    def _line(self, role: Role) -> HttpLine:
        url = f"https://localhost:{self.port}"
        return HttpLine(url, TokenFile(self.tokens[role]), Gate(), str(self.keys.ca), environment={})

    def _insist(self, act: Callable[[], T]) -> T:
        """As the pilot does: the same call again until it is answered."""
        end = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                return act()
            except Passing:
                if time.monotonic() > end:
                    raise
                threading.Event().wait(0.05)

    def _user(self) -> None:
        queue = OwnQueue(Calls(self._line(Role.SUBMITTER), "default"))
        for number in count():
            if self.ending.is_set():
                return queue.close()
            names = [f"j{number}-{each}" for each in range(20)]
            try:
                self._insist(lambda names=names: queue.add([job(each, job_id=each) for each in names]))  # type: ignore[misc]
            except Final as problem:  # the answer was lost, not the jobs
                if "already" not in problem.fault.detail:
                    self.told.odd.append(f"add: {problem.fault.detail}")
            self.told.added.update(names)
            self.ending.wait(0.1)
        return None

    def _pilot(self, name: str) -> None:
        server = OwnServer(Calls(self._line(Role.PILOT), "default"))
        own, chance = offer(name), random.Random(name)
        for number in count():
            ids = [f"{name}-{number}-{each}" for each in range(BATCH)]
            grants = self._insist(lambda ids=ids: server.claim(ask(*ids, by=own)))  # type: ignore[misc]
            found = [(claim_id, each) for claim_id, each in zip(ids, grants, strict=True) if each is not None]
            self._note(found)
            if not found and self.ending.is_set():
                return server.close()
            self._work(server, found, chance)
        return None

    def _note(self, found: list[tuple[str, Grant]]) -> None:
        with self.told.lock:
            for claim_id, each in found:
                attempt = (each.job_id, each.attempt)
                if attempt in self.told.grants.values():
                    self.told.twice.append(f"{attempt} under {claim_id} too")
                self.told.grants[claim_id] = attempt

    def _work(self, server: OwnServer, found: list[tuple[str, Grant]], chance: random.Random) -> None:
        beats = [Beat(each.job_id, each.attempt, "running") for _, each in found]
        if beats:
            replies = self._insist(lambda: server.renew(beats))
            self.told.fenced += [f"renew of {each.job_id}" for each in replies if not each.ours]
        for claim_id, each in found:
            if chance.random() < 0.1:
                self._insist(lambda c=claim_id: server.give_back([Unclaim(c)]))  # type: ignore[misc]
                self.told.returned.add(claim_id)
            else:
                report = Report(each.job_id, each.attempt, each.spec.name, Verdict.SUCCEEDED, "", "")
                (taken,) = self._insist(lambda r=report: server.report([r]))  # type: ignore[misc]
                self.told.reported[each.job_id] = each.attempt
                if not taken:
                    self.told.fenced.append(f"report of {each.job_id}")

    # --- what must be true ---

    def _finish(self) -> list[str]:
        server = OwnServer(Calls(self._line(Role.PILOT), "default"))
        for number in count():
            ids = [f"last-{number}-{each}" for each in range(50)]
            found = [(i, g) for i, g in zip(ids, server.claim(ask(*ids, by=offer("last"))), strict=True) if g]
            self._note(found)
            self._work(server, found, random.Random(0))
            if not found:
                server.close()
                return []
        return []

    def _compare(self) -> list[str]:
        told, wrong = self.told, [*self.told.twice, *self.told.fenced]
        store = open_store(self.path)
        wrong += store.problems()
        user = LocalQueue(store, ClassAdMatcher(), "owner")
        rows = {each.job_id: each for each in user.find()}
        wrong += [f"{each} was added and is not there" for each in told.added - rows.keys()]
        wrong += [
            f"{each.job_id}: {each.state} {each.verdict}" for each in rows.values() if each.verdict != "succeeded"
        ]
        for job_id in rows:
            reports = user.results(job_id)
            if [each.attempt for each in reports] != [told.reported.get(job_id)]:
                wrong.append(
                    f"{job_id}: reports {[each.attempt for each in reports]}, told {told.reported.get(job_id)}"
                )
        store.close()
        return wrong + self._compare_grants()

    def _compare_grants(self) -> list[str]:
        with sqlite3.connect(self.path) as db:
            kept = {row[0]: (row[1], row[2]) for row in db.execute(
                "SELECT claim_id, job_id, granted.attempt FROM granted JOIN job ON job.job = granted.job")}  # fmt: skip
        db.close()
        lost = [f"{each} {kept[each]}: granted, and nobody was told" for each in kept.keys() - self.told.grants.keys()]
        false = [f"{each} {kept.get(each)}: not what was told" for each, at in self.told.grants.items()
                 if kept.get(each) != at]  # fmt: skip
        return lost + false


def main() -> int:
    """`python -m tests.drills.served FOLDER KILLS [SEED]`."""
    seed = int(sys.argv[3]) if len(sys.argv) > 3 else random.SystemRandom().randrange(1 << 32)
    drill = ServedDrill(Path(sys.argv[1]), seed)
    wrong = drill.run(int(sys.argv[2]))
    told = drill.told
    figures = {"seed": seed, "kills": drill.lives - 1, "grants": len(told.grants), "jobs": len(told.added),
               "returned": len(told.returned), "wrong": wrong[:20]}  # fmt: skip
    sys.stdout.write(json.dumps(figures) + "\n")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
