"""The pilot on a queue over a real socket: what is told and heard while jobs run, and what if nobody answers."""

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from pilot.adapters.matcher_classad import ClassAdMatcher
from pilot.model.files import Output
from pilot.model.job import Grant, JobSpec
from pilot.model.plain import to_plain
from pilot.model.queue import QueueSettings, QueueState, Submission
from pilot.ports import BeatReply
from pilot.queue.settings import change_settings, write_settings
from pilot.queue.store import create_store, open_store
from pilot.queue.users import LocalQueue
from tests.e2e.piloted import Rig, until
from tests.fakes.server import FakeServer, Fault
from tests.sandboxes import apptainer_cache

LEASE = 3.0
STAYS = "echo here >>$0/here; trap 'exit 143' TERM; n=0; while [ ! -e $0/go ]; do sleep 0.05; done; echo done"
TALKS = """printf '{"type":"progress","step":3,"note":"token=abcdef","metrics":{"loss":0.5}}\\n' >>events.jsonl
echo "Authorization: Bearer sesame"; echo "second line"; echo x >made.txt; ln -s /etc link; mkfifo pipe
"""


class Bed:
    """A queue file, a server in front of it that can be disturbed, and what it says beside."""

    def __init__(self, rig: Rig, lease: float) -> None:
        self.rig, path = rig, rig.root / "queue.db"
        create_store(path)
        self._store = open_store(path)
        out = (rig.root / "out").as_uri()
        write_settings(self._store, QueueSettings("default", "owner", destination=out, lease_seconds=lease))
        self.user = LocalQueue(self._store, ClassAdMatcher(), "owner")
        self.server = FakeServer(path)
        self.questions: list[str] = []
        self.command = ""
        self._renewed = self.server.queue._renew
        self.server.queue._renew = self._renew  # type: ignore[method-assign]

    def _renew(self, asked: Any, queue: LocalQueue) -> object:
        """As the queue answers, with what an operator wants to know or to have done."""
        replies = self._renewed(asked, queue)
        assert isinstance(replies, list)
        question = self.questions.pop(0) if self.questions else ""
        return [{**_plain(each), "command": self.command or each.command, "question": question} for each in replies]

    def add(self, name: str, script: str, **more: object) -> str:
        spec = JobSpec(name, ("sh", "-c", script, str(self.rig.root)), **more)  # type: ignore[arg-type]
        [row] = self.user.add([Submission(spec)])
        return row.job_id

    def beats(self) -> list[dict[str, Any]]:
        return [each for verb, asked in list(self.server.queue.done) if verb == "renew" for each in asked["beats"]]

    def asked(self, verb: str) -> list[float]:
        return [each.at for each in list(self.server.seen) if each.verb == verb]

    def verdicts(self, job: str) -> list[str]:
        return [each.verdict.value for each in self.user.results(job)]

    def set_state(self, state: QueueState) -> None:
        change_settings(self._store, "default", "owner", {"state": state.value})

    @contextlib.contextmanager
    def pilot(self, *flags: str | Path, **env: str) -> Iterator[subprocess.Popen[str]]:
        places = ("--state", self.rig.root / "state" / "far", "--runtime", "bare", "--format", "json")
        with self.rig.begin("run", "--queue", self.server.url, *places, *flags, **env) as process:
            yield process

    def close(self) -> None:
        self.server.close()
        self._store.close()


def _plain(reply: BeatReply | Grant) -> dict[str, Any]:
    found = to_plain(reply)
    assert isinstance(found, dict)
    return found


@pytest.fixture
def bed(rig: Rig) -> Iterator[Bed]:
    made = Bed(rig, LEASE)
    yield made
    made.close()


def ended(process: subprocess.Popen[str], patience_s: float = 30.0) -> tuple[int, list[dict[str, Any]], str]:
    out, err = process.communicate(timeout=patience_s)
    assert "Traceback" not in err
    return process.returncode, [json.loads(line) for line in out.splitlines()], err


def here(bed: Bed) -> None:
    until((bed.rig.root / "here").exists)


def let_go(bed: Bed) -> None:
    (bed.rig.root / "go").write_text("")


def connections(pid: int, url: str) -> int:
    """How many connections that process has open to that server."""
    port = int(url.rpartition(":")[2])
    own = {os.readlink(each) for each in Path(f"/proc/{pid}/fd").iterdir() if each.is_symlink()}
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(
        int(row[2].rpartition(":")[2], 16) == port and row[3] == "01" and f"socket:[{row[9]}]" in own for row in rows
    )


# ---- heartbeats


def test_heartbeats_tell_how_a_payload_gets_on(bed: Bed) -> None:
    burn = "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done; "
    bed.add("talks", TALKS + burn + STAYS)
    with bed.pilot("--max-jobs", "1") as process:
        until(lambda: any(each.get("progress") for each in bed.beats()))
        told = next(each for each in bed.beats() if each.get("progress"))
        assert json.loads(told["progress"]) == {
            "type": "progress", "step": 3, "note": "[removed]", "metrics": {"loss": 0.5},
        }  # fmt: skip
        assert told["phase"] == "running"
        assert told["usage"]["cpu_seconds"] > 0
        assert told["usage"]["memory_peak_bytes"] > 500_000
        let_go(bed)
        assert ended(process)[0] == 0


@pytest.mark.apptainer
def test_a_payload_in_a_container_is_seen_as_well(bed: Bed) -> None:
    (image,) = sorted((apptainer_cache() / "images").glob("test-tiny-*.dir"))[-1:]
    bed.questions = ["ps", "ls /srv"]
    burn = "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done; "
    script = TALKS + burn + "n=0; while [ $n -lt 100 ]; do sleep 0.1; n=$((n+1)); done"
    bed.add("boxed", script, image=str(image))
    with bed.pilot("--max-jobs", "1", "--runtime", "apptainer") as process:
        until(lambda: len([each for each in bed.beats() if each.get("answer")]) >= 2, 30.0)
        answers = [each["answer"] for each in bed.beats() if each.get("answer")]
        assert "made.txt" in answers[0]
        assert "events.jsonl" in answers[1]
        until(lambda: any(each.get("usage", {}).get("cpu_seconds", 0) > 0.05 for each in bed.beats()))
        process.send_signal(signal.SIGTERM)
        assert ended(process)[0] == 143


def test_questions_are_answered_soon_and_only_about_the_job_itself(rig: Rig) -> None:
    """Of a long lease a heartbeat is due every 20 s: the answer does not wait for it."""
    bed = Bed(rig, 6.0)
    with contextlib.closing(bed):
        asked = ["tail stdout", "ls", "ps", "tail ../pilot/plan.json", "tail link/passwd", "tail pipe", "cat x; id",
                 "tail made.txt 5", "ls link"]  # fmt: skip
        bed.questions = list(asked)
        bed.add("talks", TALKS + STAYS)
        with bed.pilot("--max-jobs", "1") as process:
            here(bed)
            until(lambda: len([each for each in bed.beats() if each.get("answer")]) >= len(asked), 40.0)
            answers = [each["answer"] for each in bed.beats() if each.get("answer")]
            moments = bed.asked("renew")
            let_go(bed)
            assert ended(process)[0] == 0
    said = dict(zip(asked, answers, strict=False))
    assert "sesame" not in said["tail stdout"]
    assert said["tail stdout"].splitlines()[1] == "second line"
    assert {"made.txt", "link", "pipe"} <= {line.split()[-1] for line in said["ls"].splitlines()} | {"link"}
    assert "sleep" in said["ps"]
    assert str(os.getpid()) not in said["ps"].split()
    for question in ("tail ../pilot/plan.json", "tail link/passwd", "ls link"):
        assert "root:" not in said[question]
        assert "argv" not in said[question]
        assert len(said[question].splitlines()) == 1, said[question]
    assert "no regular file" in said["tail pipe"]
    assert "ask `tail FILE" in said["cat x; id"]
    assert said["tail made.txt 5"] == "x"
    gaps = [later - before for before, later in pairwise(moments)]
    assert min(gaps) > 0.9, "and no faster than once a second, however much is asked"


def test_the_queue_wants_its_job_back(bed: Bed) -> None:
    """Saved, told as interrupted, and somebody else's to go on with: no failure of the job's."""
    job = bed.add("wanted", STAYS)
    with bed.pilot("--max-jobs", "1") as process:
        here(bed)
        bed.command = "stop"
        code, said, _ = ended(process)
    assert code == 0
    assert [(each["verdict"], each["fault"]["detail"]) for each in said[:-1]] == [
        ("interrupted", "the queue wants the job back")
    ]
    view = bed.user.show(job)
    assert (view.job.state, view.failures, view.interruptions) == ("waiting", 0, 1)


def test_no_hanging_report_look_or_claim_delays_a_heartbeat(bed: Bed) -> None:
    """Three connections: what hangs on one is not felt on the others."""
    bed.add("stays", STAYS)
    bed.add("short", "true")
    for verb in ("report", "changed"):
        bed.server.plan.add(Fault(hangs=True), verb, times=50)
    with bed.pilot("--idle-exit", "0.5s", PILOT_CPUS="2") as process:
        here(bed)
        until(lambda: bool(bed.asked("report")))
        began = time.monotonic()
        until(lambda: time.monotonic() > began + 3 * LEASE)
        beats = [each for each in bed.asked("renew") if each > began]
        assert len(beats) >= 6
        assert max(b - a for a, b in pairwise(beats)) < LEASE / 2
        assert process.poll() is None
        assert connections(process.pid, bed.server.url) == 3
        bed.server.plan.clear()
        bed.server.released.set()
        let_go(bed)
        code, said, _ = ended(process)
    assert (code, said[-1]["pilot"]["verdicts"]) == (0, {"succeeded": 2})


# ---- leaving


def test_a_look_that_lasts_is_not_waited_for(bed: Bed) -> None:
    bed.server.plan.add(Fault(hangs=True), "changed", times=50)
    with bed.pilot() as process:
        until(lambda: bool(bed.asked("changed")))
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        code, said, _ = ended(process)
    assert (code, said[-1]["pilot"]["why"]) == (143, "stop")
    assert time.monotonic() - began < 1.5


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_reports_that_nobody_takes_are_left_to_the_next_pilot_of_the_state(bed: Bed, number: int) -> None:
    job = bed.add("done", STAYS)
    with bed.pilot("--max-jobs", "1", PILOT_GRACE="1s") as process:
        here(bed)
        bed.server.stop()
        let_go(bed)
        until(lambda: '"order": "report"' in (bed.rig.root / "state" / "far" / "pilot.log").read_text())
        process.send_signal(number)
        code, said, err = ended(process)
    if number == signal.SIGTERM:
        assert (code, said[-1]["pilot"]["unsent"]) == (75, 1)
        assert err.splitlines()[-1].startswith(
            "pilot: 1 report has not reached the queue: the next pilot with --state "
        )
    assert bed.verdicts(job) == []
    bed.server.start()
    with bed.pilot("--idle-exit", "0.5s") as process:
        code, said, _ = ended(process)
    assert (code, said[-1]["pilot"]["unsent"]) == (0, 0)
    assert [each["verdict"] for each in said[:-1]] == ["succeeded"]
    assert bed.verdicts(job) == ["succeeded"]


def test_a_report_is_sent_again_until_the_server_is_back(bed: Bed) -> None:
    """With growing delays, and once it is taken never again."""
    job = bed.add("done", STAYS)
    with bed.pilot("--max-jobs", "1") as process:
        here(bed)
        bed.server.plan.add(Fault(503), "report", times=4)
        let_go(bed)
        code, said, _ = ended(process)
    assert (code, said[0]["verdict"]) == (0, "succeeded")
    moments = bed.asked("report")
    gaps = [later - before for before, later in pairwise(moments)]
    assert len(moments) == 5
    assert gaps[-1] > gaps[0]
    assert bed.verdicts(job) == ["succeeded"]


def test_a_store_that_waits_for_a_dead_server_does_not_hammer_it(rig: Rig) -> None:
    """After a suspension nothing is written outside before the server has said that the attempt is still ours."""
    bed = Bed(rig, 60.0)
    with contextlib.closing(bed):
        job = bed.add("stays", STAYS + " >out.txt", outputs=(Output("out.txt"),))
        with bed.pilot("--max-jobs", "1") as process:
            here(bed)
            bed.server.stop()
            process.send_signal(signal.SIGCONT)
            log = rig.root / "state" / "far" / "pilot.log"
            until(lambda: "heartbeat failed" in log.read_text())
            let_go(bed)
            until(lambda: '"event": "Exited"' in log.read_text())
            began = time.monotonic()
            until(lambda: time.monotonic() > began + 4.0)
            assert log.read_text().count("heartbeat failed") <= 4
            assert not list(rig.root.glob("out/*/*/out.txt"))
            bed.server.start()
            code, said, _ = ended(process)
        assert (code, said[0]["verdict"]) == (0, "succeeded")
        assert bed.verdicts(job) == ["succeeded"]


def test_with_nothing_in_hand_a_dead_server_is_left(bed: Bed) -> None:
    with bed.pilot("--idle-exit", "1s") as process:
        until(lambda: bool(bed.asked("changed")))
        bed.server.stop()
        code, said, _ = ended(process, 60.0)
    assert (code, said[-1]["pilot"]["why"]) == (69, "idle")
    bed.server.start()


def test_an_offline_queue_is_left_at_once_but_not_with_jobs_in_hand(bed: Bed) -> None:
    job = bed.add("stays", STAYS)
    with bed.pilot() as process:
        here(bed)
        process.send_signal(signal.SIGKILL)
    bed.set_state(QueueState.OFFLINE)
    let_go(bed)
    with bed.pilot() as process:
        code, said, err = ended(process)
    assert (code, said[-1]["pilot"]["why"]) == (0, "drain"), err
    assert len(bed.verdicts(job)) == 1
    with bed.pilot() as process:
        code, said, err = ended(process)
    assert (code, said, len(err.splitlines())) == (75, [], 1)
    assert "is offline" in err


def test_further_jobs_are_taken_only_while_the_pilot_is_young(bed: Bed) -> None:
    first, second, third = (bed.add(name, "sleep 0.7") for name in ("first", "second", "third"))
    with bed.pilot(PILOT_TIMEFLOOR="1s", PILOT_CPUS="1") as process:
        code, said, _ = ended(process)
    assert (code, said[-1]["pilot"]["why"]) == (0, "timefloor")
    assert [bed.verdicts(each) for each in (first, second, third)] == [["succeeded"], ["succeeded"], []]


@pytest.mark.parametrize("more", [{"needs": []}, {"command": []}, {"needs": [{"cpus": -4}]}])
def test_a_grant_that_breaks_the_rules_is_declined_and_the_pilot_goes_on(bed: Bed, more: dict[str, object]) -> None:
    bad, good = bed.add("bad", "true"), bed.add("good", "true")
    claim = bed.server.queue._claim

    def spoilt(asked: Any, queue: LocalQueue) -> Any:
        answer: Any = claim(asked, queue)
        grants = [_plain(each) if each else None for each in answer["grants"]]
        for each in (each for each in grants if each and each["job_id"] == bad):
            each["spec"] |= more
        return {**answer, "grants": grants}

    bed.server.queue._claim = spoilt  # type: ignore[method-assign]
    with bed.pilot("--idle-exit", "1s") as process:
        code, said, _ = ended(process)
    assert code == 0
    found = {each["job_id"]: each for each in said if "job_id" in each}
    assert (found[bad]["verdict"], found[bad]["fault"]["code"], found[bad]["fault"]["party"]) == (
        "declined", "job.invalid", "job",
    )  # fmt: skip
    assert found[good]["verdict"] == "succeeded"


# ---- the dry run


@pytest.mark.parametrize(("plain_panda", "kind"), [(False, "a served queue"), (True, "a plain PanDA server")])
def test_a_dry_run_asks_for_nothing_and_says_what_it_would_ask(bed: Bed, plain_panda: bool, kind: str) -> None:
    job = bed.add("stays", STAYS)
    bed.server.queue._plain_panda = plain_panda
    with bed.pilot("--dry-run", PILOT_CPUS="2") as process:
        code, [said], _ = ended(process)
    assert (code, said["would_claim"]) == (0, None)
    asked = said["would_ask"]
    assert (asked["queue"], asked["kind"], asked["offer"]["cpus"]) == (bed.server.url, kind, 2)
    with bed.pilot("--dry-run", "--format", "text") as process:
        out, _ = process.communicate(timeout=30)
    assert out.splitlines()[0] == f"would ask {bed.server.url}, {kind}, queue default, for a job that fits this slot:"
    assert set(bed.server.verbs()) == {"is_alive"}
    assert bed.user.show(job).job.state == "waiting"


def test_a_dry_run_on_a_server_that_is_not_there_says_so(bed: Bed) -> None:
    bed.server.stop()
    with bed.pilot("--dry-run") as process:
        code, said, err = ended(process)
    bed.server.start()
    assert (code, said, len(err.splitlines())) == (69, [], 1)


def test_a_claim_whose_answer_never_ends_keeps_nobody(bed: Bed) -> None:
    """The pilot leaves within a moment, and what was granted meanwhile is given back by the next of its state."""
    bed.server.plan.add(Fault(hangs=True, done=True), "claim", times=50)
    job = bed.add("granted", "true")
    with bed.pilot() as process:
        until(lambda: bool(bed.asked("claim")))
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        code, said, _ = ended(process)
    assert (code, said[-1]["pilot"]["why"]) == (143, "stop")
    assert time.monotonic() - began < 8.0
    bed.server.plan.clear()
    with bed.pilot("--idle-exit", "0.5s") as process:
        assert ended(process)[0] == 0
    assert bed.user.show(job).job.verdict == "succeeded"


def test_a_claim_that_hangs_is_no_work(bed: Bed) -> None:
    bed.server.plan.add(Fault(hangs=True), "claim", times=50)
    began = time.monotonic()
    with bed.pilot("--idle-exit", "2s") as process:
        code, said, _ = ended(process, 40.0)
    assert (code, said[-1]["pilot"]["why"]) == (0, "idle")
    assert time.monotonic() - began < 20.0


def test_a_grant_that_makes_no_sense_is_named_when_the_pilot_leaves(rig: Rig) -> None:
    bed = Bed(rig, 60.0)
    with contextlib.closing(bed):
        bed.add("odd", "true")
        given = bed.server.queue._claim

        def odd(*asked: Any) -> object:
            answer = to_plain(given(*asked))
            assert isinstance(answer, dict)
            return {**answer, "grants": [each and {**each, "attempt": -1} for each in answer["grants"]]}

        bed.server.queue._claim = odd  # type: ignore[method-assign]
        with bed.pilot("--idle-exit", "1s") as process:
            code, _, err = ended(process, 40.0)
        assert code != 0
        assert "attempt -1" in err.splitlines()[-1]
        lines = [json.loads(each) for each in (bed.rig.root / "state/far/pilot.log").read_text().splitlines()]
        assert any(each["level"] == "warning" and "attempt -1" in each.get("why", "") for each in lines)
