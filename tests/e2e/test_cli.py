"""The commands as people type them: what they print, where, and with which exit code they end."""

import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import click
import pytest

from pilot.cli.main import COMMANDS
from pilot.cli.manual import man
from tests.e2e.piloted import Rig, until
from tests.sandboxes import TREE

ECHO = ("sh", "-c", "echo hello; echo data > out.txt")
OUT: dict[str, Any] = {"outputs": [{"name": "out.txt"}]}


# --- help, version, errors -------------------------------------------------------------------------------------------


def every_command() -> list[tuple[str, ...]]:
    found: list[tuple[str, ...]] = [()]
    for name, (load, _) in COMMANDS.items():
        command = load()
        found.append((name,))
        found += [(name, each) for each in command.commands] if isinstance(command, click.Group) else []
    return found


@pytest.mark.parametrize("words", every_command(), ids=" ".join)
def test_every_command_has_help_with_an_example(rig: Rig, words: tuple[str, ...]) -> None:
    ended = rig.pilot(*words, "--help")
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.startswith("Usage: pilot")
    assert re.search(r"Examples?: pilot ", ended.out)


def test_the_version_comes_at_once(rig: Rig) -> None:
    """Before any heavy import: what a script asks first must not cost a second."""
    script = "import sys; sys.argv = ['pilot', '--version']\nfrom pilot.__main__ import main\ntry: main()\n"
    script += "finally: print(sorted({'pydantic', 'yaml', 'sqlite3', 'structlog', 'classad2'} & set(sys.modules)))"
    ended = subprocess.run(
        [sys.executable, "-c", script], env=rig.environment(), cwd=rig.root, capture_output=True, text=True, timeout=30,
        check=False,
    )  # fmt: skip
    assert ended.stdout == "pilot, version 0.1.0\n[]\n"


WRONG: dict[str, tuple[list[str], int, str]] = {
    "command": (["rnu"], 64, "did you mean 'run'?"),
    "option": (["run", "--job-file", "x"], 64, "--job-file"),
    "value": (["run", "--max-jobs", "many"], 64, "--max-jobs"),
    "duration": (["run", "--idle-exit", "soon"], 64, "write 90s, 30m or 1h30m"),
    "no-queue": (["run"], 78, "give --queue sqlite:PATH"),
    "no-output": (["run", "--job", "x.yaml"], 64, "--output DIR"),
    "both": (["run", "--job", "x.yaml", "--output", "o", "--queue", "sqlite:q.db"], 64, "either --job or --queue"),
    "queue-missing": (["run", "--queue", "sqlite:none.db"], 69, "pilot queue init"),
    "queue-scheme": (["run", "--queue", "ftp://x"], 78, "write sqlite:PATH"),
    "queue-not-one": (["run", "--queue", "sqlite:notes.txt"], 78, "not a queue"),
    "state": (["run", "--queue", "sqlite:q.db", "--state", "/proc/none"], 73, "give one that can be written"),
    "state-file": (["run", "--queue", "sqlite:q.db", "--state", "notes.txt"], 73, "give one that can be written"),
    "config-missing": (["run", "--config", "none.yaml"], 78, "no such configuration file"),
    "config-key": (["run", "--config", "config.yaml"], 78, "config.yaml:1:1: unknown key 'idel_exit'; did you mean"),
    "job-nobody": (["job", "logs", "none", "--queue", "sqlite:q.db"], 64, "no job 'none'"),
    "job-no-state": (["job", "replay", "none"], 64, "--state"),
    "explain": (["explain", "no.such"], 64, "no.such"),
    "schema": (["schema", "none"], 64, "unknown schema"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_an_error_is_one_line_on_stderr_with_its_own_code(rig: Rig, wrong: str) -> None:
    arguments, code, says = WRONG[wrong]
    (rig.root / "notes.txt").write_text("not a queue, not a directory\n" * 40)
    (rig.root / "config.yaml").write_text("idel_exit: 3\n")
    if "sqlite:q.db" in arguments:
        assert rig.pilot("queue", "init", "--queue", "sqlite:q.db").code == 0
    ended = rig.pilot(*arguments)
    assert (ended.code, ended.out) == (code, "")
    assert len(ended.said) == 1
    assert ended.said[0].startswith("pilot: ")
    assert says in ended.said[0]


# --- one job ---------------------------------------------------------------------------------------------------------


def test_one_job_by_relative_paths(rig: Rig) -> None:
    job = rig.job("mine", *ECHO, **OUT)
    ended = rig.pilot("run", "--job", "job.json", "--output", "out", "--runtime", "bare", cwd=job.parent)
    assert (ended.code, ended.err) == (0, "")
    assert ended.lines[0].startswith("succeeded: mine (")
    assert (job.parent / "out" / "out.txt").read_text() == "data\n"
    assert (job.parent / "out" / "logs" / "stdout.log").read_text() == "hello\n"


def test_paths_may_go_up(rig: Rig) -> None:
    """No file URL may hold `..`, but people type it: the output of one job, of a queue, and beside a queue."""
    job, below = rig.job("mine", *ECHO, **OUT), rig.root / "a" / "b"
    below.mkdir(parents=True)
    flags = ("--output", "../out", "--state", "../state", "--runtime", "bare")
    assert rig.pilot("run", "--job", job, *flags, cwd=below).code == 0
    assert (rig.root / "a" / "out" / "out.txt").read_text() == "data\n"
    for name, more in {"q.db": (), "r.db": ("--output", "../stored")}.items():
        queue = ("--queue", f"sqlite:../{name}")
        assert rig.pilot("queue", "init", *queue, *more, cwd=below).code == 0
        assert rig.pilot("queue", "add", *queue, job, cwd=below).code == 0
        served = rig.pilot("run", *queue, "--runtime", "bare", "--max-jobs", "1", cwd=below, PILOT_STATE=f"../{name}-s")
        assert served.lines[0].startswith("succeeded: mine ("), served
    found = {each.relative_to(rig.root / "a").parts[0] for each in (rig.root / "a").glob("*/*/1/out.txt")}
    assert found == {"q-outputs", "stored"}


def test_json_of_one_job_is_its_report_alone(rig: Rig) -> None:
    job = rig.job("mine", *ECHO, **OUT)
    ended = rig.pilot("run", "--job", job, "--output", rig.root / "out", "--runtime", "bare", "--format", "json")
    assert (ended.code, ended.err) == (0, "")
    report = ended.json()
    assert (report["name"], report["attempt"], report["verdict"], report["fault"]) == ("mine", 1, "succeeded", None)
    assert report["outputs"][0]["bytes"] == 5
    assert report["seconds"]["reporting"] > 0
    for url in filter(None, report["logs"].values()):
        assert Path(url.removeprefix("file://")).stat().st_size


def test_outputs_are_never_overwritten(rig: Rig) -> None:
    job = rig.job("mine", *ECHO, **OUT)
    (rig.root / "out").mkdir()
    (rig.root / "out" / "out.txt").write_text("precious")
    ended = rig.pilot("run", "--job", job, "--output", rig.root / "out", "--runtime", "bare")
    assert (ended.code, ended.out) == (73, "")
    assert ended.err == f"pilot: {rig.root}/out/out.txt: exists already; give another --output, or remove it\n"
    assert (rig.root / "out" / "out.txt").read_text() == "precious"


def test_logs_of_an_earlier_run_are_told_before_the_work_not_after_it(rig: Rig) -> None:
    """A job that failed is mended and run again: its outputs are not there, its logs are."""
    job = rig.job("mine", "false", **OUT)
    flags = ("--output", rig.root / "out", "--runtime", "bare")
    assert rig.pilot("run", "--job", job, *flags).code == 20
    again = rig.pilot("run", "--job", job, *flags)
    assert (again.code, again.out) == (73, "")
    assert again.err == f"pilot: {rig.root}/out/logs/pilot.log: exists already; give another --output, or remove it\n"


def test_an_output_that_appears_meanwhile_is_not_overwritten_either(rig: Rig) -> None:
    place = rig.root / "out" / "mine"
    job = rig.job("mine", "sh", "-c", f"echo data > out.txt; echo precious > {place}/out.txt", **OUT)
    one = rig.one(job)
    assert one.code == 73
    assert one.fault == ("site", "storage.exists")
    assert (place / "out.txt").read_text() == "precious\n"


def test_a_job_that_this_slot_cannot_run_is_declined_with_the_reason(rig: Rig) -> None:
    one = rig.one(rig.job("large", "true", needs={"cpus": 4000}))
    assert one.code == 20
    assert one.lines[-1].startswith("declined: large: this slot cannot run it: needs.cpus: wanted 4000, offered ")


def test_a_job_without_image_is_declined_where_containers_are_wanted(rig: Rig) -> None:
    one = rig.one(rig.job("naked", "true"), runtime="apptainer")
    assert one.code == 20
    assert "declined: naked: this slot cannot run it: image: " in one.out


def test_outputs_that_cannot_be_stored_are_kept_and_stored_later(rig: Rig) -> None:
    """The destination turns bad while the job runs: nothing is lost, and the same command finishes the work."""
    place = rig.root / "out"
    spoil = f"echo data > out.txt; rmdir {place}; echo > {place}"
    job = rig.job("mine", "sh", "-c", spoil, **OUT)
    command = ("run", "--job", job, "--output", place, "--runtime", "bare")
    with rig.begin(*command) as process:
        until(place.is_file)
        until(lambda: "parked" in "".join(each.read_text() for each in rig.tmp.glob("*/pilot.log")))
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 143
    kept = re.search(r"the same command with --state (\S+) tries again", err)
    assert kept, err
    place.unlink()
    again = rig.pilot(*command, "--state", kept[1])
    assert again.code == 0, again.err
    assert (place / "out.txt").read_text() == "data\n"
    shutil.rmtree(kept[1])


def test_the_same_state_directory_serves_one_job_after_another(rig: Rig) -> None:
    """What is done is done: the same command tries again from the start, and another job is no trouble."""
    state = rig.root / "state" / "shared"
    flags = ("--runtime", "bare", "--state", state, "--format", "json")
    bad, good = rig.job("bad", "false"), rig.job("good", *ECHO, **OUT)
    ends = [
        rig.pilot("run", "--job", job, "--output", rig.root / place, *flags)
        for job, place in ((bad, "a"), (bad, "b"), (good, "c"))
    ]
    assert [(each.code, each.json()["verdict"]) for each in ends] == [
        (20, "failed"), (20, "failed"), (0, "succeeded")
    ]  # fmt: skip


def test_an_unfinished_job_is_not_thrown_away_for_another(rig: Rig) -> None:
    """Its pilot died; the same command takes it up again and finishes it, another job is refused the place."""
    state = rig.root / "state" / "shared"
    flags = ("--runtime", "bare", "--state", state, "--format", "json")
    slow = rig.job("slow", "sh", "-c", "sleep 1; echo data > out.txt", **OUT)
    command = ("run", "--job", slow, "--output", rig.root / "out", *flags)
    with rig.begin(*command, PILOT_ADOPT_WINDOW="20s") as process:
        until(lambda: '"Go"' in "".join(each.read_text() for each in state.glob("journal/*.jsonl")))
        process.send_signal(signal.SIGKILL)
        process.wait(10)
    other = rig.pilot("run", "--job", rig.job("other", "true"), "--output", rig.root / "x", *flags)
    assert (other.code, other.err) == (75, f"pilot: {state}: holds the unfinished job 'slow'; give another --state\n")
    again = rig.pilot(*command)
    assert (again.code, again.json()["attempt"]) == (0, 1)
    assert (rig.root / "out" / "out.txt").read_text() == "data\n"


# --- dry run ---------------------------------------------------------------------------------------------------------


@pytest.mark.apptainer
def test_a_dry_run_shows_the_exact_container_command_and_does_nothing(rig: Rig) -> None:
    (rig.root / "data").write_text("x")
    job = rig.job("mine", *ECHO, image="test-tiny", inputs=[{"url": f"file://{rig.root}/data", "as": "in.txt"}], **OUT)
    flags = ("--job", job, "--output", rig.root / "out", "--dry-run")
    text = rig.pilot("run", *flags)
    assert (text.code, text.err) == (0, "")
    assert f"would stage in file://{rig.root}/data as in.txt" in text.lines
    assert "would store out.txt" in text.lines
    found = rig.pilot("run", *flags, "--format", "json").json()["would_claim"]
    argv = found["argv"]
    assert argv[0].endswith("/apptainer")
    assert argv[-3:] == list(ECHO)
    assert [each for each in argv if each.endswith("dst=/srv/in.txt,ro")]
    assert not (rig.root / "out").exists()


def test_a_dry_run_on_a_queue_claims_nothing(rig: Rig) -> None:
    [job_id] = rig.queue(rig.job("mine", *ECHO, **OUT))
    found = rig.pilot("run", "--queue", rig.url, "--runtime", "bare", "--dry-run", "--format", "json")
    assert found.json()["would_claim"]["job_id"] == job_id
    [row] = rig.pilot("queue", "ls", "--queue", rig.url, "--format", "json").json()
    assert (row["state"], row["attempt"]) == ("waiting", 0)


def test_a_dry_run_names_the_job_that_a_pilot_would_get(rig: Rig) -> None:
    """Neither one that waits for another, nor one of lower priority; and where none fits, it says why not."""
    jobs = [{"name": "late", "after": ["low"]}, {"name": "low"}, {"name": "high", "priority": 10}]
    file = rig.root / "jobs.json"
    file.write_text(json.dumps([{"command": ["true"], **each} for each in jobs]))
    rig.queue(file)
    shown = rig.pilot("run", "--queue", rig.url, "--runtime", "bare", "--dry-run")
    assert shown.lines[0].startswith("would claim high (")
    large = rig.job("large", "true", needs={"cpus": 4000})
    shown = rig.pilot("run", "--job", large, "--output", rig.root / "o", "--runtime", "bare", "--dry-run")
    assert shown.lines[0].startswith("nothing that waits fits this slot: large: needs.cpus: wanted 4000, offered ")


# --- a queue ---------------------------------------------------------------------------------------------------------


def test_a_queue_prints_one_object_per_job_and_one_for_the_pilot(rig: Rig) -> None:
    ids = rig.queue(rig.job("one", *ECHO, **OUT), rig.job("two", "false", attempts=1))
    ended = rig.serve()
    assert (ended.code, ended.err) == (0, "")
    *reports, last = ended.objects()
    assert {each["job_id"]: each["verdict"] for each in reports} == {ids[0]: "succeeded", ids[1]: "failed"}
    assert last["pilot"]["verdicts"] == {"succeeded": 1, "failed": 1}
    assert (rig.root / "out" / ids[0] / "1" / "out.txt").read_text() == "data\n"


def test_reflecting_the_exit_status(rig: Rig) -> None:
    rig.queue(rig.job("two", "false", attempts=1))
    assert rig.serve("--reflect-exit-status").code == 20


def test_a_state_directory_has_one_pilot(rig: Rig) -> None:
    rig.queue()
    state = rig.root / "state" / "queue"
    state.mkdir(parents=True)
    with (state / "lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        ended = rig.serve()
    assert (ended.code, ended.out) == (75, "")
    assert ended.err == f"pilot: {state}: another pilot uses this state directory; give another --state\n"


@pytest.mark.skipif(os.geteuid() == 0, reason="issue 2: nothing is unwritable for root; scripts/test is no root")
def test_a_node_that_can_run_nothing_says_so_and_leaves(rig: Rig) -> None:
    assert rig.pilot("queue", "init", "--queue", "sqlite:q.db").code == 0
    ended = rig.pilot("run", "--queue", "sqlite:q.db", "--state", "state", PILOT_APPTAINER="/none/apptainer")
    assert (ended.code, ended.out) == (71, "")
    assert ended.said == [
        "pilot: no job can run here: /none/apptainer: No such file or directory; `pilot doctor` says more"
    ]


def test_a_site_requirement_that_is_no_expression_is_refused(rig: Rig) -> None:
    (rig.root / "config.yaml").write_text("grace: 5s\nrequirements: 'TARGET.Owner == '\n")
    line = "config.yaml:2:15: requirements: not a ClassAd expression; check its spelling"
    checked = rig.pilot("config", "check", "config.yaml")
    assert (checked.code, checked.lines) == (78, [line])
    assert rig.pilot("queue", "init", "--queue", "sqlite:q.db").code == 0
    ended = rig.pilot("run", "--config", "config.yaml", "--queue", "sqlite:q.db", "--state", "state")
    assert (ended.code, ended.out, ended.said) == (78, "", [f"pilot: {line}"])


@pytest.mark.skipif(os.geteuid() == 0, reason="issue 2: nothing is unwritable for root; scripts/test is no root")
def test_a_state_directory_that_may_not_be_written(rig: Rig) -> None:
    rig.queue()
    (rig.root / "state").mkdir(mode=0o500)
    ended = rig.serve()
    (rig.root / "state").chmod(0o700)
    assert (ended.code, len(ended.said)) == (73, 1)
    assert "Permission denied" in ended.err


@pytest.mark.parametrize(("state", "code"), [("offline", 75), ("drain", 0)])
def test_a_closed_queue_gives_nothing_out_and_says_why(rig: Rig, state: str, code: int) -> None:
    """Waiting is no use where the queue is offline, so the pilot says so and goes at once."""
    [job_id] = rig.queue(rig.job("mine", *ECHO, **OUT))
    assert rig.pilot("queue", "set", "--queue", rig.url, "--state", state).code == 0
    ended = rig.serve()
    assert ended.code == code
    if state == "offline":
        assert (ended.out, len(ended.said)) == ("", 1)
        assert f"queue default of {rig.url} is offline" in ended.err
    else:
        assert ended.objects()[-1]["pilot"]["verdicts"] == {}
    why = rig.pilot("queue", "explain", "--queue", rig.url, "--format", "json", job_id).json()
    assert (why["clause"], why["offered"]) == ("queue", state)


def test_code_travels_with_the_job(rig: Rig, tmp_path: Path) -> None:
    """The directory is gone when the pilot starts: what it runs came through the queue, and cannot be changed."""
    job = rig.job("mine", "python3", "main.py", code=["main.py", "lib/"], **OUT)
    (job.parent / "lib" / "deep").mkdir(parents=True)
    (job.parent / "lib" / "deep" / "words.txt").write_text("from the laptop")
    (job.parent / "lib" / "tool.py").write_text("TEXT = open('lib/deep/words.txt').read()\n")
    (job.parent / "main.py").write_text("import lib.tool as t\nopen('out.txt', 'w').write(t.TEXT)\n")
    [job_id] = rig.queue(job)
    shutil.rmtree(job.parent)
    [report, _] = rig.serve().objects()
    assert report["verdict"] == "succeeded", report["fault"]
    assert (rig.root / "out" / job_id / "1" / "out.txt").read_text() == "from the laptop"


def test_jobs_wait_for_those_before_them(rig: Rig) -> None:
    """The second starts after the first has ended; what waits for a failed one says whose failure that was."""
    first = rig.job("first", "sh", "-c", "sleep 0.5; date +%s.%N > out.txt", **OUT)
    second = rig.job("second", "sh", "-c", "date +%s.%N > out.txt", after=["first"], **OUT)
    broken = rig.job("broken", "false", attempts=1)
    orphan = rig.job("orphan", "true", after=["broken"])
    ids = rig.queue(second, first, orphan, broken)
    reports = {each["name"]: each for each in rig.serve().objects()[:-1]}
    assert reports["second"]["started"] >= reports["first"]["ended"]
    assert "orphan" not in reports
    view = rig.pilot("queue", "show", "--queue", rig.url, "--format", "json", ids[2]).json()
    assert (view["state"], view["verdict"], view["fault"]["code"]) == ("done", "failed", "job.predecessor")


def test_a_failure_of_the_payload_is_tried_again_as_often_as_the_job_allows(rig: Rig) -> None:
    counter = rig.root / "count"
    twice = f"echo x >> {counter}; test $(wc -l < {counter}) -ge 3 && echo data > out.txt"
    [good, bad] = rig.queue(
        rig.job("third-time", "sh", "-c", twice, attempts=3, **OUT), rig.job("never", "false", attempts=2)
    )
    *reports, _ = rig.serve().objects()
    by_job = {each: [r["verdict"] for r in reports if r["job_id"] == each] for each in (good, bad)}
    assert by_job == {good: ["failed", "failed", "succeeded"], bad: ["failed", "failed"]}
    assert [each["attempt"] for each in reports if each["job_id"] == good] == [1, 2, 3]
    assert (rig.root / "out" / good / "3" / "out.txt").exists()


def test_a_job_that_is_wrong_is_not_tried_again(rig: Rig) -> None:
    rig.queue(rig.job("mine", "no-such-command", attempts=5))
    *reports, _ = rig.serve().objects()
    assert [each["fault"]["code"] for each in reports] == ["command.missing"]


def test_an_invalid_model_is_not_stored_but_the_logs_are(rig: Rig) -> None:
    says = "echo checking; echo the model is wrong >&2; exit 1"
    [job_id] = rig.queue(rig.job("mine", *ECHO, validate=["sh", "-c", says], attempts=1, **OUT))
    [report, _] = rig.serve().objects()
    assert (report["verdict"], report["validated"], report["outputs"]) == ("failed", False, [])
    assert report["fault"]["code"] == "payload.invalid"
    assert "the model is wrong" in report["fault"]["detail"]
    place = rig.root / "out" / job_id / "1"
    assert sorted(each.name for each in place.iterdir()) == ["logs"]
    assert (place / "logs" / "stdout.log").read_text() == "hello\n"
    assert (place / "logs" / "validate.stderr.log").read_text() == "the model is wrong\n"


def test_patterns_folders_optional_outputs_and_places_of_their_own(rig: Rig) -> None:
    elsewhere = (rig.root / "elsewhere").as_uri()
    script = "mkdir -p plots/2d models; touch plots/a.png plots/2d/b.png plots/c.txt models/a.onnx; echo 1 > a.onnx"
    wanted = [
        {"name": "plots/*.png"},
        {"name": "models", "to": f"{elsewhere}/models"},
        {"name": "*.onnx", "to": elsewhere},
        {"name": "none/*", "optional": True},
        {"name": "plots"},
    ]
    [job_id] = rig.queue(rig.job("mine", "sh", "-c", script, outputs=wanted))
    [report, _] = rig.serve().objects()
    assert report["verdict"] == "succeeded", report["fault"]
    here, there = f"file://{rig.root}/out/{job_id}/1", f"{elsewhere}/{{}}{job_id}/1"
    assert {each["name"]: each["url"] for each in report["outputs"]} == {
        "plots/a.png": f"{here}/plots/a.png",
        "models/a.onnx": f"{there.format('models/')}/models/a.onnx",
        "a.onnx": f"{there.format('')}/a.onnx",
        "plots/2d/b.png": f"{here}/plots/2d/b.png",
        "plots/c.txt": f"{here}/plots/c.txt",
    }
    for each in report["outputs"]:
        assert Path(each["url"].removeprefix("file://")).exists()


@pytest.mark.apptainer
def test_site_binds_are_seen_read_only_and_listed(rig: Rig) -> None:
    site = rig.root / "cvmfs"
    site.mkdir()
    (site / "release").write_text("v1\n")
    job = rig.job("mine", "sh", "-c", f"cat {site}/release > out.txt; ! touch {site}/x", image="test-tiny", **OUT)
    one = rig.one(job, runtime="apptainer", PILOT_BINDS=str(site))
    assert one.report["verdict"] == "succeeded", one.out
    assert one.report["isolation"]["binds"] == [str(site)]
    assert one.report["isolation"]["container"] == "apptainer"
    assert (one.output / "out.txt").read_text() == "v1\n"
    assert not (site / "x").exists()


# --- looking at one job ----------------------------------------------------------------------------------------------


def running(rig: Rig) -> list[Path]:
    return list(rig.root.glob("state/*/scratch/jobs/*/logs/stdout"))


def test_logs_of_a_running_job_are_followed_and_the_job_is_killed(rig: Rig) -> None:
    [job_id] = rig.queue(rig.job("mine", "sh", "-c", "while :; do echo tick; sleep 0.1; done"))
    assert rig.pilot("queue", "set", "--queue", rig.url, "--lease", "2s").code == 0
    state = rig.root / "state" / "queue"
    flags = ("--queue", rig.url, "--state", state, "--runtime", "bare", "--max-jobs", "1", "--format", "json")
    with rig.begin("run", *flags) as pilot:
        until(lambda: running(rig) and running(rig)[0].stat().st_size > 20)
        with rig.begin("job", "logs", "-f", job_id, "--state", state) as reader:
            time.sleep(0.3)
            killed = rig.pilot("job", "kill", job_id, "--queue", rig.url)
            assert killed.code == 0
            assert killed.out.startswith(f"mine ({job_id}): running; it has been asked to end")
            followed, _ = reader.communicate(timeout=30)
        out, _ = pilot.communicate(timeout=30)
    assert reader.returncode == 0
    assert followed.count("tick\n") > 4
    report = json.loads(out.splitlines()[0])
    assert (report["verdict"], report["fault"]["code"]) == ("cancelled", "job.cancelled")
    stored = rig.pilot("job", "logs", job_id, "--queue", rig.url)
    assert stored.out == (rig.root / "out" / job_id / "1" / "logs" / "stdout.log").read_text()
    assert stored.out.startswith("tick\n")


def test_the_queue_is_enough_to_find_the_state_of_a_pilot_with_nothing_set(rig: Rig) -> None:
    """`pilot run --queue Q` without --state, and `pilot job ... --queue Q` without --state, mean the same place."""
    [job_id] = rig.queue(rig.job("mine", "sh", "-c", "echo once >&2; exit 3", attempts=1))
    early = rig.pilot("job", "logs", "mine", "--queue", rig.url)
    assert (early.code, len(early.said)) == (69, 1)
    assert "no attempt of it has ended yet; `pilot queue explain mine`" in early.err
    rig.pilot("run", "--queue", rig.url, "--runtime", "bare", "--max-jobs", "1")
    assert "Granted" in rig.pilot("job", "replay", job_id, "--queue", rig.url).out
    again = rig.pilot("job", "rerun", "mine", PILOT_QUEUE=rig.url)
    assert (again.code, again.err) == (3, "once\n")
    silent = rig.pilot("job", "logs", "mine", "--queue", rig.url)
    assert (silent.code, silent.out) == (0, "")
    assert silent.err == (
        "pilot: job mine: nothing in its stdout: it was empty, or it could not be stored; --stderr shows the other\n"
    )
    assert rig.pilot("job", "logs", "mine", "--stderr", "--queue", rig.url).out == "once\n"


def test_a_running_job_is_followed_with_the_queue_alone(rig: Rig) -> None:
    [job_id] = rig.queue(rig.job("mine", "sh", "-c", "for i in 1 2 3 4 5 6 7 8 9 10; do echo tick; sleep 0.2; done"))
    with rig.begin("run", "--queue", rig.url, "--runtime", "bare", "--max-jobs", "1") as pilot:
        logs = ".local/state/pilot/*/scratch/jobs/*/logs/stdout"
        until(lambda: any(each.stat().st_size for each in rig.home.glob(logs)))
        assert rig.pilot("job", "logs", "-f", job_id, "--queue", rig.url).out == "tick\n" * 10
        pilot.communicate(timeout=30)


@pytest.mark.parametrize("image", ["bare", pytest.param("test-tiny", marks=pytest.mark.apptainer)])
def test_a_failed_job_is_opened_again(rig: Rig, image: str) -> None:
    """Its sandbox is kept: told again from the journal, run once more, and entered."""
    contained = image != "bare"
    keys = {"image": image} if contained else {}
    (rig.root / "data").write_text("precious input")
    job = rig.job(
        "mine", "sh", "-c", "cat in.txt notes.txt; echo $COLOUR; exit 3", code=["notes.txt"],
        inputs=[{"url": f"file://{rig.root}/data", "as": "in.txt"}], environment={"COLOUR": "blue"}, **keys,
    )  # fmt: skip
    (job.parent / "notes.txt").write_text(" and code ")
    one = rig.one(job, runtime="apptainer" if contained else "bare")
    assert one.fault == ("payload", "payload.exit")
    job_id = one.report["job_id"]
    story = rig.pilot("job", "replay", job_id, "--state", one.state)
    assert story.code == 0
    facts = [each.split()[1] for each in story.lines]
    assert facts[:5] == ["Granted", "Arrived", "Go", "Exited", "Stored"]
    assert "payload.exit" in story.out
    assert all("fact" in json.loads(each) for each in
               rig.pilot("job", "replay", job_id, "--state", one.state, "--format", "json").lines)  # fmt: skip
    again = rig.pilot("job", "rerun", job_id, "--state", one.state)
    assert (again.code, again.out) == (3, "precious input and code blue\n")
    shown = rig.pilot("job", "rerun", job_id, "--state", one.state, "--dry-run")
    assert shown.out.strip().endswith("'cat in.txt notes.txt; echo $COLOUR; exit 3'")
    environment = rig.environment()
    shell = subprocess.run(
        [sys.executable, "-m", "pilot", "job", "shell", job_id, "--state", one.state],
        input="cat in.txt; echo; echo $COLOUR; exit 7\n", env=environment, cwd=rig.root, capture_output=True,
        text=True, timeout=60, check=False,
    )  # fmt: skip
    assert shell.returncode == 7
    assert shell.stdout == "precious input\nblue\n"


# --- the log ---------------------------------------------------------------------------------------------------------

CANARY = "canary-7f3b1c-of-the-pilot"


@pytest.mark.parametrize("image", ["bare", pytest.param("test-tiny", marks=pytest.mark.apptainer)])
def test_the_pilots_secrets_reach_nobody(rig: Rig, image: str) -> None:
    """A token in the pilot's environment and token file: not in logs, reports, argv, or where the payload looks."""
    contained = image != "bare"
    token = rig.root / "token"
    token.write_text(CANARY)
    token.chmod(0o600)
    keys = {"image": image} if contained else {}
    places = [] if contained else ["/proc/self/environ", "."]
    job = rig.job("spy", "python3", "find_canary.py", CANARY[::-1], *places, zoo=("find_canary.py",), **keys)
    secrets = {"BEARER_TOKEN": CANARY, "PILOT_TOKEN_FILE": str(token), "X509_USER_PROXY": CANARY}
    state = rig.root / "state" / "spy"
    flags = (
        "--runtime",
        "apptainer" if contained else "bare",
        "--state",
        state,
        "--format",
        "json",
        "--log-level",
        "debug",
    )
    ended = rig.pilot("run", "--job", job, "--output", rig.root / "out", *flags, **secrets)
    assert ended.code == 0, (ended.out, (rig.root / "out" / "logs" / "stdout.log").read_text())
    written = [each for folder in (state, rig.root / "out") for each in folder.rglob("*") if each.is_file()]
    assert [each for each in written if CANARY.encode() in each.read_bytes()] == []
    assert CANARY not in ended.out + ended.err


def test_the_log_is_json_lines_with_one_correlation_id(rig: Rig) -> None:
    import jsonschema

    [job_id, _] = rig.queue(rig.job("one", *ECHO, **OUT), rig.job("two", "false", attempts=1))
    ended = rig.serve("--log-level", "debug")
    schema = json.loads((TREE / "pilot" / "schemas" / "log-1.0.json").read_text())
    lines = [json.loads(each) for each in (rig.root / "state/queue/pilot.log").read_text().splitlines()]
    for each in lines:
        jsonschema.validate(each, schema)
    pilot_id = ended.objects()[-1]["pilot"]["pilot_id"]
    assert {each["pilot"] for each in lines} == {pilot_id}
    mine = [
        json.loads(each) for each in (rig.root / "out" / job_id / "1" / "logs" / "pilot.log").read_text().splitlines()
    ]
    assert {(each["pilot"], each.get("job", job_id)) for each in mine} == {(pilot_id, job_id)}
    assert [each["event"] for each in mine if each["event"] in ("Granted", "Exited")] == ["Granted", "Exited"]


# --- what is drawn from the commands -------------------------------------------------------------------------------


def test_a_shell_completes_commands_and_options(rig: Rig) -> None:
    asked = {"_PILOT_COMPLETE": "bash_complete", "COMP_WORDS": "pilot queue ex", "COMP_CWORD": "2"}
    assert rig.pilot(**asked).out == "plain,explain\n"
    asked |= {"COMP_WORDS": "pilot run --dry", "COMP_CWORD": "2"}
    assert rig.pilot(**asked).out == "plain,--dry-run\n"


def test_every_command_has_a_man_page_that_groff_takes_without_a_word() -> None:
    pages = man()
    assert {each.removesuffix(".1") for each in pages} == {"-".join(("pilot", *each)) for each in every_command()}
    assert '.TH "PILOT-RUN" 1' in pages["pilot-run.1"]
    if shutil.which("groff"):
        for text in pages.values():
            said = subprocess.run(
                ["groff", "-man", "-ww", "-z"], input=text, capture_output=True, text=True, timeout=30, check=False
            )
            assert (said.returncode, said.stderr) == (0, "")


# --- the rig itself --------------------------------------------------------------------------------------------------


def test_the_rig_sees_what_is_left(rig: Rig) -> None:
    """A test that could not fail proves nothing: a process, a sandbox and a temporary file are each noticed."""
    assert rig.left() == []
    sleeper = ["sleep", "60"]
    for known in ({"env": {"X": f"{rig.root}/home"}}, {"cwd": rig.root}):
        with subprocess.Popen(sleeper, **known) as process:  # type: ignore[call-overload]
            until(lambda: len(rig.left()) == 1)
            process.kill()
    (rig.tmp / "pilot-job-x").mkdir()
    (rig.root / "state" / "x" / "scratch" / "jobs" / "17.1").mkdir(parents=True)
    assert len(rig.left()) == 2
    (rig.tmp / "pilot-job-x").rmdir()
    (rig.root / "state" / "x" / "scratch" / "jobs" / "17.1").rmdir()


# --- what programs read -----------------------------------------------------------------------------------------------


def test_what_programs_read_holds_to_its_schema(rig: Rig) -> None:
    import jsonschema

    rig.queue(rig.job("small", *ECHO, **OUT), rig.job("large", "true", needs={"cpus": 4000}))
    queue = ("--queue", rig.url, "--format", "json")
    ran = rig.pilot("run", *queue, "--runtime", "bare", "--idle-exit", "1s", "--state", rig.root / "state")
    report, summary = map(json.loads, ran.out.splitlines())
    one = rig.pilot("run", "--job", rig.job("vast", "true", needs={"cpus": 4000}), "--output", rig.root / "vast",
                    "--runtime", "bare", "--format", "json")  # fmt: skip
    said = {
        "report": report,
        "summary": summary,
        "jobs": rig.pilot("queue", "ls", *queue).json(),
        "explanation": rig.pilot("queue", "explain", "large", *queue).json(),
        "added": rig.pilot("queue", "add", *queue, rig.job("more", "true")).json(),
        "images": rig.pilot("image", "ls", "--format", "json").json(),
        "problems": rig.pilot("config", "check", "--format", "json", rig.job("bad", "true", nedes=1)).json(),
    }
    said_of_one = json.loads(one.out)
    assert (one.code, said_of_one["verdict"], said_of_one["fault"]["code"]) == (20, "declined", "slot.unfit")
    for name, document in [*said.items(), ("report", said_of_one)]:
        schema = json.loads((TREE / f"pilot/schemas/{name}-1.0.json").read_text())
        jsonschema.validate(document, schema)
    assert said["problems"]
