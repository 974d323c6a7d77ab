"""Durations and sizes as people write them: `1h30m` and `2GiB`."""

import re

SECONDS = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}
_DURATION = re.compile(r"(?:(\d{1,6})d)?(?:(\d{1,6})h)?(?:(\d{1,8})m)?(?:(\d{1,9})s)?")
_SIZE = re.compile(r"(\d{1,18})(?:\.(\d{1,9}))? ?([A-Za-z]*)")

BYTES = {"B": 1}
BYTES |= {f"{letter}iB": 1024**power for power, letter in enumerate("KMGTP", start=1)}
BYTES |= {f"{letter}B": 1000**power for power, letter in enumerate("KMGTP", start=1)}
BYTES |= {"kB": 1000}


def parse_duration(value: object) -> int:
    """Seconds from `90s`, `30m`, `1h30m`, `2d` or a bare whole number; raises ValueError that says what to write."""
    if isinstance(value, int) and not isinstance(value, bool):
        return _not_negative(value, "a duration")
    if not isinstance(value, str):
        raise ValueError("expected a duration such as 90s, 30m or 1h30m")
    if value.isdecimal() and len(value) <= 12:
        return int(value)
    match = _DURATION.fullmatch(value)
    if not value or match is None:
        raise ValueError(f"{value[:40]!a} is no duration: write 90s, 30m, 1h30m or whole seconds")
    return sum(int(number or 0) * unit for number, unit in zip(match.groups(), SECONDS.values(), strict=True))


def parse_size(value: object) -> int:
    """Bytes from `2GiB` (2^31), `2GB` (2*10^9) or a bare whole number; raises ValueError that says what to write."""
    if isinstance(value, int) and not isinstance(value, bool):
        return _not_negative(value, "a size")
    if not isinstance(value, str):
        raise ValueError("expected a size such as 2GiB, 500MB or whole bytes")
    match = _SIZE.fullmatch(value)
    if match is None:
        raise ValueError(f"{value[:40]!a} is no size: write 2GiB, 500MB or whole bytes")
    whole, fraction, unit = match.groups()
    if (unit or "B") not in BYTES:
        raise ValueError(f"{value!r}: unknown unit {unit!r}{_unit_hint(unit)}")
    scale = BYTES[unit or "B"]
    part: int = int(fraction or 0) * scale // 10 ** len(fraction or "")
    return int(whole) * scale + part


def _unit_hint(unit: str) -> str:
    letter = unit[:1].upper()
    if f"{letter}iB" in BYTES:
        return f"; did you mean {letter}iB (powers of 1024) or {letter}B (powers of 1000)?"
    return "; write one of B, KiB, MiB, GiB, TiB, KB, MB, GB, TB"


def _not_negative(value: int, what: str) -> int:
    if value < 0:
        raise ValueError(f"{what} cannot be negative")
    return value


def parse_seconds(value: object) -> float:
    """Seconds, fractions allowed: `0.5`, `0.5s`, or a duration."""
    if isinstance(value, float):
        return max(0.0, value)
    if isinstance(value, str) and (match := _FRACTION.fullmatch(value)):
        return float(match[1])
    return float(parse_duration(value))


_FRACTION = re.compile(r"(\d{1,9}\.\d{1,9})s?")


def show_duration(seconds: float) -> str:
    """A duration as people write it: 0.25s, 90s, 1h30m."""
    if seconds < 120:
        return f"{seconds:.3g}s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    parts = ((hours, "h"), (minutes, "m"), (rest, "s"))
    return "".join(f"{number}{unit}" for number, unit in parts if number)
