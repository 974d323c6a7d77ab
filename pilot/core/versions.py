"""Conditions on version numbers, as jobs write them: ">=8.0", or several joined by commas."""

import re
from collections.abc import Callable
from itertools import zip_longest

_COMPARE: dict[str, Callable[[int], bool]] = {
    ">=": lambda order: order >= 0,
    "<=": lambda order: order <= 0,
    "==": lambda order: order == 0,
    "!=": lambda order: order != 0,
    ">": lambda order: order > 0,
    "<": lambda order: order < 0,
    "": lambda order: order >= 0,
}
_CONDITION = re.compile(r"(>=|<=|==|!=|>|<|)\s*(\d+(?:\.\d+)*)")


def is_condition(text: str) -> bool:
    """Whether the text is a condition; the empty text asks nothing and is one."""
    return not text.strip() or all(_CONDITION.fullmatch(each.strip()) for each in text.split(","))


def meets(version: str, condition: str) -> bool:
    """Whether the version meets every part of the condition; a bare number asks for at least that."""
    if not condition.strip():
        return True
    return bool(re.fullmatch(r"\d+(\.\d+)*", version)) and all(
        _meets_one(version, each.strip()) for each in condition.split(",")
    )


def _meets_one(version: str, condition: str) -> bool:
    found = _CONDITION.fullmatch(condition)
    return found is not None and _COMPARE[found[1]](_order(version, found[2]))


def _order(left: str, right: str) -> int:
    """-1, 0 or 1; a missing part is 0, so 8 and 8.0 are the same."""
    pairs = zip_longest(map(int, left.split(".")), map(int, right.split(".")), fillvalue=0)
    return next(((a > b) - (a < b) for a, b in pairs if a != b), 0)
