"""A folder for queue files: in memory where there is one, because a sync of a shared disk may take 50 ms."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

IN_MEMORY = Path("/dev/shm")


@pytest.fixture
def folder() -> Iterator[Path]:
    place = IN_MEMORY if os.access(IN_MEMORY, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="pilot-test-", dir=place) as made:
        yield Path(made)
