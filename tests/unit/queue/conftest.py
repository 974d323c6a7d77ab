"""A queue on a file of its own, its clock moved by hand."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contracts.server_beds import LocalBed


@pytest.fixture
def bed(tmp_path: Path) -> Iterator[LocalBed]:
    made = LocalBed(tmp_path)
    yield made
    made.close()
