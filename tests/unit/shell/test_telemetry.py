"""The pilot's own log: capped, cleaned, and never a reason to fail."""

import json
from pathlib import Path

import pytest

from pilot.adapters.system import SystemClock
from pilot.core.reporting import clean
from pilot.shell import telemetry
from pilot.shell.telemetry import Telemetry


def test_the_log_is_capped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telemetry, "LOG_BYTES", 10_000)
    log = Telemetry(tmp_path / "pilot.log", SystemClock(), "here/1/2")
    for number in range(1000):
        log.event("state", {"number": number})
    log.close()
    files = sorted(tmp_path.iterdir())
    assert [each.name for each in files] == ["pilot.log", "pilot.log.1"]
    assert all(each.stat().st_size < 10_200 for each in files)
    lines = [json.loads(each) for file in reversed(files) for each in file.read_text().splitlines()]
    numbers = [each["number"] for each in lines]
    assert numbers == list(range(numbers[0], 1000))


def test_a_log_that_cannot_be_written_costs_the_line_alone(tmp_path: Path) -> None:
    (tmp_path / "pilot.log").symlink_to("/dev/full")
    log = Telemetry(tmp_path / "pilot.log", SystemClock(), "here/1/2")
    log.event("state", {})
    log.close()


@pytest.mark.parametrize(
    ("said", "written"),
    [
        ("plain text, ä and 日本", "plain text, ä and 日本"),
        ("two\nlines\tand a tab", "two\nlines\tand a tab"),
        ("\x1b[31mred\x1b[0m \x00\x07\x9b1m\u202egnp.exe\u2028", "[31mred[0m 1mgnp.exe"),
        ("Authorization: Bearer abc.def", "[removed]"),
        ("token=abcdef rest", "[removed] rest"),
        ("eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl", "[removed]"),
    ],
)
def test_text_of_others_is_cleaned(said: str, written: str) -> None:
    assert clean(said) == written
