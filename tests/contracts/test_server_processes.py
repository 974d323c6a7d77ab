"""Several processes on one queue file, and processes that are killed in the midst of a transaction."""

import ast
import os
import signal
import subprocess
import sys
from collections import Counter
from itertools import count
from pathlib import Path

import pytest

import pilot.queue
from pilot.adapters.matcher_classad import ClassAdMatcher
from pilot.model.queue import QueueSettings
from pilot.queue.settings import write_settings
from pilot.queue.store import create_store, open_store
from pilot.queue.users import LocalQueue
from tests.contracts.queue_child import walk
from tests.contracts.server_beds import job, needs

TREE = Path(__file__).parents[2]
SECONDS = 60


def child(*words: str, failpoint: str = "") -> subprocess.Popen[str]:
    environment = {**os.environ, "PILOT_FAILPOINT": failpoint, "PYTHONPATH": str(TREE)}
    command = [sys.executable, "-m", "tests.contracts.queue_child", *words]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment, cwd=TREE)


def said(process: subprocess.Popen[str]) -> list[list[str]]:
    out, _ = process.communicate(timeout=SECONDS)
    return [line.split() for line in out.splitlines()]


def effects() -> list[str]:
    """Every effect that the queue's code names."""
    found = set()
    for file in Path(str(pilot.queue.__file__)).parent.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "effect":
                assert isinstance(node.args[0], ast.Constant)
                found.add(str(node.args[0].value))
    return sorted(found)


def test_processes_that_claim_at_once_never_get_the_same_attempt(folder: Path) -> None:
    path, jobs = folder / "queue.db", 3000
    create_store(path)
    store = open_store(path)
    write_settings(store, QueueSettings("default", "owner"))
    user = LocalQueue(store, ClassAdMatcher(), "owner")
    user.add([job(f"j{n}", needs=needs(1 + n % 4), priority=n % 3) for n in range(jobs)])
    crowd = [child("claim", str(path), f"p{n}", str(size)) for n, size in enumerate((1, 20, 20))]
    claims = [tuple(words) for each in crowd for words in said(each)]
    assert [each.returncode for each in crowd] == [0, 0, 0]
    assert set(Counter(claims).values()) == {1}
    assert len(claims) == jobs
    assert {attempt for _, attempt in claims} == {"1"}
    assert store.problems() == ()
    store.close()


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("name", effects())
def test_a_kill_at_any_effect_loses_and_doubles_nothing(
    folder: Path, capsys: pytest.CaptureFixture[str], name: str, moment: str
) -> None:
    passages = count(1) if name == "queue.commit" else [1]  # each call has one effect of its own, and one commit
    for passage in passages:
        path = folder / f"queue-{passage}.db"
        killed = child("walk", str(path), failpoint=f"{name}.{moment}:kill@{passage}")
        acknowledged = said(killed)
        if killed.returncode == 0 and passage > 1:
            break
        assert killed.returncode == -signal.SIGKILL, f"the walk never passed {name}: add it there"
        walk(path)
        _check(path, acknowledged, [line.split() for line in capsys.readouterr().out.splitlines()])


def _check(path: Path, acknowledged: list[list[str]], afterwards: list[list[str]]) -> None:
    store = open_store(path)
    user = LocalQueue(store, ClassAdMatcher(), "owner")
    assert store.problems() == ()
    verdicts = {each.job_id: each.verdict for each in user.find()}
    assert verdicts == {"a": "succeeded", "b": "succeeded", "c": "succeeded", "d": "cancelled", "e": "succeeded"}
    for name in "abce":
        assert len(user.results(name)) == 1
    for words in acknowledged:
        if words[0] == "granted" and words[1] in "ab":
            assert user.show(words[1]).job.attempt == int(words[2])  # nobody was given it a second time
        if words[0] == "reported":
            assert user.results(words[1])[0].attempt == int(words[2])
    reported = [tuple(words[1:3]) for words in (*acknowledged, *afterwards) if words[0] == "reported"]
    assert len(set(reported)) == len({job_id for job_id, _ in reported})
    store.close()
