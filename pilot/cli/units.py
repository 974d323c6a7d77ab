"""Durations as the command line takes them."""

import re

import click

_PARTS = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s)?")
_SECONDS = (86400, 3600, 60, 1)


class Duration(click.ParamType[float]):
    """90s, 30m, 1h30m; a bare number is seconds."""

    name = "duration"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Seconds."""
        text = str(value)
        with_unit = _PARTS.fullmatch(text)
        if re.fullmatch(r"\d+(\.\d+)?", text):
            return float(text)
        if not text or with_unit is None:
            self.fail(f"{text!r} is no duration: write 90s, 30m or 1h30m", param, ctx)
        return sum(float(found or 0) * unit for found, unit in zip(with_unit.groups(), _SECONDS, strict=True))


DURATION = Duration()
