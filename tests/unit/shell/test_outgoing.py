"""Orders that nobody answers: what is said of them."""

import pytest

from pilot.model.faults import Code, Party
from pilot.model.files import Input, Output
from pilot.model.job import Grant, Job, JobSpec, Phase
from pilot.model.orders import Kind
from pilot.shell.outgoing import _transfer_late

SPEC = JobSpec(
    "n", ("true",), inputs=(Input("file:///a", "a"), Input("file:///b", "b")), outputs=(Output("o", url="file:///o"),)
)
JOB = Job("k", Phase.STAGING_IN, Grant("1", 1, SPEC, 60.0))


@pytest.mark.parametrize(("kind", "said"), [(Kind.FETCH, "file:///a or one of 1 more"), (Kind.STORE, "file:///o")])
def test_a_transfer_that_hangs_names_its_place_and_is_the_sites(kind: Kind, said: str) -> None:
    late = _transfer_late(kind, JOB)
    assert late is not None
    assert (late.code, late.party) == (Code.PILOT_DEADLINE, Party.SITE)
    assert late.detail.endswith(said)


def test_what_is_no_transfer_is_the_pilots() -> None:
    assert _transfer_late(Kind.SWEEP, JOB) is None
    assert _transfer_late(Kind.CLAIM, Job("k")) is None
