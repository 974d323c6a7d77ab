"""Strict looks into foreign JSON: each returns a value of the one type wanted, or raises WireError with the key.

PanDA writes "NULL" where it has nothing, and numbers sometimes as text; nothing else is taken for anything else.
"""

from collections.abc import Mapping

from pilot.wire.envelope import WireError, shown

_NOTHING = frozenset({"", "NULL", "None"})
_LARGEST = 1 << 53  # what every JSON reader can hold
_LONGEST_NUMBER = 20  # characters

Record = Mapping[str, object]


def record(value: object, where: str) -> Record:
    """A JSON object."""
    if not isinstance(value, Mapping):
        raise WireError(f"{where}: expected an object, found {shown(value)}")
    return value


def records(value: object, where: str) -> list[Record]:
    """A list of JSON objects."""
    if not isinstance(value, list):
        raise WireError(f"{where}: expected a list, found {shown(value)}")
    return [record(each, f"{where}[{number}]") for number, each in enumerate(value)]


def text(data: Record, key: str) -> str:
    """Text; missing, null and "NULL" are the empty one, a number is its digits."""
    value = data.get(key)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if value is not None and not isinstance(value, str):
        raise WireError(f"{key}: expected text, found {shown(value)}")
    return "" if value is None or value in _NOTHING else value


def number(data: Record, key: str, otherwise: int | None = None) -> int:
    """A whole number, not negative; missing, null and "NULL" are `otherwise`, where there is one."""
    value = data.get(key)
    if value is None or (isinstance(value, str) and value in _NOTHING):
        if otherwise is None:
            raise WireError(f"{key}: it is missing")
        return otherwise
    found = _whole(value)
    if found is None or not 0 <= found <= _LARGEST:
        raise WireError(f"{key}: expected a whole number, found {shown(value)}")
    return found


def _whole(value: object) -> int | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, float):
        return int(value) if value.is_integer() else None
    if isinstance(value, str):
        return int(value) if len(value) <= _LONGEST_NUMBER and value.isascii() and value.isdigit() else None
    return value if isinstance(value, int) else None


def flag(data: Record, key: str) -> bool:
    """Whether that switch is on; PanDA writes "True"."""
    value = data.get(key)
    if value is None or isinstance(value, bool):
        return bool(value)
    if isinstance(value, str) and value in ("True", "False", *_NOTHING):
        return value == "True"
    raise WireError(f"{key}: expected True or False, found {shown(value)}")


def listing(data: Record, key: str) -> tuple[str, ...]:
    """A comma list; its parts that are "NULL" are empty ones."""
    found = text(data, key)
    return tuple("" if each in _NOTHING else each for each in found.split(",")) if found else ()


def parallel(data: Record, key: str, wanted: int, of: str) -> tuple[str, ...]:
    """A comma list that runs beside another one of so many parts; a missing one is empty throughout."""
    found = listing(data, key)
    if not found:
        return ("",) * wanted
    if len(found) != wanted:
        raise WireError(f"{key}: {len(found)} parts beside {wanted} of {of}")
    return found
