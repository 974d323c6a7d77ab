"""A copy is what the standard library's is, for every kind of value."""

import dataclasses
from pathlib import Path

import pytest

from pilot.core.reporting import Dossier
from pilot.core.steward import Rules, Steward
from pilot.model.copies import replace
from pilot.model.job import Cause, Job, Phase
from pilot.ports import Sandbox

VALUES = [
    (Job("k"), {"phase": Phase.RUNNING, "cause": Cause.LIMIT}),
    (Dossier(), {"since": 1.5}),
    (Steward(Rules("x")), {"idle_since": 2.0, "broken": ("a",)}),
    (Sandbox(Path("/a")), {"root": Path("/b")}),
    (Job("k"), {}),
]


@pytest.mark.parametrize(("value", "changes"), VALUES)
def test_it_is_the_standard_librarys(value: Job, changes: dict[str, object]) -> None:
    before = repr(value)
    copy, expected = replace(value, **changes), dataclasses.replace(value, **changes)
    assert (copy, repr(copy), hash(copy)) == (expected, repr(expected), hash(expected))
    assert type(copy) is type(value)
    assert copy is not value
    assert repr(value) == before
    assert dataclasses.asdict(copy) == dataclasses.asdict(expected)


def test_an_unknown_field_is_an_error() -> None:
    with pytest.raises(TypeError):
        replace(Job("k"), colour="red")  # type: ignore[call-arg]


def test_what_is_made_from_other_fields_is_made_anew() -> None:
    assert replace(Sandbox(Path("/a")), root=Path("/b")).work == Path("/b/work")


def test_a_copy_is_frozen() -> None:
    copy = replace(Job("k"), key="j")
    with pytest.raises(dataclasses.FrozenInstanceError):
        copy.key = "x"  # type: ignore[misc]
