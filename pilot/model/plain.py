"""Values to plain data and back: what the journal, the queue and the reports are written in.

A frozen dataclass becomes an object of its fields, an enum its text, a tuple a list. Reading is strict: a missing
field takes its default or is an error, an unknown field is an error, and no text is taken for a number. One
reader and one writer are compiled per type and kept.
"""

import types
import typing
from collections.abc import Callable, Hashable
from dataclasses import MISSING, fields, is_dataclass
from enum import Enum
from functools import cache
from typing import TypeVar, Union, cast, get_args, get_origin, get_type_hints

T = TypeVar("T")
Reader = Callable[[object], object]
Writer = Callable[[object], object]

_AS_IT_IS = frozenset({type(None), bool, int, float, str})


class PlainError(ValueError):
    """Plain data that is not the value it should be; says where and what."""


def to_plain(value: object) -> object:
    """The value as JSON can hold it; fields that stand at their default are left out."""
    return value if type(value) in _AS_IT_IS else _writer(cast(Hashable, type(value)))(value)


def full_plain(value: object) -> object:
    """The value as JSON can hold it, every field written out: what users read."""
    kind = type(value)
    if kind in _AS_IT_IS:
        return value
    if is_dataclass(kind):
        return {name: full_plain(getattr(value, name)) for name, _ in _defaults(kind)}
    if isinstance(value, tuple | list):
        return [full_plain(each) for each in value]
    return to_plain(value)


def from_plain(kind: type[T], data: object) -> T:
    """The value of that type; raises PlainError with the path of what is wrong."""
    return cast(T, _reader(cast(Hashable, kind))(data))


@cache
def _writer(named: Hashable) -> Writer:
    kind = cast(type, named)
    if issubclass(kind, Enum):
        return lambda value: cast(Enum, value).value
    if issubclass(kind, str | int | float):
        return lambda value: value
    if issubclass(kind, tuple | list):
        return lambda value: [to_plain(each) for each in cast(list[object], value)]
    if issubclass(kind, dict):
        return lambda value: {str(key): to_plain(each) for key, each in cast(dict[object, object], value).items()}
    return _record_writer(kind)


def _record_writer(kind: type) -> Writer:
    defaults = _defaults(kind)

    def write(value: object) -> object:
        found = {}
        for name, default in defaults:
            each = getattr(value, name)
            if each is not default and each != default:
                found[name] = to_plain(each)
        return found

    return write


@cache
def _defaults(kind: Hashable) -> tuple[tuple[str, object], ...]:
    return tuple((each.name, _default(each)) for each in fields(cast(type, kind)))


def _default(each: typing.Any) -> object:  # dataclasses.Field is generic only in stubs
    if each.default is not MISSING:
        return each.default
    return each.default_factory() if each.default_factory is not MISSING else MISSING


@cache
def _reader(kind: Hashable) -> Reader:
    origin = get_origin(kind)
    if origin in (Union, types.UnionType):
        return _optional(get_args(kind))
    if origin is tuple:
        return _tuple(get_args(kind))
    if isinstance(kind, type) and issubclass(kind, Enum):
        return _enum(kind)
    if is_dataclass(kind):
        return _record(cast(type, kind))
    return _scalar(cast(type, kind))


def _optional(kinds: tuple[object, ...]) -> Reader:
    readers = [_reader(each) for each in kinds if each is not type(None)]

    def read(data: object) -> object:
        if data is None and type(None) in kinds:
            return None
        return _first_that_reads(readers, data)

    return read


def _first_that_reads(readers: list[Reader], data: object) -> object:
    for reader in readers[:-1]:
        try:
            return reader(data)
        except PlainError:
            continue
    return readers[-1](data)


def _tuple(kinds: tuple[object, ...]) -> Reader:
    if len(kinds) == 2 and kinds[1] is Ellipsis:
        each = _reader(kinds[0])
        return lambda data: tuple(map(each, _list(data)))
    readers = [_reader(kind) for kind in kinds]

    def read(data: object) -> object:
        items = _list(data)
        if len(items) != len(readers):
            raise PlainError(f"expected {len(readers)} items, found {len(items)}")
        return tuple(reader(item) for reader, item in zip(readers, items, strict=True))

    return read


def _list(data: object) -> list[object]:
    if not isinstance(data, list | tuple):
        raise PlainError(f"expected a list, found {type(data).__name__}")
    return list(data)


def _enum(kind: type[Enum]) -> Reader:
    known = {each.value: each for each in kind}

    def read(data: object) -> object:
        if not isinstance(data, str) or data not in known:
            raise PlainError(f"{data!r} is not one of {', '.join(map(str, known))}")
        return known[data]

    return read


def _scalar(kind: type) -> Reader:
    if kind is object or kind is dict:
        return lambda data: data
    accepted = (int, float) if kind is float else (kind,)

    def read(data: object) -> object:
        if not isinstance(data, accepted) or (isinstance(data, bool) and kind is not bool):
            raise PlainError(f"expected {kind.__name__}, found {type(data).__name__}")
        return data

    return read


def _record(kind: type) -> Reader:
    hints = get_type_hints(kind)
    readers = {name: _reader(hints[name]) for name, _ in _defaults(kind)}
    required = {name for name, default in _defaults(kind) if default is MISSING}

    def read(data: object) -> object:
        if not isinstance(data, dict):
            raise PlainError(f"expected an object, found {type(data).__name__}")
        _check_names(set(data), set(readers), required)
        return kind(**{name: _read_field(name, readers[name], each) for name, each in data.items()})

    return read


def _check_names(found: set[str], known: set[str], required: set[str]) -> None:
    if found - known:
        raise PlainError(f"unknown field {min(found - known)!r}")
    if required - found:
        raise PlainError(f"missing field {min(required - found)!r}")


def _read_field(name: str, reader: Reader, data: object) -> object:
    try:
        return reader(data)
    except PlainError as problem:
        raise PlainError(f"{name}: {problem}") from None
