"""Durations as people read them."""

import pytest

from pilot.config.units import show_duration


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.25, "0.25s"), (90, "90s"), (125, "2m5s"), (5400, "1h30m"), (7200, "2h"), (3605, "1h5s")]
)
def test_show_duration(seconds: float, text: str) -> None:
    assert show_duration(seconds) == text
