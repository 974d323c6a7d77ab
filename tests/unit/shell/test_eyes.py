"""What goes out of what was seen: no credential, no control character, no more than a heartbeat bears."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from pilot.model.facts import Usage
from pilot.model.job import Grant, Job, JobSpec, Phase
from pilot.ports import Sandbox, Vitals
from pilot.shell.doors import House
from pilot.shell.eyes import ANSWER_CHARACTERS, Eyes

GRANT = Grant("7", 1, JobSpec("n", ("true",)), 60.0)
JOBS = tuple(Job(phase.value, phase, GRANT if phase is not Phase.CLAIMING else None) for phase in Phase)
TOKEN = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJ4In0.c2ln"


class Canned:
    """Sees what it was given."""

    def __init__(self, said: str = "", progress: str = "") -> None:
        self.said, self.progress = said, progress
        self.asked: list[Sandbox] = []

    def vitals(self, sandboxes: Sequence[Sandbox]) -> Sequence[Vitals]:
        self.asked += sandboxes
        return [Vitals(self.progress, Usage(1.0, 5)) for _ in sandboxes]

    def answer(self, sandbox: Sandbox, question: str) -> str:
        return self.said


def eyes(canned: Canned) -> Eyes:
    return Eyes(canned, House(Path("/s"), Path("/k")), lambda key: 77)


def test_only_what_runs_is_looked_at() -> None:
    canned = Canned()
    seen = eyes(canned).vitals(JOBS)
    assert set(seen.vitals) == {"running", "stopping", "validating"}
    assert [each.root for each in canned.asked] == [Path("/s/7.1")] * 3
    assert seen.vitals["running"] == Vitals("", Usage(1.0, 5, scratch_peak_bytes=77))


@pytest.mark.parametrize("value", [TOKEN, f"Bearer {TOKEN}", "token=abc", "Authorization: Basic abc"])
@pytest.mark.parametrize("wrap", [lambda text: text, lambda text: [text], lambda text: {"deep": [{"x": text}]}])
def test_a_progress_loses_its_credentials_and_stays_json(value: str, wrap: object) -> None:
    record = {"type": "progress", "step": 4, "message": wrap(value), "metrics": {"tokens": 1e6, "token": 3}}  # type: ignore[operator]
    told = eyes(Canned(progress=json.dumps(record))).vitals(JOBS).vitals["running"].progress
    assert "abc" not in told
    assert "eyJ" not in told
    assert {**json.loads(told), "message": None} == {**record, "message": None}


def test_a_text_whose_name_says_that_it_is_secret_is_removed() -> None:
    told = eyes(Canned(progress='{"type":"progress","token":"sesame"}')).vitals(JOBS).vitals["running"].progress
    assert json.loads(told) == {"type": "progress", "token": "[removed]"}


@pytest.mark.parametrize(("said", "told"), [
    ("plain\ntext\t1", "plain\ntext\t1"), (f"x {TOKEN} y", "x [removed] y"), ("\x1b[31mred\x00", "[31mred"),
    ("", "\n"),
])  # fmt: skip
def test_an_answer_is_text_for_people(said: str, told: str) -> None:
    assert dict(eyes(Canned(said)).answer(JOBS[3], "tail stdout").answers) == {"running": told}


def test_an_answer_is_bounded() -> None:
    answers = eyes(Canned("x" * 100_000)).answer(JOBS[3], "tail stdout").answers
    assert len(answers["running"]) == ANSWER_CHARACTERS
