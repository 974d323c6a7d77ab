"""The envelope of every reply, `{"success", "message", "data"}`: octets to a value, whatever arrives.

Bounded before anything is parsed: the size, and the number of values that the text can hold, since a few megabytes of
brackets would cost a hundred in memory. Nothing but WireError is raised, and nothing within MOST costs more than 100 ms
and 64 MB.
"""

import json
import math
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

_LONG_INTEGER = 19  # characters: what a signed 64-bit number may take, and no digits to spend time on
_SURROGATE = re.compile(r"[\ud800-\udfff]")
_ESCAPED_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_SHOWN = 60  # characters of foreign text in an error


class WireError(ValueError):
    """What came over the wire is not what the protocol says; tells where and what."""


class TooMuch(WireError):
    """More came over the wire than may be read at once; less may be asked for."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """The most that is read of one reply: octets, values in it, and how deep they may stand in one another."""

    octets: int = 4 << 20
    values: int = 40_000
    depth: int = 32


USUAL = Bounds()
MOST = Bounds(values=150_000)  # of what is read at once, whoever sends it
HALVES_CAP = 40_000  # values where a half character is escaped somewhere: then each text is looked at once more


@dataclass(frozen=True, slots=True)
class Reply:
    """One reply, its envelope opened; `data` is plain JSON, still to be read strictly."""

    success: bool
    message: str = ""
    data: object = None


def read_reply(octets: bytes, bounds: Bounds = USUAL) -> Reply:
    """The reply in those octets; raises WireError."""
    found = read_json(octets, bounds)
    if not isinstance(found, dict) or not isinstance(found.get("success", 0), bool | None):
        raise WireError(f"the reply is no envelope with success, message and data: {shown(found)}")
    message = found.get("message", "")
    if not isinstance(message, str | None):
        raise WireError(f"message: expected text, found {shown(message)}")
    success = not message if found["success"] is None else found["success"]  # null: what PanDA answers for a range
    return Reply(bool(success), message or "", found.get("data"))


def read_json(octets: bytes, bounds: Bounds = USUAL) -> object:
    """The JSON value in those octets, free of what only looks like JSON; raises WireError."""
    checked_size(octets, bounds)
    try:
        text = octets.decode("utf-8")
        found = _decoder().decode(text)
    except WireError:
        raise
    except RecursionError:
        raise WireError("the reply is nested too deep") from None
    except ValueError as error:  # no UTF-8, or no JSON
        raise WireError(f"the reply is no JSON: {str(error)[:_SHOWN]}") from None
    _check_depth(found, bounds.depth)
    return _whole(found) if _ESCAPED_SURROGATE.search(octets) else found


def read_first(text: str, place: int, whole: bool, deepest: int) -> tuple[object, int] | None:
    """The value that begins there, and where it ends; None where that can be told only with more of the text."""
    try:
        found, end = _decoder().raw_decode(text, place)
    except WireError:
        raise
    except RecursionError:
        raise WireError("the reply is nested too deep") from None
    except ValueError as error:
        if not whole:
            return None
        raise WireError(f"the reply is no JSON: {str(error)[:_SHOWN]}") from None
    if end == len(text) and not whole:  # a number may go on
        return None
    _check_depth(found, deepest)
    return _whole(found), end


def checked_size(octets: bytes, bounds: Bounds) -> None:
    """Raises TooMuch for octets beyond these bounds, before they are parsed."""
    if len(octets) > bounds.octets:
        raise TooMuch(f"the reply has more than {bounds.octets} bytes")
    most = min(bounds.values, HALVES_CAP) if _ESCAPED_SURROGATE.search(octets) else bounds.values
    if _signs(octets) > most and _signs(_outside_texts(octets, most)) > most:
        raise TooMuch(f"the reply holds more than {most} values")


def fits(octets: bytes, bounds: Bounds) -> bool:
    """Whether whoever reads those octets within these bounds will take them."""
    try:
        checked_size(octets, bounds)
    except TooMuch:
        return False
    return True


def shown(value: object) -> str:
    """Foreign data in an error: one short printable line."""
    short = value[:_SHOWN] if isinstance(value, str) else value
    said = repr(short) if isinstance(short, str | int | float | None) else type(value).__name__
    text = "".join(each if each.isprintable() else "?" for each in said[: _SHOWN + 1])
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."


def cleaned(text: str) -> str:
    """The text with a sign in place of each half character, which no file and no log could hold."""
    return _SURROGATE.sub("\ufffd", text)


def _signs(octets: bytes) -> int:
    """Those that separate values."""
    return sum(octets.count(each) for each in (b",", b":", b"[", b"{"))


def _outside_texts(octets: bytes, most: int) -> bytes:
    """What stands between texts, which may hold many signs: a job's parameters; raises TooMuch for too many texts."""
    bare = octets.replace(rb"\\", b"").replace(rb"\"", b"")
    if bare.count(b'"') > 4 * (most + 1):  # a text is a value or its name, and has two
        raise TooMuch(f"the reply holds more than {most} values")
    return b"".join(bare.split(b'"')[::2])


def _check_depth(found: object, deepest: int) -> None:
    """By levels, without recursion; what holds no other value is not looked at."""
    level = [found]
    for _ in range(deepest):
        level = [each for one in level for each in _held(one) if isinstance(each, dict | list)]
        if not level:
            return
    raise WireError(f"the reply is nested more than {deepest} deep")


def _held(value: object) -> "list[object] | Mapping[str, object] | tuple[()]":
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else ()


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        counted = Counter(name for name, _ in pairs)
        raise WireError(f"the reply says {shown(counted.most_common(1)[0][0])} twice")
    return found


def _integer(text: str) -> int:
    if len(text) > _LONG_INTEGER:
        raise WireError(f"the number {shown(text)} is too long")
    return int(text)


def _number(text: str) -> float:
    value = float(text) if len(text) <= 400 else math.inf
    if not math.isfinite(value):
        raise WireError(f"the number {shown(text)} is too large")
    return value


@cache
def _decoder() -> json.JSONDecoder:
    return json.JSONDecoder(
        object_pairs_hook=_object, parse_int=_integer, parse_float=_number, parse_constant=_constant
    )


def _constant(text: str) -> object:
    raise WireError(f"the reply holds {text}, which is no JSON")


def _whole(value: object) -> object:
    """The same value with whole characters only; its depth is known to be small."""
    if isinstance(value, str):
        return cleaned(value)
    if isinstance(value, list):
        return [_whole(each) for each in value]
    if isinstance(value, dict):
        return {cleaned(name): _whole(each) for name, each in value.items()}
    return value
