"""The values of a sweep, from CSV and JSON Lines; every line that is wrong is named."""

from collections.abc import Callable
from pathlib import Path

import pytest

from pilot.config.problems import JobProblems
from pilot.config.sweepfile import LINE_CAP, read_values

Write = Callable[[str, str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def do(name: str, text: str) -> Path:
        (tmp_path / name).write_bytes(text.encode("utf-8", "surrogateescape"))
        return tmp_path / name

    return do


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("v.csv", "lr,note\n0.10,plain\n1e-3,\"with, comma\"\n"),
        ("v.CSV", "\ufefflr,note\r\n0.10,plain\r\n\r\n1e-3,\"with, comma\"\r\n"),
        ("v.jsonl", '{"lr": 0.10, "note": "plain"}\n\n{"note": "with, comma", "lr": 1e-3}'),
        ("v.ndjson", '{"lr": "0.10", "note": "plain"}\n{"note": "with, comma", "lr": "1e-3"}\n'),
    ],
)  # fmt: skip
def test_values_are_texts_as_they_are_written(write: Write, name: str, text: str) -> None:
    rows = [values for _, values in read_values(write(name, text))]
    assert rows == [{"lr": "0.10", "note": "plain"}, {"lr": "1e-3", "note": "with, comma"}]


def test_truth_is_a_word(write: Write) -> None:
    assert [each for _, each in read_values(write("v.jsonl", '{"a": true, "b": false, "c": 7}'))] == [
        {"a": "true", "b": "false", "c": "7"}
    ]


@pytest.mark.parametrize(
    ("name", "text", "line", "why"),
    [
        ("v.txt", "x", 0, "name it .csv"),
        ("v.csv", "a,b\n1,2\n3\n", 3, "1 values for 2 parameters"),
        ("v.csv", "a,a\n1,2\n", 1, "the same name"),
        ("v.csv", 'a,b\n1,"2\n', 2, "no CSV"),
        ("v.csv", "a\n\udcff\n", 0, "is not UTF-8"),
        ("v.csv", "a\n" + "x" * (LINE_CAP + 1), 2, "more than a megabyte"),
        ("v.jsonl", '{"a": 1}\n{"a": \n', 2, "no JSON object"),
        ("v.jsonl", "[" * 100_000, 1, "no JSON object"),
        ("v.jsonl", "[1]", 1, "expected an object, found"),
        ("v.jsonl", '{"a": null}', 1, "not nothing"),
        ("v.jsonl", '{"a": [1]}', 1, "text or a number"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(write: Write, name: str, text: str, line: int, why: str) -> None:
    with pytest.raises(JobProblems, match=why) as found:
        list(read_values(write(name, text)))
    (problem,) = found.value.problems
    assert problem.line == line
    assert "\n" not in str(problem)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(JobProblems, match="cannot be read: No such file"):
        list(read_values(tmp_path / "none.csv"))
