"""A batch slot whose user the node does not know."""

from pathlib import Path

import pytest

from pilot.config.home import home
from pilot.config.problems import ConfigProblems


def test_the_home_is_that_of_the_user(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert home() == tmp_path


def test_without_a_home_one_line_says_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(_: int) -> None:
        raise KeyError("uid not found")

    monkeypatch.delenv("HOME")
    monkeypatch.setattr("pwd.getpwuid", nobody)
    with pytest.raises(ConfigProblems, match="set HOME, or PILOT_CACHE and PILOT_STATE"):
        home()
