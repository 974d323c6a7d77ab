"""What jobs, payloads and queues wrote gives no orders to the terminal that it is shown on."""

import io
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from pilot.cli.queue_text import print_rows, view_text
from pilot.cli.running import _Printer
from pilot.cli.say import Screen, harmless, one_line, say, say_aside
from pilot.model.faults import Code, fault
from pilot.model.job import JobSpec, Verdict
from pilot.model.queue import JobRow, JobState, JobView
from pilot.model.report import Report

TITLE = "\x1b]0;owned\x07"
EVIL = f"a{TITLE}\rb\x9b31mc\u202ed\x7f\nnext"
CASES = [
    (TITLE, "^[]0;owned^G"),
    ("\x9b31m", "\\x9b31m"),
    ("\u202eexe", "\\u202eexe"),
    ("\x7f\x00", "^?^@"),
    ("\ud800", "\\ud800"),
    ("é 日本 \N{ROCKET}\t|\n", "é 日本 \N{ROCKET}\t|\n"),
    ("\r", "^M"),
]


@pytest.mark.parametrize(("given", "shown"), CASES)
def test_orders_to_a_terminal_are_written_out(given: str, shown: str) -> None:
    assert harmless(given) == shown


def test_every_control_character_is_written_out() -> None:
    for code in (*range(0x20), *range(0x7F, 0xA0)):
        assert one_line(chr(code)).isprintable()
        assert len(one_line(chr(code))) > 1


def test_lines_of_all_kinds_are_cleaned(capsys: pytest.CaptureFixture[str]) -> None:
    row = JobRow("1", 1, EVIL, EVIL, JobState.WAITING)
    print_rows([row], "text")
    say(view_text(JobView(row, EVIL, JobSpec(EVIL, (EVIL,)), 0, 0, 0, "", phase=EVIL, progress=EVIL)))
    _Printer("text", False).report(Report("1", 1, EVIL, Verdict.FAILED, "", "", fault=fault(Code.PAYLOAD_EXIT, EVIL)))
    say_aside(EVIL)
    out, err = capsys.readouterr()
    for letter in "\x1b\x07\r\x9b\u202e\x7f":
        assert letter not in out + err
    assert "^[]0;owned^G" in out
    assert "^[]0;owned^G" in err


def test_a_name_makes_no_lines_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    print_rows([JobRow("1", 1, "x\nsucceeded: y", "o", JobState.WAITING)], "text")
    _Printer("text", False).report(Report("1", 1, "x\nsucceeded: y", Verdict.SUCCEEDED, "", ""))
    assert len(capsys.readouterr().out.splitlines()) == 3


class _Tty(io.TextIOWrapper):
    def isatty(self) -> bool:
        return True


def test_a_letter_that_comes_in_two_parts_is_shown_whole() -> None:
    kept = io.BytesIO()
    screen = Screen(_Tty(kept, "utf-8"))
    both = "é\x9b".encode()
    assert sum(screen.write(both[at : at + 1]) for at in range(len(both))) == len(both)
    screen.write(b"\xff 10%\r20%\r\n")
    assert kept.getvalue() == "é\\x9b\\xff 10%\r20%\r\n".encode()


LOGGED = b"one\t1\r\n\x1b]0;owned\x07\xff\x9b31m\n"


@pytest.mark.parametrize("terminal", [True, False])
def test_logs_are_harmless_on_a_terminal_and_untouched_in_a_file(tmp_path: Path, terminal: bool) -> None:
    logs = tmp_path / "scratch" / "jobs" / "j1.1" / "logs"
    logs.mkdir(parents=True)
    (logs / "stdout").write_bytes(LOGGED)
    command = [sys.executable, "-m", "pilot", "job", "logs", "j1", "--state", str(tmp_path)]
    if not terminal:
        assert subprocess.run(command, stdout=subprocess.PIPE, timeout=30, check=True).stdout == LOGGED
        return
    ours, theirs = pty.openpty()
    try:
        subprocess.run(command, stdout=theirs, timeout=30, check=True)
        shown = os.read(ours, 4096)
    finally:
        os.close(ours)
        os.close(theirs)
    assert b"\x1b" not in shown
    assert b"\x07" not in shown
    assert b"\x9b" not in shown
    assert b"one\t1\r" in shown
    assert b"^[]0;owned^G\\xff\\x9b31m" in shown
