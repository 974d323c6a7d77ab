"""PanDA's number of a fault: the one of the registry, or one that the circumstances make more exact.

PanDA's server and monitor know more numbers than there are faults of ours: which way a file was going, which signal.
"""

from dataclasses import dataclass

from pilot.model.faults import REGISTRY, Code

FETCHING, STORING, SANDBOX = "while fetching", "while storing", "the user's sandbox"


@dataclass(frozen=True, slots=True)
class Case:
    """One number that a fault has under one circumstance."""

    code: Code
    when: str
    number: int


def by_signal(signal: int) -> str:
    """The circumstance that a payload was ended by that signal."""
    return f"signal {signal}"


CASES = (
    Case(Code.PAYLOAD_SIGNAL, by_signal(2), 1208),
    Case(Code.PAYLOAD_SIGNAL, by_signal(3), 1202),
    Case(Code.PAYLOAD_SIGNAL, by_signal(7), 1206),
    Case(Code.PAYLOAD_SIGNAL, by_signal(10), 1207),
    Case(Code.PAYLOAD_SIGNAL, by_signal(11), 1328),
    Case(Code.PAYLOAD_SIGNAL, by_signal(15), 1201),
    Case(Code.PAYLOAD_SIGNAL, by_signal(24), 1204),
    Case(Code.STAGE_IN_MISSING, SANDBOX, 1335),
    Case(Code.STORAGE_UNREACHABLE, FETCHING, 1099),
    Case(Code.STORAGE_UNREACHABLE, STORING, 1137),
    Case(Code.STORAGE_DENIED, FETCHING, 1338),
    Case(Code.STORAGE_DENIED, STORING, 1383),
    Case(Code.PILOT_DEADLINE, FETCHING, 1151),
    Case(Code.PILOT_DEADLINE, STORING, 1152),
)
_BY_CASE = {(each.code, each.when): each.number for each in CASES}


def panda_number(code: Code, *circumstances: str) -> int:
    """The number by which PanDA's server and monitor know that fault, under the first circumstance that matters."""
    exact = (_BY_CASE.get((code, each)) for each in circumstances)
    return next((each for each in exact if each is not None), REGISTRY[code].panda)


def numbers_of(code: Code) -> tuple[tuple[int, str], ...]:
    """Every number that the fault may have, and when; its usual one first."""
    cases = tuple((each.number, each.when) for each in CASES if each.code is code)
    return ((REGISTRY[code].panda, ""), *cases)


def numbers_text(code: Code) -> str:
    """The same in words."""
    return ", ".join(f"{number} ({when})" if when else str(number) for number, when in numbers_of(code))


def codes_of(number: int) -> list[Code]:
    """The faults that PanDA may know by that number; those that always have it first."""
    usual = [code for code, entry in REGISTRY.items() if entry.panda == number]
    return list(dict.fromkeys([*usual, *(each.code for each in CASES if each.number == number)]))
