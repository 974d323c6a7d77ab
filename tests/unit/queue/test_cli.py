"""`pilot queue` as a process would see it: what it prints, and its exit codes."""

import json
from pathlib import Path

import pytest

from pilot.cli.main import run

JOBS = """
- {name: a, command: [python3, -c, "print(1)"], requirements: 'TARGET.Cpus > 1'}
- {name: b, command: ["true"], after: [a]}
"""


class Shell:
    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self._capsys = capsys

    def __call__(self, *words: str) -> tuple[int, str, str]:
        code = run(["queue", *words])
        out, err = self._capsys.readouterr()
        return code, out, err

    def json(self, *words: str) -> object:
        code, out, err = self(*words, "--format", "json")
        assert (code, err) == (0, "")
        return json.loads(out)


@pytest.fixture
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Shell:
    monkeypatch.setenv("PILOT_QUEUE", f"sqlite:{tmp_path}/queue.db")
    made = Shell(tmp_path, capsys)
    (tmp_path / "jobs.yaml").write_text(JOBS)
    assert made("init", "--output", f"{tmp_path}/out")[0] == 0
    return made


def test_the_whole_way(shell: Shell) -> None:
    added = shell.json("add", f"{shell.folder}/jobs.yaml")
    assert isinstance(added, list)
    assert [sorted(each) for each in added] == [["job_id", "name"]] * 2
    listed = shell.json("ls")
    assert isinstance(listed, list)
    assert [list(each) for each in listed] == [["job_id", "attempt", "name", "owner", "state", "verdict"]] * 2
    assert shell.json("explain", "a") == {
        "job_id": added[0]["job_id"],
        "clause": "offers",
        "attribute": "offers",
        "wanted": "at least one",
        "offered": "none seen: no pilot has asked this queue yet",
        "nearest": None,
    }
    assert shell("hold", "a")[1].split()[8] == "held"
    assert shell("release", "a")[1].split()[8] == "waiting"
    shown = shell.json("show", "b")
    assert isinstance(shown, dict)
    assert shown["waits_for"] == [added[0]["job_id"]]
    code, out, _ = shell("show", "a")
    assert code == 0
    assert "command: python3 -c print(1)" in out
    assert [each["verdict"] for each in shell.json("rm", "a", "b")] == ["cancelled", "failed"]  # type: ignore[attr-defined]
    assert "job.predecessor" in shell("show", "b")[1]
    assert "cancelled" in shell("explain", "a")[1]
    assert shell.json("ls", "--state", "waiting") == []


def test_settings(shell: Shell) -> None:
    settings = shell.json("set", "--state", "drain", "--lease", "5m")
    assert isinstance(settings, dict)
    assert (settings["state"], settings["lease_seconds"]) == ("drain", 300.0)
    assert settings["destination"] == (shell.folder / "out").as_uri()
    assert shell.json("set") == settings
    assert shell("init", "--queue-name", "night")[0] == 0
    assert (shell.folder / "queue-outputs").as_uri() in shell("set", "--queue-name", "night")[1]


@pytest.mark.parametrize(
    ("words", "code", "why"),
    [
        (["ls", "--queue", "sqlite:/nowhere/q.db"], 69, "no queue here; make one: pilot queue init"),
        (["ls", "--queue", "postgres:x"], 78, "use sqlite:PATH"),
        (["init", "--queue", "postgres:x"], 78, "use sqlite:PATH"),
        (["init", "--queue", "sqlite:/nowhere/q.db"], 73, "no such directory; make it first"),
        (["ls", "--queue-name", "noon"], 78, "no queue named 'noon' in this file; it holds: default"),
        (["init"], 73, "holds a queue named 'default' already"),
        (["init", "--queue-name", "x", "--lease", "0.1s"], 64, "between 1s and 30d"),
        (["set", "--state", "asleep"], 64, "'asleep' is not one of"),
        (["show", "zz"], 64, "no job 'zz'; see pilot queue ls"),
        (["ls", "--state", "x"], 64, "is not one of"),
        (["add"], 64, "Missing argument"),
        (["add", "/nowhere/job.yaml"], 65, "/nowhere/job.yaml"),
        (["frobnicate"], 64, "No such command"),
    ],
)
def test_errors_are_one_line_and_a_code(shell: Shell, words: list[str], code: int, why: str) -> None:
    got, out, err = shell(*words)
    assert (got, out) == (code, "")
    assert why in err
    assert err.count("\n") == 1


def test_without_a_queue(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PILOT_QUEUE")
    assert shell("ls")[0] == 78
    assert "set PILOT_QUEUE" in shell("ls")[2]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{name: a, command: [x], requirements: 'time() > 1'}", ":1:39: requirements: time() may not be called"),
        ("{name: a, comand: [x]}", "did you mean 'command'"),
        ("{name: z, command: [x], after: [nobody]}", "after: no job 'nobody'"),
    ],
)
def test_bad_jobs_are_refused(shell: Shell, text: str, why: str) -> None:
    (shell.folder / "bad.yaml").write_text(text)
    code, out, err = shell("add", f"{shell.folder}/jobs.yaml", f"{shell.folder}/bad.yaml")
    assert (code, out) == (65, "")
    assert why in err
    assert shell.json("ls") == []


@pytest.mark.parametrize("name", ["init", "set", "add", "ls", "show", "explain", "hold", "release", "rm"])
def test_every_command_helps_with_an_example(shell: Shell, name: str) -> None:
    code, out, _ = shell(name, "--help")
    assert code == 0
    assert "Example: pilot queue" in out


SWEEP = "{name: 'scan-{lr}', command: [python3, train.py, '--lr={lr}'], outputs: [{name: 'm-{lr}.onnx'}]}"


@pytest.fixture
def swept(shell: Shell) -> Shell:
    (shell.folder / "scan.yaml").write_text(SWEEP)
    (shell.folder / "points.csv").write_text("lr\n0.1\n0.01\n0.001\n")
    return shell


def test_a_sweep_is_tried_and_then_added(swept: Shell) -> None:
    words = ("add", f"{swept.folder}/scan.yaml", "--sweep", f"{swept.folder}/points.csv")
    code, out, err = swept(*words, "--dry-run")
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        "would add 3 jobs",
        "first: scan-0.1: python3 train.py --lr=0.1",
        "last:  scan-0.001: python3 train.py --lr=0.001",
    ]
    plan = swept.json(*words, "--dry-run")
    assert isinstance(plan, dict)
    assert (plan["would_add"]["jobs"], plan["would_add"]["last"]["outputs"][0]["name"]) == (3, "m-0.001.onnx")
    assert swept.json("ls") == []
    added = swept.json(*words)
    assert isinstance(added, dict)
    assert (added["name"], added["jobs"]) == ("scan-{lr}", 3)
    listed = swept.json("ls")
    assert isinstance(listed, list)
    assert [each["name"] for each in listed] == ["scan-0.1", "scan-0.01", "scan-0.001"]
    assert (listed[0]["job_id"], listed[2]["job_id"]) == (added["first"], added["last"])
    assert "3 jobs of scan-{lr}: " in swept(*words)[1]


def test_a_dry_run_adds_nothing(shell: Shell) -> None:
    (shell.folder / "one.yaml").write_text("{name: a, command: [python3, x.py]}")
    assert shell("add", f"{shell.folder}/one.yaml", "--dry-run")[1] == "would add a: python3 x.py\n"
    plan = shell.json("add", f"{shell.folder}/one.yaml", "--dry-run")
    assert isinstance(plan, dict)
    assert plan["would_add"][0]["command"] == ["python3", "x.py"]
    assert shell.json("ls") == []


@pytest.mark.parametrize(
    ("values", "code", "why"),
    [
        ("lr\n0.1\n0.1,2\n", 65, "points.csv:3:1: 2 values for 1 parameters"),
        ("lr,seed\n0.1,2\n", 65, "points.csv:1:1: scan-{lr}: parameter 'seed': the job does not use it"),
        ("rl\n0.1\n", 65, "and none is named 'lr', which the job uses"),
        ("lr\n\n0.1\n../x\n", 65, "points.csv:4:1: parameter lr: '../x' stands in a name"),
        ("", 65, "a sweep without jobs"),
    ],
)
def test_a_wrong_sweep_is_one_line(swept: Shell, values: str, code: int, why: str) -> None:
    (swept.folder / "points.csv").write_text(values)
    for more in ((), ("--dry-run",)):
        words = ("add", f"{swept.folder}/scan.yaml", "--sweep", f"{swept.folder}/points.csv", *more)
        got, out, err = swept(*words)
        assert (got, out) == (code, "")
        assert why in err
        assert err.count("\n") == 1
    assert swept.json("ls") == []


def test_a_sweep_is_of_one_job(swept: Shell) -> None:
    words = (f"{swept.folder}/scan.yaml", f"{swept.folder}/scan.yaml", "--sweep", f"{swept.folder}/points.csv")
    assert swept("add", *words)[0] == 64
    assert swept("add", f"{swept.folder}/scan.yaml")[0] == 65


def test_a_line_that_says_the_same_twice_is_worth_a_word(swept: Shell) -> None:
    (swept.folder / "points.csv").write_text("lr\n0.1\n0.2\n0.1\n0.1\n")
    code, out, err = swept("add", f"{swept.folder}/scan.yaml", "--sweep", f"{swept.folder}/points.csv")
    assert (code, out.split()[0]) == (0, "4")
    assert "points.csv:4: the same values as in a line before; so are 1 more lines" in err


def test_a_wish_that_came_to_nothing_is_named(shell: Shell) -> None:
    shell("add", f"{shell.folder}/jobs.yaml")
    assert shell("rm", "a")[2] == ""
    assert "b (" in shell("hold", "b")[2]
    assert "done: failed already, nothing to hold" in shell("hold", "b")[2]
    assert "nothing to release" in shell("release", "b")[2]
    assert "done: failed already, nothing to end" in shell("rm", "b")[2]


def test_several_of_one_name_are_told_by_their_ids(shell: Shell) -> None:
    (shell.folder / "one.yaml").write_text("{name: a, command: [python3, x.py]}")
    ids = [shell("add", f"{shell.folder}/one.yaml")[1].split()[0] for _ in range(2)]
    code, _, err = shell("show", "a")
    assert (code, f"the newest first: {ids[1]}, {ids[0]}" in err) == (64, True)


@pytest.mark.parametrize("verb", [("ls",), ("init",), ("show", "a")])
def test_a_password_in_a_url_is_not_said_again(shell: Shell, verb: tuple[str, ...]) -> None:
    code, out, err = shell(*verb, "--queue", "https://anna:s3cret@queue.example:1")
    assert (code, "s3cret" in out + err) == (78, False)
    assert err.count("\n") == 1


def test_a_token_is_named_for_one_command(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PILOT_TOKEN_FILE", raising=False)
    code, _, err = shell("ls", "--queue", "https://127.0.0.1:1", "--token-file", f"{shell.folder}/none.token")
    assert (code, f"token {shell.folder}/none.token: there is no such file" in err) == (78, True)
    monkeypatch.delenv("PILOT_TOKEN_FILE", raising=False)
