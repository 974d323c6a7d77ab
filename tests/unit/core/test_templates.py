"""Placeholders: where they are filled, what is left alone, which parameters and values are refused."""

import pytest

from pilot.core.templates import fill, named_at, put, wrong_parameters, wrong_value
from pilot.model.files import Output
from pilot.model.job import JobSpec

SPEC = JobSpec(
    name="scan-{lr}",
    command=("python3", "-c", "print({}, {'a': 1}, {lr}, {unknown}, {{lr}})", "--seed={seed}"),
    environment=(("LR", "{lr}"), ("{lr}", "x")),
    outputs=(Output("model-{lr}.onnx", to="file:///out/{seed}"), Output("plain"), Output("x", url="file:///x/{lr}")),
    validate=("check", "{seed}"),
)


def test_every_place_is_filled_and_nothing_else() -> None:
    filled = fill(SPEC, {"lr": "0.1", "seed": "{lr}"})
    assert filled.command == ("python3", "-c", "print({}, {'a': 1}, 0.1, {unknown}, {0.1})", "--seed={lr}")
    assert filled.environment == (("LR", "0.1"), ("{lr}", "x"))
    assert [(each.name, each.to, each.url) for each in filled.outputs] == [
        ("model-0.1.onnx", "file:///out/{lr}", ""),
        ("plain", "", ""),
        ("x", "", "file:///x/0.1"),
    ]
    assert filled.validate == ("check", "{lr}")
    assert filled.name == SPEC.name
    assert put(filled.name, {"lr": "7"}) == "scan-7"


def test_which_parameters_are_used_and_which_of_them_in_a_name() -> None:
    used, placed = named_at(SPEC, ("lr", "seed", "depth"))
    assert (used, placed) == ({"lr", "seed"}, {"lr", "seed"})
    assert named_at(JobSpec("a", ("x", "{lr}")), ("lr",)) == ({"lr"}, frozenset())


@pytest.mark.parametrize(
    ("parameters", "why"),
    [
        (("lr", "seed"), ""),
        ((), "without parameters"),
        (("lr", "LR"), "'LR': the job does not use it; write {LR}"),
        (("l r",), "'l r': letters"),
        (("",), "'': letters"),
        (("9",), "'9': letters"),
        (("x" * 65,), "letters, digits"),
    ],
)
def test_parameters(parameters: tuple[str, ...], why: str) -> None:
    found = wrong_parameters(SPEC, parameters)
    assert (why in found) if why else found == ""


@pytest.mark.parametrize(
    ("value", "placed", "fine"),
    [
        ("0.1", True, True),
        ("-1e-05", True, True),
        ("a b/c;$(d) é", False, True),
        ("", False, True),
        ("", True, False),
        ("a/b", True, False),
        ("..", True, False),
        (".x", True, False),
        ("a b", True, False),
        ("x" * 65, True, False),
        ("x" * 4096, False, True),
        ("x" * 4097, False, False),
        ("a\nb", False, False),
        ("a\0b", False, False),
        ("\ud800", False, False),
        (7, False, False),
        (None, True, False),
    ],
)
def test_values(value: object, placed: bool, fine: bool) -> None:
    found = wrong_value(value, placed)
    assert (found == "") is fine
    assert "\n" not in found
