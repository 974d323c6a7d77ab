"""What `LOSSES` says of a real PanDA server is true: each test that it names fails there."""

from collections.abc import Iterator
from types import FunctionType

import pytest

from tests.beds.panda import PandaBed, panda_bed
from tests.contracts import test_server as contract
from tests.contracts.panda_losses import LOSSES
from tests.contracts.plain_panda import PandaContractBed

pytestmark = pytest.mark.panda


@pytest.fixture(scope="module")
def panda() -> Iterator[PandaBed]:
    with panda_bed() as made:
        yield made  # what the server makes of words that it does not know, its log may call a mistake


@pytest.fixture
def bed(panda: PandaBed) -> Iterator[PandaContractBed]:
    made = PandaContractBed(panda)
    yield made
    made.close()


def lost(name: str) -> object:
    """That test of the contract, expected to fail; a copy, so that the mark shows here alone."""
    promise: FunctionType = getattr(contract, name)
    made = FunctionType(promise.__code__, promise.__globals__, name, promise.__defaults__, promise.__closure__)
    made.__dict__.update(promise.__dict__, pytestmark=[*getattr(promise, "pytestmark", ())])
    return pytest.mark.xfail(strict=True, reason="lost on PanDA")(made)


globals().update({name: lost(name) for loss in LOSSES.values() for name in loss.tests})
