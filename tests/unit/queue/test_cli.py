"""`pilot queue` as a process would see it: what it prints, and its exit codes."""

import json
from pathlib import Path

import pytest

from pilot.cli.main import run

JOBS = """
- {name: a, image: ml-base, command: [python3, -c, "print(1)"], requirements: 'TARGET.Cpus > 1'}
- {name: b, image: ml-base, command: ["true"], after: [a]}
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
        (["init", "--queue", "sqlite:/nowhere/q.db"], 69, "no such directory; make it first"),
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
