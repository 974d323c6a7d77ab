"""The whole pilot and its users on a queue behind https, while the server and the way to it do their worst."""

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pilot.adapters.credentials_token import TokenFile
from pilot.adapters.server_calls import Calls
from pilot.adapters.server_gate import Gate
from pilot.adapters.server_http import HttpLine
from pilot.adapters.server_queue import OwnQueue
from pilot.model.queue import QueueSettings
from pilot.queue.settings import change_settings, write_settings
from pilot.queue.store import create_store, open_store
from tests.e2e.piloted import Ended, Rig, until
from tests.fakes.authority import DAY, Authority
from tests.fakes.server import (
    EXPIRED_TOKEN,
    REFUSE_TOKEN,
    USER_TOKEN,
    FakeServer,
    Fault,
    busy,
    gone,
    odd,
    reset_at,
)

CANARY = "canary-7d1f0e"
PILOT_TOKEN = f"{USER_TOKEN}pilot-{CANARY}"


class Far:
    """A queue behind a fake server over TLS, its users, and pilots on it as processes."""

    def __init__(self, rig: Rig, lease: float = 60.0) -> None:
        self.rig = rig
        self.path = rig.root / "far.db"
        create_store(self.path)
        self.settings(lease_seconds=lease)
        self.authority = Authority(rig.root)
        self.ahead = 0.0  # seconds by which the server's clock is ahead of ours
        self.server = FakeServer(self.path, lambda: time.time() + self.ahead, self.authority.issue().file)
        self.token = self.kept("pilot.token", PILOT_TOKEN)
        self.user_token = self.kept("user.token", USER_TOKEN + "owner")

    def settings(self, lease_seconds: float) -> None:
        store = open_store(self.path)
        out = (self.rig.root / "out").as_uri()
        write_settings(store, QueueSettings("default", "owner", destination=out, lease_seconds=lease_seconds))
        store.close()

    def kept(self, name: str, text: str) -> Path:
        file = self.rig.root / name
        file.touch(mode=0o600)
        file.write_text(text)
        return file

    def environment(self, **more: str) -> dict[str, str]:
        return {"PILOT_CA": str(self.authority.file), "PILOT_QUEUE": self.server.url, **more}

    def user(self, *words: str | Path, **env: str) -> Ended:
        return self.rig.pilot(*words, **self.environment(PILOT_TOKEN_FILE=str(self.user_token), **env))

    def pilot_words(self, state: str = "far") -> tuple[str | Path, ...]:
        places = ("--state", self.rig.root / "state" / state, "--runtime", "bare", "--format", "json")
        return ("run", *places, "--idle-exit", "1s", "--token-file", self.token)

    def run(self, *flags: str, state: str = "far", **env: str) -> Ended:
        return self.rig.pilot(*self.pilot_words(state), *flags, **self.environment(**env))

    @contextlib.contextmanager
    def queue(self) -> Iterator[OwnQueue]:
        line = HttpLine(self.server.url, TokenFile(self.user_token), Gate(), str(self.authority.file), environment={})
        with contextlib.closing(OwnQueue(Calls(line, "default"))) as queue:
            yield queue

    def add(self, name: str, *command: str, **keys: object) -> None:
        added = self.user("queue", "add", self.rig.job(name, *command, **keys))
        assert added.code == 0, added.err

    def states(self) -> list[str]:
        with self.queue() as queue:
            return [each.state.value for each in queue.find()]

    def accepted(self) -> dict[str, list[tuple[int, str]]]:
        """Every report that the queue has taken, by the job's name: attempt and verdict."""
        with self.queue() as queue:
            rows = queue.find()
            return {
                row.name: [(each.attempt, each.verdict.value) for each in queue.results(row.job_id)] for row in rows
            }


@pytest.fixture
def far(rig: Rig) -> Iterator[Far]:
    made = Far(rig)
    yield made
    made.server.close()


def files_with(root: Path, word: str) -> list[Path]:
    """The files below that hold the word."""
    found = []
    for path in root.rglob("*"):
        with contextlib.suppress(OSError):
            if path.is_file() and word.encode() in path.read_bytes():
                found.append(path)
    return found


# --- all well ---


def test_users_and_a_pilot_work_as_on_a_file(far: Far) -> None:
    far.add("one", "sh", "-c", "env; cat /proc/self/environ")
    far.add("two", "true")
    far.add("three", "true")
    assert far.user("queue", "hold", "two").code == 0
    assert far.user("queue", "rm", "three").code == 0
    assert far.user("job", "kill", "three").out.startswith("three (")
    rows = json.loads(far.user("queue", "ls", "--format", "json").out)
    assert {each["name"]: each["state"] for each in rows} == {"one": "waiting", "two": "held", "three": "done"}
    ended = far.run()
    assert ended.code == 0, ended.err
    report, pilot = ended.objects()
    assert (report["name"], report["verdict"], report["attempt"]) == ("one", "succeeded", 1)
    assert pilot["pilot"]["verdicts"] == {"succeeded": 1}
    assert far.user("queue", "release", "two").code == 0
    assert json.loads(far.user("queue", "explain", "two", "--format", "json").out)["job_id"]
    shown = json.loads(far.user("queue", "show", "one", "--format", "json").out)
    assert shown["reports"][0]["verdict"] == "succeeded"
    assert far.user("job", "logs", "one").out == "one\ntwo\n"
    assert {each.headers.get("Authorization") for each in far.server.seen} == {
        f"Bearer {USER_TOKEN}owner", f"Bearer {PILOT_TOKEN}",
    }  # fmt: skip
    # The payload printed its environment; nothing that is kept anywhere holds the pilot's token.
    assert files_with(far.rig.root, CANARY) == [far.token]


def test_a_jobs_own_code_travels_through_the_server(far: Far) -> None:
    far.add("coded", "sh", "exit_with.sh", "0", zoo=("exit_with.sh",))
    far.server.plan.add(reset_at(40), "code")
    ended = far.run()
    assert [each["verdict"] for each in ended.objects()[:-1]] == ["succeeded"], ended.out
    assert far.accepted()["coded"][-1][1] == "succeeded"


def test_a_file_queue_pays_nothing_for_it() -> None:
    """Neither memory nor the time of an import."""
    code = (
        "import sys, pilot.cli.running, pilot.assemble.queue, pilot.cli.queue\n"
        "print([each for each in sys.modules if each in ('requests', 'urllib3') or 'server_' in each])"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert said.stdout.strip() == "[]"


# --- wrong from the start ---


@pytest.mark.parametrize(
    ("env", "words", "code", "says"),
    [
        ({"PILOT_QUEUE": "https://"}, ("run",), 78, "write sqlite:PATH or https://HOST:PORT"),
        ({"PILOT_QUEUE": "http://elsewhere:80"}, ("run",), 78, "write sqlite:PATH or https://HOST:PORT"),
        ({"PILOT_QUEUE": "https://127.0.0.1:1"}, ("run",), 69, "connection refused; is the server running"),
        ({"PILOT_QUEUE": "https://127.0.0.1:1"}, ("queue", "ls"), 69, "connection refused; is the server running"),
        ({"PILOT_QUEUE": "https://no-such-host.invalid"}, ("run",), 69, "there is no host of that name"),
        ({}, ("run", "--queue-name", "other"), 78, "no queue named 'other' in this file; it holds: default"),
        ({}, ("queue", "ls", "--queue-name", "other"), 78, "no queue named 'other'"),
        ({"PILOT_CA": "/nowhere.pem"}, ("run",), 78, "key `ca` (PILOT_CA) /nowhere.pem: there is no such file"),
        ({"PILOT_CA": ""}, ("run",), 69, "certificate is not to be trusted"),
        ({"PILOT_TOKEN_FILE": "/nowhere.token"}, ("queue", "ls"), 78, "token /nowhere.token: there is no such file"),
        ({}, ("queue", "show", "nobody"), 64, "no job 'nobody'"),
        ({}, ("job", "kill", "nobody"), 64, "no job 'nobody'"),
        ({}, ("queue", "init"), 78, "only where it is served"),
        ({}, ("queue", "set", "--state", "drain"), 78, "only where it is served"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    far: Far, env: dict[str, str], words: tuple[str, ...], code: int, says: str
) -> None:
    given = far.environment(PILOT_TOKEN_FILE=str(far.user_token)) | env
    more = ("--state", far.rig.root / "state" / "wrong", "--runtime", "bare") if words[0] == "run" else ()
    ended = far.rig.pilot(*words, *more, **given)
    assert ended.code == code, ended.err
    assert says in ended.err
    assert len(ended.said) == 1, ended.err
    assert ended.out == ""


@pytest.mark.parametrize(
    ("fault", "code", "says"),
    [
        (EXPIRED_TOKEN, 77, "Signature has expired; renew the credential"),
        (REFUSE_TOKEN, 77, "check the token or certificate, and its role"),
        (odd(b"gone", 404), 78, "is it a PanDA server, or `pilot queue serve`?"),
        (odd(b"<html>Please log in</html>"), 69, "is it a PanDA server, or `pilot queue serve`?"),
        (busy(503, "60"), 69, "503 Service Unavailable"),
        (odd(b"", 302, Location="https://elsewhere.example/"), 78, "sends us on to https://elsewhere.example/"),
        (Fault(huge=2 << 30), 69, "cut off"),
    ],
)
def test_what_a_server_says_at_the_start(far: Far, fault: Fault, code: int, says: str) -> None:
    far.server.plan.add(fault, "is_alive")
    ended = far.run()
    assert ended.code == code, ended.err
    assert says in ended.err
    assert len(ended.said) == 1, ended.err
    assert CANARY not in ended.err


@pytest.mark.parametrize("kind", ["expired", "wrong-host", "self-signed"])
def test_a_server_that_is_not_to_be_trusted(far: Far, kind: str) -> None:
    pair = {
        "expired": lambda: far.authority.issue(life=(-3 * DAY, -DAY)),
        "wrong-host": lambda: far.authority.issue("elsewhere.example"),
        "self-signed": far.authority.self_signed,
    }[kind]()
    far.server.use(pair.file)
    ended = far.run()
    assert (ended.code, len(ended.said)) == (69, 1)
    assert "certificate is not to be trusted" in ended.err
    assert far.server.seen == []


@pytest.mark.parametrize(("mode", "says"), [(0o644, "chmod 600"), (0o000, "Permission denied")])
def test_a_token_that_cannot_or_must_not_be_read(far: Far, mode: int, says: str) -> None:
    if mode == 0 and os.geteuid() == 0:
        pytest.skip("issue 3: root may read everything; scripts/test is no root")
    far.token.chmod(mode)
    ended = far.run()
    assert (ended.code, len(ended.said)) == (77, 1), ended.err
    assert says in ended.err
    far.token.chmod(0o600)


def test_a_queue_that_is_offline_sends_pilots_home(far: Far) -> None:
    store = open_store(far.path)
    change_settings(store, "default", "owner", {"state": "offline"})
    store.close()
    ended = far.run()
    assert "offline" in ended.out + ended.err
    assert ended.seconds < 20


def test_a_plain_panda_server_is_not_for_our_users(far: Far) -> None:
    far.server.queue._plain_panda = True
    ended = far.user("queue", "ls")
    assert (ended.code, len(ended.said)) == (78, 1)
    assert "is a plain PanDA server: hand jobs to it with PanDA's own client" in ended.err
    assert far.server.verbs() == ["is_alive"]


def test_doctor_and_config_know_servers(far: Far) -> None:
    ended = far.user("doctor", "--format", "json")
    lines = {each["check"]: each for each in ended.json()}
    assert lines["queue"]["status"] == "ok"
    assert lines["queue"]["detail"] == f"{far.server.url} answers, and takes this credential for a pilot's"
    assert (lines["credential"]["status"], str(far.user_token) in lines["credential"]["detail"]) == ("ok", True)
    far.server.tokens = set()
    far.server.plan.add(said_alive(far), "is_alive")
    lines = {each["check"]: each for each in far.user("doctor", "--format", "json").json()}
    assert (lines["queue"]["status"], lines["queue"]["code"]) == ("fail", "credential.refused")
    far.server.tokens = None
    far.server.stop()
    lines = {each["check"]: each for each in far.user("doctor", "--format", "json").json()}
    assert (lines["queue"]["status"], lines["queue"]["code"]) == ("fail", "server.unreachable")
    far.server.start()
    config = far.kept("config.yaml", f"queue: {far.server.url}\nca: {far.authority.file}\ntoken_file: {far.token}\n")
    assert far.rig.pilot("config", "check", config).code == 0
    bad = far.kept("bad.yaml", "queue: https://user:word@host\n")
    assert "bad.yaml:1:8" in far.rig.pilot("config", "check", bad).out


def said_alive(far: Far) -> Fault:
    return odd(far.server.queue.alive()[1])


# --- while it runs ---

LOST = Fault(done=True, cut_at=0)


@pytest.mark.parametrize(
    ("verb", "fault"),
    [
        ("claim", LOST),
        ("report", LOST),
        ("renew", LOST),
        ("claim", reset_at(100)),
        ("report", busy(503, "1")),
        ("report", EXPIRED_TOKEN),
        ("claim", Fault(bomb=70 << 20)),
    ],
)
def test_a_fault_in_the_midst_of_work_loses_nothing(far: Far, verb: str, fault: Fault) -> None:
    far.add("job", "true")
    far.server.plan.add(fault, verb)
    ended = far.run()
    assert ended.code == 0, ended.err
    assert far.accepted() == {"job": [(1, "succeeded")]}
    assert [each["verdict"] for each in ended.objects()[:-1]] == ["succeeded"]


def test_an_outage_in_the_midst_of_work_costs_nothing(far: Far) -> None:
    """The job ends while the server is away; its report waits, and the pilot does not storm the door."""
    far.add("job", "sleep", "1")
    with far.rig.begin(*far.pilot_words(), **far.environment()) as process:
        until(lambda: "claim" in far.server.verbs() and far.states() == ["granted"])
        with gone(far.server):
            time.sleep(4)
            before = len(far.server.seen)
        back = time.monotonic()
        out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert far.accepted() == {"job": [(1, "succeeded")]}
    assert [json.loads(line).get("verdict") for line in out.splitlines()][:-1] == ["succeeded"]
    report = next(each for each in far.server.seen[before:] if each.verb == "report")
    assert report.at - back < 30


def test_an_outage_longer_than_the_lease_leaves_one_result(rig: Rig) -> None:
    far = Far(rig, lease=3.0)
    far.add("job", "sh", "-c", "sleep 3; echo done")
    with rig.begin(*far.pilot_words("first"), **far.environment()) as first:
        until(lambda: far.states() == ["granted"])
        with gone(far.server):
            time.sleep(5)
        second = far.run(state="second")
        out, err = first.communicate(timeout=60)
    assert first.returncode == 0, err
    (reports,) = far.accepted().values()
    assert [verdict for _, verdict in reports] == ["succeeded"], (reports, out, second.out)
    far.server.close()


def test_the_same_job_delivered_twice_runs_once(far: Far) -> None:
    far.add("job", "sh", "-c", "echo ran >> $MARK; sleep 1", environment={"MARK": str(far.rig.root / "mark")})
    far.add("other", "true")
    far.server.queue.doubles = 2
    ended = far.run("--prefetch", "3")
    assert (far.rig.root / "mark").read_text() == "ran\n"
    assert far.accepted()["job"] == [(1, "succeeded")], ended.out
    assert ended.code == 0


@pytest.mark.parametrize("day", [86400.0, -86400.0])
def test_clocks_a_day_apart(far: Far, day: float) -> None:
    far.server.date_ahead = far.ahead = day
    far.add("job", "true")
    ended = far.run()
    assert ended.code == 0, ended.err
    assert far.accepted() == {"job": [(1, "succeeded")]}


@pytest.mark.parametrize(
    ("fault", "most"), [(busy(503, "2"), 6), (busy(429, "2"), 6), (odd(b"oops", 500), 25), (EXPIRED_TOKEN, 25)]
)
def test_a_server_in_trouble_is_not_stormed(far: Far, fault: Fault, most: int) -> None:
    """Six seconds of trouble, with a job in hand and an empty queue: few requests, then everything goes on."""
    far.add("job", "sleep", "2")
    with far.rig.begin(*far.pilot_words(), **far.environment()) as process:
        until(lambda: "claim" in far.server.verbs())
        far.server.plan.add(fault, times=100_000)
        before = len(far.server.seen)
        time.sleep(6)
        asked = far.server.seen[before:]
        far.server.plan.clear()
        _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert len(asked) <= most, [each.verb for each in asked]
    assert far.accepted() == {"job": [(1, "succeeded")]}


def test_a_token_that_is_renewed_while_the_pilot_runs_is_taken_up(far: Far) -> None:
    fresh = f"{USER_TOKEN}fresh-{CANARY}"
    far.server.tokens = {PILOT_TOKEN, USER_TOKEN + "owner"}
    with far.rig.begin(*far.pilot_words(), "--idle-exit", "5s", **far.environment()) as process:
        until(lambda: "claim" in far.server.verbs())
        far.server.tokens = {fresh, USER_TOKEN + "owner"}
        far.kept("next", fresh).replace(far.token)
        far.add("job", "true")
        _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert far.accepted() == {"job": [(1, "succeeded")]}
    assert files_with(far.rig.root, CANARY) == [far.token]


KILLS = [
    *(f"server.call.{side}:kill@{number}" for number in (3, 4, 5) for side in ("before", "after")),
    *(f"order.{kind}.{side}:kill" for kind in ("claim", "report") for side in ("before", "after")),
]


@pytest.mark.parametrize("point", KILLS)
def test_a_killed_pilot_goes_on_where_it_was(far: Far, point: str) -> None:
    """Whatever answer was lost with it; the next pilot of the state says the same again."""
    far.add("job", "true")
    with far.rig.begin(*far.pilot_words(), **far.environment(PILOT_FAILPOINT=point)) as process:
        assert process.wait(30) == -9
    ended = far.run()
    assert ended.code == 0, ended.err
    assert far.accepted() == {"job": [(1, "succeeded")]}
    assert ended.objects()[-1]["pilot"]["unsent"] == 0


@pytest.mark.parametrize("verb", ["claim", "report", "renew", "changed"])
def test_a_server_that_hangs_keeps_nobody_from_leaving(far: Far, verb: str) -> None:
    far.add("job", "sleep", "0.5" if verb == "report" else "30")
    if verb == "changed":
        far.user("queue", "hold", "job")
    far.settings(lease_seconds=6.0)
    far.server.plan.add(Fault(hangs=True), verb, times=100)
    with far.rig.begin(*far.pilot_words(), "--idle-exit", "60s", **far.environment()) as process:
        until(lambda: verb in far.server.verbs())
        time.sleep(1)
        began = time.monotonic()
        process.terminate()
        _, err = process.communicate(timeout=60)
    assert process.returncode in (143, 75), err
    assert time.monotonic() - began < 12


# --- left because nobody answers ---


@pytest.mark.parametrize(
    ("fault", "code", "says"), [(gone, 69, "connection refused"), (EXPIRED_TOKEN, 77, "Signature has expired")]
)
def test_a_pilot_that_leaves_while_its_queue_is_away_says_so(far: Far, fault: object, code: int, says: str) -> None:
    far.add("one", "true")
    words = (*far.pilot_words(), "--idle-exit", "3s")
    with far.rig.begin(*words, **far.environment()) as pilot, contextlib.ExitStack() as stack:
        until(lambda: far.states() == ["done"])
        if isinstance(fault, Fault):
            far.server.plan.add(fault, times=1000)
        else:
            stack.enter_context(gone(far.server))
        _, err = pilot.communicate(timeout=60)
    assert pilot.returncode == code, err
    assert says in err
    log = (far.rig.root / "state" / "far" / "pilot.log").read_text()
    [line] = [json.loads(each) for each in log.splitlines() if '"look failed"' in each or '"claim broke"' in each]
    assert line["level"] == "warning"
