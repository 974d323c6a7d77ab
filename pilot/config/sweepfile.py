"""The values of a sweep: a CSV file with the parameters' names in its first line, or an object a line (JSON Lines).

Values are texts; a number of JSON stays as it is written. The file is read as it is used, line by line: a million
jobs need no more memory than one.
"""

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

from pilot.config.problems import JobProblems, Problem, shown

LINE_CAP = 1 << 20
KINDS = {".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl"}


Lined = tuple[int, dict[str, str]]


def read_values(path: Path) -> Iterator[Lined]:
    """The values of each job in order, and in which line they stand; raises JobProblems at the first wrong line."""
    kind = KINDS.get(path.suffix.lower())
    if kind is None:
        _refuse(path, 0, "name it .csv (names in the first line) or .jsonl (an object a line)")
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            lines = _lines(path, stream)
            yield from _csv(path, lines) if kind == "csv" else _json(path, lines)
    except OSError as error:
        _refuse(path, 0, f"cannot be read: {error.strerror}")
    except UnicodeDecodeError:
        _refuse(path, 0, "is not UTF-8 text")


def _lines(path: Path, stream: Iterator[str]) -> Iterator[str]:
    for number, line in enumerate(stream, 1):
        if len(line) > LINE_CAP:
            _refuse(path, number, "a line of more than a megabyte")
        yield line


def _csv(path: Path, lines: Iterator[str]) -> Iterator[Lined]:
    reader = csv.reader(lines, strict=True)
    try:
        names = next(reader, [])
        if len(set(names)) != len(names):
            _refuse(path, 1, "two columns have the same name")
        for row in reader:
            if len(row) != len(names) and row:
                _refuse(path, reader.line_num, f"{len(row)} values for {len(names)} parameters")
            if row:
                yield reader.line_num, dict(zip(names, row, strict=True))
    except csv.Error as error:
        _refuse(path, reader.line_num, f"no CSV: {error}")


def _json(path: Path, lines: Iterator[str]) -> Iterator[Lined]:
    for number, line in enumerate(lines, 1):
        if line.strip():
            yield number, _object(path, number, line)


def _object(path: Path, number: int, line: str) -> dict[str, str]:
    try:
        found = json.loads(line, parse_float=str, parse_int=str, parse_constant=str)
    except (ValueError, RecursionError):
        _refuse(path, number, "no JSON object; write one object a line")
    if not isinstance(found, dict):
        _refuse(path, number, f"expected an object, found {shown(found)}")
    return {name: _text(path, number, value) for name, value in found.items()}


def _text(path: Path, number: int, value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if not isinstance(value, str):
        _refuse(path, number, f"a value is text or a number, not {shown(value)}")
    return value


def _refuse(path: Path, line: int, why: str) -> NoReturn:
    raise JobProblems([Problem(str(path), line, 1 if line else 0, why)])
