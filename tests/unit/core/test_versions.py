"""Version conditions."""

import pytest

from pilot.core.versions import is_condition, meets


@pytest.mark.parametrize(
    ("version", "condition", "expected"),
    [
        ("8.0", "", True),
        ("", "", True),
        ("8.0", ">=8.0", True),
        ("8", ">=8.0", True),
        ("7.5", ">=8.0", False),
        ("12.10", ">12.9", True),
        ("9.0", "8.0", True),
        ("9.0", "==9", True),
        ("9.0", "!=9", False),
        ("9.0", "<9.1", True),
        ("9.0", "<=8.9", False),
        ("9.0", ">=8.0, <10", True),
        ("10.0", ">=8.0, <10", False),
        ("", ">=8.0", False),
        ("unknown", ">=8.0", False),
        ("8.0", "about 8", False),
    ],
)
def test_meets(version: str, condition: str, expected: bool) -> None:
    assert meets(version, condition) is expected


@pytest.mark.parametrize(("text", "expected"), [("", True), (">=8", True), (">=8,<10", True), ("~8", False)])
def test_is_condition(text: str, expected: bool) -> None:
    assert is_condition(text) is expected
