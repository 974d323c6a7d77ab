"""YAML as a careful person would read it: plain data, no surprises, and the place of every value.

No aliases, anchors, tags or merge keys; no key twice; `yes`, `no`, `on` and `off` are text, as are dates, octal and
sexagesimal numbers, NaN and infinities: only what JSON calls a number is one. Size, depth and count are capped
while reading, so that no file costs more than 100 ms and 64 MB. JSON files are read by the same rules.
"""

import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import yaml
from yaml.events import (
    CollectionStartEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    NodeEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)

from pilot.config.problems import ConfigProblems, Problem, shown

BYTES_CAP = 1 << 20
DEPTH_CAP = 30
VALUES_CAP = 10_000  # keys and values; at 4 us each this keeps the worst file well within its 100 ms
PROBLEMS_CAP = 50  # nobody reads more, and a hostile file can have one in every value

Path = tuple[str | int, ...]
Mark = tuple[int, int]  # line and column, counted from 1

_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]{0,17})")  # 18 digits: what every reader of the data can hold
_NUMBER = re.compile(r"[-+]?(0|[1-9][0-9]{0,17})(\.[0-9]{1,40})?([eE][-+]?[0-9]{1,3})?")
_CONSTANTS: dict[str, bool | None] = {"": None, "~": None, "null": None, "true": True, "false": False}
_ESCAPE_PAIR = re.compile(r"(?<!\\)((?:\\\\)*)\\u([dD][89abAB][0-9a-fA-F]{2})\\u([dD][c-fC-F][0-9a-fA-F]{2})")


@dataclass(slots=True)
class Document:
    """One document of a file: its data, and where each value (`marks`) and each key (`keys`) stands.

    `texts` holds what was written for values that became numbers: a checksum of digits is still text.
    """

    source: str
    data: object = None
    marks: dict[Path, Mark] = field(default_factory=dict)
    keys: dict[Path, Mark] = field(default_factory=dict)
    texts: dict[Path, str] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def mark(self, path: Path) -> Mark:
        """Where that value stands, or the nearest thing around it."""
        return next((self.marks[path[:end]] for end in range(len(path), -1, -1) if path[:end] in self.marks), (0, 0))

    def problem(self, path: Path, message: str) -> Problem:
        """That problem, at the place of that value."""
        return Problem(self.source, *self.mark(path), message)


def read_text(data: bytes, source: str) -> str:
    """The bytes of a file as text, within the size cap; raises ConfigProblems."""
    if len(data) > BYTES_CAP:
        raise _refused(source, (0, 0), f"larger than {BYTES_CAP >> 20} MiB")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        head = data[: error.start]
        place = (head.count(b"\n") + 1, error.start - head.rfind(b"\n"))
        raise _refused(source, place, "not UTF-8 text") from None
    return _ESCAPE_PAIR.sub(_join_pair, text, count=VALUES_CAP) if source.endswith(".json") else text


def load_documents(data: bytes, source: str) -> list[Document]:
    """Every document of the file; raises ConfigProblems with all that is wrong with its form."""
    text = read_text(data, source)
    documents = list(_Reader(source).documents(_events(text, source)))
    problems = [each for document in documents for each in document.problems]
    if problems:
        raise ConfigProblems(problems)
    return documents


def _join_pair(match: re.Match[str]) -> str:
    """JSON writes a character beyond the basic plane as a pair of escapes; YAML as one."""
    before, high, low = match.groups()
    return f"{before}\\U{0x10000 + ((int(high, 16) - 0xD800) << 10) + int(low, 16) - 0xDC00:08x}"


def _refused(source: str, mark: Mark, message: str) -> ConfigProblems:
    return ConfigProblems([Problem(source, *mark, message)])


def _events(text: str, source: str) -> Iterator[Event]:
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        yield from yaml.parse(text, Loader=loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = (mark.line + 1, mark.column + 1) if mark else (0, 0)
        raise _refused(source, place, f"not YAML: {_said(error)}") from None
    except yaml.reader.ReaderError as error:
        before = text[: error.position]
        place = (before.count("\n") + 1, error.position - before.rfind("\n"))
        raise _refused(source, place, "not YAML: a control character") from None


def _said(error: yaml.MarkedYAMLError) -> str:
    begun = f", {error.context} that begins in line {error.context_mark.line + 1}" if error.context_mark else ""
    return f"{error.problem or error.context}{begun}"


def _mark(event: Event) -> Mark:
    return (event.start_mark.line + 1, event.start_mark.column + 1) if event.start_mark else (0, 0)


class _Reader:
    """Builds documents from the parser's events; one per file, for the caps hold for the whole file."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._left = VALUES_CAP
        self._document = Document(source)

    def documents(self, events: Iterable[Event]) -> Iterator[Document]:
        stream = iter(events)
        for event in stream:
            if isinstance(event, DocumentStartEvent):
                self._left -= 3  # what a document costs beyond its values
                self._document = Document(self._source)
                self._document.data = self._value(next(stream), stream, ())
                yield self._document

    def _value(self, event: Event, stream: Iterator[Event], path: Path) -> object:
        mark = self._document.marks[path] = _mark(event)
        self._check(event, mark, path)
        if isinstance(event, MappingStartEvent):
            return self._mapping(stream, path)
        if isinstance(event, SequenceStartEvent):
            return self._sequence(stream, path)
        return self._scalar(event, path) if isinstance(event, ScalarEvent) else None

    def _check(self, event: Event, mark: Mark, path: Path) -> None:
        self._left -= 1
        if self._left < 0:
            raise _refused(self._source, mark, f"more than {VALUES_CAP} values")
        if len(path) > DEPTH_CAP:
            raise _refused(self._source, mark, f"nested deeper than {DEPTH_CAP} levels")
        if isinstance(event, NodeEvent) and event.anchor is not None:
            raise _refused(self._source, mark, "anchors (&) and aliases (*) are not accepted: write the value out")
        if isinstance(event, ScalarEvent | CollectionStartEvent) and event.tag is not None:
            self._problem(mark, f"tags are not accepted: remove {shown(event.tag)[5:]}")

    def _sequence(self, stream: Iterator[Event], path: Path) -> list[object]:
        items: list[object] = []
        while not isinstance(event := next(stream), SequenceEndEvent):
            items.append(self._value(event, stream, (*path, len(items))))
        return items

    def _mapping(self, stream: Iterator[Event], path: Path) -> dict[str, object]:
        found: dict[str, object] = {}
        while not isinstance(event := next(stream), MappingEndEvent):
            key, mark = self._key(event, path)
            first = self._document.keys.get((*path, key))
            if first:
                self._problem(mark, f"the key {shown(key)[5:]} stands here a second time; first in line {first[0]}")
            self._document.keys.setdefault((*path, key), mark)
            value = self._value(next(stream), stream, (*path, key))
            found.setdefault(key, value)
        return found

    def _key(self, event: Event, path: Path) -> tuple[str, Mark]:
        mark = _mark(event)
        self._check(event, mark, path)
        if not isinstance(event, ScalarEvent):
            raise _refused(self._source, mark, "a key must be a word (braces or brackets in a value want quotes)")
        if event.value == "<<" and event.implicit[0]:
            self._problem(mark, "merge keys (<<) are not accepted: write the keys out")
        return event.value, mark

    def _scalar(self, event: ScalarEvent, path: Path) -> object:
        text: str = event.value
        if not event.implicit[0]:
            return text
        if text in _CONSTANTS:
            return _CONSTANTS[text]
        number = _number(text)
        if number is None:
            return text
        self._document.texts[path] = text
        return number

    def _problem(self, mark: Mark, message: str) -> None:
        if len(self._document.problems) == PROBLEMS_CAP:
            raise _refused(self._source, mark, f"more than {PROBLEMS_CAP} mistakes of form up to here; {message}")
        self._document.problems.append(Problem(self._source, *mark, message))


def _number(text: str) -> int | float | None:
    if _INTEGER.fullmatch(text):
        return int(text)
    if _NUMBER.fullmatch(text) and math.isfinite(value := float(text)):
        return value
    return None
