"""The contract of queues on the fake of a PanDA server: kept and lost is the same as with the real one."""

import pytest

from tests.contracts import test_server_panda as real
from tests.contracts.fake_panda import FakePandaBed

# Collected here, they take the bed of this file.
globals().update({name: each for name, each in real.PROMISES.items() if name not in real.LOST})
globals().update({each.__name__: each for each in real.IN_PART})


@pytest.fixture
def bed() -> FakePandaBed:
    return FakePandaBed()
