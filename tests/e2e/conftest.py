"""Fixtures of the tests that run the whole pilot."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.piloted import Rig, until_nothing_is_left


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    made = Rig(tmp_path)
    yield made
    until_nothing_is_left(made)
