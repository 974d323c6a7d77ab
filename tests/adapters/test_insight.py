"""Looks into a sandbox whose payload does what it can to mislead them."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pilot.adapters.insight import LISTED, TAIL_BYTES, SandboxInsight
from pilot.model.facts import Usage
from pilot.ports import Sandbox, Vitals
from pilot.supervisor import procs, record
from tests.sandboxes import sandbox_in

INSIGHT = SandboxInsight()


@pytest.fixture
def sandbox(tmp_path: Path) -> Sandbox:
    made = sandbox_in(tmp_path)
    (made.logs / "stdout").write_text("one\ntwo\nthree\n")
    return made


def ask(sandbox: Sandbox, question: str) -> str:
    return INSIGHT.answer(sandbox, question)


@pytest.mark.parametrize(("question", "answer"), [
    ("tail", "one\ntwo\nthree"), ("tail stdout", "one\ntwo\nthree"), ("tail stdout 2", "two\nthree"),
    ("tail stdout 0", "three"), ("tail stdout -7", "three"), ("tail 'a file' 1", "last"), ("tail /srv/sub/x", "deep"),
    ("tail sub/../sub/./x", "deep"), ("tail inside", "deep"),
])  # fmt: skip
def test_the_end_of_a_file(sandbox: Sandbox, question: str, answer: str) -> None:
    (sandbox.work / "a file").write_text("first\nlast")
    (sandbox.work / "sub").mkdir()
    (sandbox.work / "sub" / "x").write_text("deep")
    (sandbox.work / "inside").symlink_to("/srv/sub/x")
    assert ask(sandbox, question) == answer


@pytest.mark.parametrize("question", [
    "tail /etc/passwd", "tail ../logs/stdout", "tail out", "tail out/passwd", "tail around", "tail nothing", "tail .",
    "tail pipe", "tail sub", "ls out", "ls ..", "ls /", "ls made", "tail stdout many", "", "rm made", "tail 'x",
    "ps; id",
    "tail made/x", "tail " + "x" * 5000, "ls " + "a/" * 3000,
])  # fmt: skip
def test_what_cannot_be_answered_is_told_in_one_line(sandbox: Sandbox, question: str) -> None:
    (sandbox.work / "out").symlink_to("/etc")
    (sandbox.work / "around").symlink_to("around")
    (sandbox.work / "made").write_text("root:secret")
    (sandbox.work / "sub").mkdir()
    os.mkfifo(sandbox.work / "pipe")
    said = ask(sandbox, question)
    assert len(said.splitlines()) == 1
    assert "root:" not in said
    assert len(said) < 7000


def test_an_answer_is_bounded_and_begins_with_a_whole_line(sandbox: Sandbox) -> None:
    with (sandbox.logs / "stdout").open("w") as file:
        file.writelines(f"{number:>9} {'x' * 90}\n" for number in range(20_000))
    said = ask(sandbox, "tail stdout 100000")
    assert len(said) <= TAIL_BYTES
    assert {len(line) for line in said.splitlines()} == {100}
    (sandbox.work / "line").write_bytes(b"\xff" * 100_000)
    assert len(ask(sandbox, "tail line")) <= TAIL_BYTES


def test_a_folder_is_listed_by_name_and_never_without_end(sandbox: Sandbox) -> None:
    for number in range(LISTED + 3):
        (sandbox.work / f"f{number:04}").touch()
    lines = ask(sandbox, "ls").splitlines()
    assert len(lines) == LISTED + 1
    assert lines[0].startswith("-rw")
    assert lines[0].endswith("  f0000")
    assert lines[-1] == "... 3 more"
    assert ask(sandbox, "ls .") == "\n".join(lines)
    (sandbox.work / "none").mkdir()
    assert ask(sandbox, "ls none") == ""
    (sandbox.work / "none" / "two\nlines").touch()
    assert ask(sandbox, "ls none").endswith("  'two\\nlines'")


# ---- processes


@pytest.fixture
def running(sandbox: Sandbox) -> Iterator[subprocess.Popen[str]]:
    """A shim with a tree below it, as the supervisor's records name it."""
    burn = "x = bytearray(60_000_000); n = 0\nfor n in range(3_000_000): pass\nprint('up', flush=True); input()"
    shell = [sys.executable, "-c", "import subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[1]])", burn]
    with subprocess.Popen(shell, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as shim:
        assert shim.stdout is not None
        assert shim.stdout.readline() == "up\n"
        (sandbox.pilot / "run").mkdir()
        found = {"shim_pid": shim.pid, "shim_start_time": procs.look(shim.pid).started}
        record.write_at(str(sandbox.pilot / "run"), record.STARTED, found)
        yield shim
        shim.communicate("\n")


def test_the_jobs_own_processes_and_what_they_used(sandbox: Sandbox, running: subprocess.Popen[str]) -> None:
    lines = ask(sandbox, "ps").splitlines()
    assert len(lines) == 2
    assert "bytearray" in lines[1]
    assert str(running.pid) not in lines[1].split()[0]
    [vitals] = INSIGHT.vitals([sandbox])
    assert vitals.usage.cpu_seconds > 0.02
    assert 60_000_000 < vitals.usage.memory_peak_bytes < 500_000_000


def test_a_number_that_has_passed_to_another_process_is_nobody(sandbox: Sandbox) -> None:
    (sandbox.pilot / "run").mkdir()
    record.write_at(str(sandbox.pilot / "run"), record.STARTED, {"shim_pid": 1, "shim_start_time": 12345})
    assert ask(sandbox, "ps") == "nothing of the job runs now"
    assert list(INSIGHT.vitals([sandbox])) == [Vitals("", Usage())]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"shim_pid": "x", "shim_start_time": 1}'])
def test_a_record_that_is_none(sandbox: Sandbox, text: str) -> None:
    (sandbox.pilot / "run").mkdir()
    (sandbox.pilot / "run" / record.STARTED).write_text(text)
    assert ask(sandbox, "ps") == "nothing of the job runs now"


# ---- progress


def progress(sandbox: Sandbox, data: bytes) -> str:
    (sandbox.work / "events.jsonl").write_bytes(data)
    return INSIGHT.vitals([sandbox])[0].progress


def test_the_last_progress_is_told(sandbox: Sandbox) -> None:
    one, two = b'{"type": "progress", "step": 1}\n', b'{"type": "progress", "step": 2}\n'
    after = b'{"type": "log", "message": "\\"progress\\""}\n{"type": "pro'
    assert json.loads(progress(sandbox, one + two + after)) == {"type": "progress", "step": 2}
    assert json.loads(progress(sandbox, b"x" * 3_000_000 + b"\n" + one))["step"] == 1


@pytest.mark.parametrize("line", [
    b'{"type": "progress", "loss": NaN}', b'{"type": "progress", "loss": 1e999}', b'["progress"]', b'"progress"',
    b'{"type": ["progress"]}', b'{"a": ' + b"[" * 5000 + b'"progress"', b"\xff\xfe\"progress\"",
    b'{"type": "progress", "x": "' + b"y" * 9000 + b'"}', b'{"type": "progress", "n": ' + b"9" * 5000 + b"}",
])  # fmt: skip
def test_a_progress_that_breaks_the_contract_is_not_told(sandbox: Sandbox, line: bytes) -> None:
    assert progress(sandbox, line + b"\n") == ""


def test_a_link_in_place_of_the_events_is_not_followed(sandbox: Sandbox, tmp_path: Path) -> None:
    (tmp_path / "other").write_text('{"type": "progress", "step": 1}\n')
    (sandbox.work / "events.jsonl").symlink_to(tmp_path / "other")
    assert INSIGHT.vitals([sandbox])[0].progress == ""
