"""What a pilot does when it is told something: signals, a cancel, a suspension, a place that cannot be written."""

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.piloted import Rig, until
from tests.sandboxes import apptainer_cache

# Says that it is here, works until it is let go (or, from the second attempt on, not at all), and leaves an output.
UNTIL_LET_GO = """echo here >>"$1/here"
trap 'exit 143' TERM
while [ "$PILOT_ATTEMPT" = 1 ] && [ ! -e "$1/go" ]; do sleep 0.02; done
echo "$PILOT_ATTEMPT" >out.txt
"""
OUT = {"outputs": [{"name": "out.txt"}]}
FOREVER = 'echo here >"$0/here"; exec sleep 600'


@contextlib.contextmanager
def pilot(rig: Rig, *flags: str, state: str = "queue", **env: str) -> Iterator[subprocess.Popen[str]]:
    places = ("--state", rig.root / "state" / state, "--runtime", "bare", "--format", "json", "--idle-exit", "0.3s")
    with rig.begin("run", "--queue", rig.url, *places, *flags, **env) as process:
        yield process


def ended(process: subprocess.Popen[str], patience_s: float = 30.0) -> tuple[int, list[dict]]:
    """The exit code, and the objects that were printed."""
    out, err = process.communicate(timeout=patience_s)
    assert "Traceback" not in err
    return process.returncode, [json.loads(line) for line in out.splitlines()]


def here(rig: Rig, name: str = "here") -> None:
    until((rig.root / name).exists)


def let_go(rig: Rig) -> None:
    (rig.root / "go").write_text("")


def waiting_job(rig: Rig, name: str = "job", **keys: object) -> Path:
    return rig.job(name, "sh", "-c", UNTIL_LET_GO, "sh", str(rig.root), **{**OUT, **keys})


def log(rig: Rig, state: str = "queue") -> str:
    path = rig.root / "state" / state / "pilot.log"
    return path.read_text() if path.exists() else ""


def logged(rig: Rig, text: str) -> None:
    until(lambda: text in log(rig))


def row(rig: Rig, job: str) -> dict:
    rows = rig.pilot("queue", "ls", "--queue", rig.url, "--format", "json").json()
    return next(each for each in rows if each["job_id"] == job)


# ---- TERM, INT, QUIT


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_the_first_signal_stops_in_good_order(rig: Rig, number: int, code: int) -> None:
    """The quickest of three, because the machine does other things too."""
    seconds = []
    for each in "abc":
        (job,) = rig.queue(rig.job(each, "sh", "-c", FOREVER, str(rig.root)))
        with pilot(rig) as process:
            here(rig)
            began = time.monotonic()
            process.send_signal(number)
            found, said = ended(process)
            seconds.append(time.monotonic() - began)
        assert found == code
        assert [(each["verdict"], each["fault"]["code"]) for each in said[:-1]] == [("interrupted", "batch.preempted")]
        assert said[-1]["pilot"]["why"] == "stop"
        assert row(rig, job)["state"] == "waiting"
        rig.pilot("queue", "rm", "--queue", rig.url, job)
        (rig.root / "here").unlink()
    assert min(seconds) < 0.5, seconds


@pytest.mark.apptainer
def test_a_payload_in_a_container_is_stopped_as_quickly(rig: Rig) -> None:
    (image,) = sorted((apptainer_cache() / "images").glob("test-tiny-*.dir"))[-1:]
    rig.queue(rig.job("boxed", "sh", "-c", "echo ready; exec sleep 600", image=str(image)))
    with pilot(rig, "--runtime", "apptainer") as process:
        until(lambda: any("ready" in each.read_text() for each in rig.root.glob("state/*/scratch/jobs/*/logs/stdout")))
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        code, said = ended(process)
    assert (code, said[0]["verdict"], said[0]["isolation"]["container"]) == (143, "interrupted", "apptainer")
    assert time.monotonic() - began < 2.0


def test_the_second_term_waits_for_nobody(rig: Rig) -> None:
    (job,) = rig.queue(rig.job("stubborn", "python3", "ignore_term.py", zoo=["ignore_term.py"]))
    with pilot(rig, PILOT_GRACE="60s") as process:
        until(lambda: any("ready" in each.read_text() for each in rig.root.glob("state/*/scratch/jobs/*/logs/stdout")))
        process.send_signal(signal.SIGTERM)
        logged(rig, '"phase": "stopping"')
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        code, said = ended(process)
    assert code == 143
    assert time.monotonic() - began < 3.5
    assert [each["verdict"] for each in said[:-1]] == ["interrupted"]
    assert row(rig, job)["state"] == "waiting"


def test_a_payload_that_ends_well_while_it_is_stopped_has_succeeded(rig: Rig) -> None:
    job = rig.job("well", "python3", "stop_well.py", zoo=["stop_well.py"], outputs=[{"name": "output.txt"}])
    rig.queue(job)
    with pilot(rig) as process:
        until(lambda: any("ready" in each.read_text() for each in rig.root.glob("state/*/scratch/jobs/*/logs/stdout")))
        process.send_signal(signal.SIGTERM)
        code, said = ended(process)
    assert (code, said[0]["verdict"], len(said[0]["outputs"])) == (143, "succeeded", 1)


def test_quit_finishes_what_runs_and_takes_no_more(rig: Rig) -> None:
    first, second = rig.queue(waiting_job(rig, "first"), waiting_job(rig, "second"))
    with pilot(rig, PILOT_CPUS="1") as process:
        here(rig)
        process.send_signal(signal.SIGQUIT)
        logged(rig, '"notice": "drain"')
        let_go(rig)
        code, said = ended(process)
    assert code == 0
    assert [(each["job_id"], each["verdict"]) for each in said[:-1]] == [(first, "succeeded")]
    assert row(rig, second)["state"] == "waiting"


def test_hup_is_ignored_and_usr2_tells_the_state(rig: Rig) -> None:
    rig.queue(waiting_job(rig))
    with pilot(rig) as process:
        here(rig)
        process.send_signal(signal.SIGHUP)
        process.send_signal(signal.SIGUSR2)
        logged(rig, '"event": "state"')
        let_go(rig)
        code, said = ended(process)
    assert (code, said[0]["verdict"]) == (0, "succeeded")


def test_a_reader_that_goes_away_does_not_end_the_pilot(rig: Rig) -> None:
    (job,) = rig.queue(waiting_job(rig))
    with pilot(rig) as process:
        here(rig)
        assert process.stdout is not None
        process.stdout.close()
        let_go(rig)
        assert process.wait(30) == 0
    assert row(rig, job)["verdict"] == "succeeded"


# ---- checkpoints


def test_usr1_saves_a_checkpoint_and_the_payload_goes_on(rig: Rig) -> None:
    steps = rig.job(
        "steps", "python3", "save_and_stop.py", "60", "0.02", zoo=["save_and_stop.py"],
        outputs=[{"name": "counted.txt"}], checkpoint={"interval": "1h"},
    )  # fmt: skip
    (job,) = rig.queue(steps)
    with pilot(rig) as process:
        until(lambda: any("starting" in f.read_text() for f in rig.root.glob("state/*/scratch/jobs/*/logs/stdout")))
        process.send_signal(signal.SIGUSR1)
        code, said = ended(process)
    assert (code, said[0]["verdict"]) == (0, "succeeded")
    assert len(list(rig.root.glob(f"out/{job}/1/checkpoint/gen-*.tar"))) == 1


def test_a_stopped_payload_goes_on_from_its_checkpoint_in_the_next_attempt(rig: Rig) -> None:
    steps = rig.job(
        "steps", "python3", "save_and_stop.py", "80", "0.02", zoo=["save_and_stop.py"],
        outputs=[{"name": "counted.txt"}], checkpoint={"interval": "1h"},
    )  # fmt: skip
    (job,) = rig.queue(steps)
    with pilot(rig) as process:
        until(lambda: any(f.stat().st_size > 500 for f in rig.root.glob("state/*/scratch/jobs/*/w*/events.jsonl")))
        process.send_signal(signal.SIGTERM)
        code, said = ended(process)
    assert (code, said[0]["verdict"], said[0]["resume"]["attempt"]) == (143, "interrupted", 1)
    with pilot(rig, state="another") as process:
        code, said = ended(process)
    assert (code, said[0]["verdict"], said[0]["attempt"]) == (0, "succeeded", 2)
    counted = (rig.root / "out" / job / "2" / "counted.txt").read_text()
    assert counted.split() == [str(each) for each in range(80)]
    stdout = (rig.root / "out" / job / "2" / "logs" / "stdout.log").read_text()
    assert int(stdout.split("starting at step ")[1].split()[0]) > 0, "it began anew"


# ---- the queue


def test_a_cancel_reaches_the_running_payload(rig: Rig) -> None:
    rig.pilot("queue", "init", "--queue", rig.url, "--output", rig.root / "out", "--lease", "3s")
    (job,) = rig.queue(rig.job("endless", "sh", "-c", FOREVER, str(rig.root)))
    with pilot(rig) as process:
        here(rig)
        rig.pilot("queue", "rm", "--queue", rig.url, job)
        code, said = ended(process)
    assert (code, said[0]["verdict"], said[0]["fault"]["code"]) == (0, "cancelled", "job.cancelled")
    assert row(rig, job)["verdict"] == "cancelled"


def test_parked_outputs_wait_for_the_next_pilot_of_the_same_state(rig: Rig) -> None:
    shut = rig.root / "shut"
    shut.write_text("a file where a directory should be")
    outputs = [{"name": "out.txt", "to": (shut / "deep").as_uri()}]
    (job,) = rig.queue(rig.job("parked", "sh", "-c", "echo good >out.txt", outputs=outputs))
    with pilot(rig) as process:
        logged(rig, '"phase": "parked"')
        process.send_signal(signal.SIGTERM)
        code, said = ended(process)
    assert (code, said[-1]["pilot"]["parked"], row(rig, job)["state"]) == (143, 1, "granted")
    shut.unlink()
    with pilot(rig) as process:
        code, said = ended(process)
    assert (code, said[0]["verdict"], said[0]["attempt"]) == (0, "succeeded", 1)
    assert (shut / "deep" / job / "1" / "out.txt").read_text() == "good\n"


# ---- suspension


def _suspended(rig: Rig, process: subprocess.Popen[str], seconds: float) -> None:
    """Stopped for longer than the lease; meanwhile the payload ends, so that there is something to write."""
    os.kill(process.pid, signal.SIGSTOP)
    time.sleep(0.2)
    let_go(rig)
    time.sleep(seconds)


def test_after_a_suspension_the_lease_is_renewed_before_anything_is_written(rig: Rig) -> None:
    rig.pilot("queue", "init", "--queue", rig.url, "--output", rig.root / "out", "--lease", "1s")
    (job,) = rig.queue(waiting_job(rig))
    with pilot(rig) as process:
        here(rig)
        _suspended(rig, process, 1.5)
        os.kill(process.pid, signal.SIGCONT)
        code, said = ended(process)
    assert code == 0
    attempt = row(rig, job)["attempt"]
    assert (row(rig, job)["verdict"], said[0]["verdict"]) == ("succeeded", "succeeded")
    assert [each.name for each in (rig.root / "out" / job).iterdir()] == [str(attempt)]


def test_after_a_suspension_nothing_is_written_for_a_job_that_is_somebody_elses(rig: Rig) -> None:
    rig.pilot("queue", "init", "--queue", rig.url, "--output", rig.root / "out", "--lease", "1s")
    (job,) = rig.queue(waiting_job(rig))
    with pilot(rig) as process:
        here(rig)
        _suspended(rig, process, 1.5)
        with pilot(rig, "--max-jobs", "1", state="another") as other:
            code, said = ended(other)
        assert (code, said[0]["verdict"], said[0]["attempt"]) == (0, "succeeded", 2)
        os.kill(process.pid, signal.SIGCONT)
        code, said = ended(process)
    assert code == 0
    assert [(each["attempt"], each["verdict"], each["accepted"]) for each in said[:-1]] == [(1, "interrupted", False)]
    assert said[-1]["pilot"]["verdicts"] == {"fenced": 1}
    assert [each.name for each in (rig.root / "out" / job).iterdir()] == ["2"]
    assert (rig.root / "out" / job / "2" / "out.txt").read_text() == "2\n"
    assert (row(rig, job)["verdict"], row(rig, job)["attempt"]) == ("succeeded", 2)


def test_a_store_that_was_under_way_at_the_suspension_is_not_finished_for_somebody_else(rig: Rig) -> None:
    rig.pilot("queue", "init", "--queue", rig.url, "--output", rig.root / "out", "--lease", "1s")
    (job,) = rig.queue(waiting_job(rig))
    with pilot(rig, PILOT_FAILPOINT="part.sync.after:sleep=2") as process:
        here(rig)
        let_go(rig)
        logged(rig, '"phase": "staging_out"')
        time.sleep(0.3)
        _suspended(rig, process, 1.5)
        with pilot(rig, "--max-jobs", "1", state="another") as other:
            code, said = ended(other)
        assert (code, said[0]["verdict"], said[0]["attempt"]) == (0, "succeeded", 2)
        time.sleep(0.5)
        os.kill(process.pid, signal.SIGCONT)
        assert ended(process)[0] == 0
    assert list((rig.root / "out" / job / "1").glob("*.txt")) == []
    assert (row(rig, job)["verdict"], row(rig, job)["attempt"]) == ("succeeded", 2)
