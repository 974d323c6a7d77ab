"""A job's output through the service of its queue: while it runs, by looks with its heartbeat; then as stored."""

import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from pilot.assemble.served_log import fresh_part
from pilot.model.queue import QueueSettings
from pilot.queue.service.call import Role
from pilot.queue.settings import change_settings, write_settings
from pilot.queue.store import create_store, open_store
from tests.beds.served import Served
from tests.e2e.piloted import Rig, until

LINES = "for i in 1 2 3 4 5 6 7 8 9; do echo line $i; sleep 0.7; done; echo bad >&2"


@pytest.fixture
def served(rig: Rig) -> Iterator[Served]:
    path = rig.root / "queue.db"
    create_store(path)
    store = open_store(path)
    out = (rig.root / "out").as_uri()
    write_settings(store, QueueSettings("default", "owner", destination=out, lease_seconds=3.0))
    store.close()
    made = Served(path)
    yield made
    made.close()


def environment(served: Served, role: Role, user: str) -> dict[str, str]:
    token: Path = served.token(role, user)
    return {"PILOT_QUEUE": served.url, "PILOT_CA": str(served.keys.ca), "PILOT_TOKEN_FILE": str(token)}


def test_a_running_jobs_output_is_followed_to_its_end(rig: Rig, served: Served) -> None:
    user = environment(served, Role.SUBMITTER, "ann")
    added = rig.pilot("queue", "add", rig.job("talker", "sh", "-c", LINES), **user)
    assert added.code == 0, added.err
    words = ("run", "--state", rig.root / "state" / "p", "--runtime", "bare", "--max-jobs", "1")
    with rig.begin(*words, **environment(served, Role.PILOT, "pilot")) as pilot:
        queue = served.user("ann")
        until(lambda: queue.show("talker").phase == "running")
        began = time.monotonic()
        once = rig.pilot("job", "logs", "talker", **user)
        assert once.code == 0, once.err
        assert once.out.startswith("line 1")
        assert pilot.poll() is None
        followed = rig.pilot("job", "logs", "-f", "talker", **user)
        out, err = pilot.communicate(timeout=60)
        queue.close()
    assert pilot.returncode == 0, err
    assert followed.code == 0, followed.err
    assert followed.out.split("\n") == [*(f"line {n}" for n in range(1, 10)), ""], out
    assert time.monotonic() - began > 3
    assert rig.pilot("job", "logs", "--stderr", "talker", **user).out == "bad\n"
    stranger = rig.pilot("job", "logs", "talker", **environment(served, Role.SUBMITTER, "bob"))
    assert stranger.code != 0
    assert stranger.out == ""


def test_who_follows_sees_lines_soon_though_heartbeats_are_seldom(rig: Rig, served: Served) -> None:
    store = open_store(rig.root / "queue.db")
    change_settings(store, "default", "owner", {"lease_seconds": 30.0})
    store.close()
    user = environment(served, Role.SUBMITTER, "ann")
    many = LINES.replace("sleep 0.7", "sleep 4")
    assert rig.pilot("queue", "add", rig.job("talker", "sh", "-c", many), **user).code == 0
    words = ("run", "--state", rig.root / "state" / "p", "--runtime", "bare", "--max-jobs", "1")
    with rig.begin(*words, **environment(served, Role.PILOT, "pilot")) as pilot:
        queue = served.user("ann")
        until(lambda: queue.show("talker").phase == "running")
        queue.close()
        with rig.begin("job", "logs", "-f", "talker", **user) as reader:
            assert reader.stdout is not None
            came = [time.monotonic() for _ in iter(reader.stdout.readline, "")]
        pilot.communicate(timeout=60)
    assert len(came) == 9
    lumps = [later - earlier for earlier, later in pairwise(came)]
    assert sum(each > 0.5 for each in lumps) >= 3, lumps  # heartbeats alone, each 10 s, would bring two lumps
    assert max(lumps) < 9, lumps


def test_a_waiting_job_has_no_output_yet(rig: Rig, served: Served) -> None:
    user = environment(served, Role.SUBMITTER, "ann")
    assert rig.pilot("queue", "add", rig.job("waits", "true"), **user).code == 0
    ended = rig.pilot("job", "logs", "waits", **user)
    assert (ended.code, ended.out) == (0, "")
    assert "nothing in its stdout" in ended.err
    assert rig.pilot("job", "kill", "waits", **user).code == 0
    assert rig.pilot("queue", "ls", "--state", "done", **user).out.count("cancelled") == 1


@pytest.mark.parametrize(
    ("shown", "found", "fresh"),
    [
        ("", "a\nb", "a\nb"),
        ("a\nb", "a\nb\nc", "\nc"),
        ("a\nb", "a\nb", ""),
        ("a\nb\nc", "b\nc\nd\n", "\nd\n"),
        ("a\nb\nc", "a\nb\nc\n", "\n"),
        ("x\nab", "b\nc", "b\nc"),
        ("a\nb", "", ""),
        ("b\nc", "a\nb\nc\nd", "\nd"),
        ("a\na\na", "a\na\na\na", "\na"),
        ("half", "half a line\n", " a line\n"),
        ("lost", "quite new", "quite new"),
    ],
)
def test_what_is_new_in_a_look(shown: str, found: str, fresh: str) -> None:
    assert fresh_part(shown, found) == fresh
