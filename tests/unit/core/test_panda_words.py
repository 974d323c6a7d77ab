"""What PanDA's definition cannot say of a job, part by part."""

import pytest

from pilot.core.panda_words import unsaid
from pilot.model.files import CodePack, Input, Output
from pilot.model.job import GpuNeeds, JobSpec, Needs


def spec(**more: object) -> JobSpec:
    return JobSpec(**{"name": "a", "command": ("echo", "hello world", "$HOME"), **more})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"image": "docker://alpine:3"},
        {"image": "/cvmfs/images/ml"},
        {"outputs": (Output("model.onnx"), Output("log.txt", optional=True))},
        {"environment": (("A", "1 2"),)},
        {"needs": (Needs(8, gpus=GpuNeeds(1, 1 << 30, cuda=">=12.0")),)},
        {"checkpoint_interval": 60, "network": "outbound", "priority": 7, "requirements": "TARGET.Cpus > 1"},
    ],
)
def test_what_can_be_said(more: dict[str, object]) -> None:
    assert unsaid(spec(**more)) == ""


@pytest.mark.parametrize(
    ("part", "more"),
    [
        ("kind", {"kind": "service"}),
        ("needs", {"needs": (Needs(1), Needs(2))}),
        ("needs", {"needs": ()}),
        ("needs.gpus", {"needs": (Needs(gpus=GpuNeeds(2)),)}),
        ("needs.gpus", {"needs": (Needs(gpus=GpuNeeds(1, capability=">=8.0")),)}),
        ("image", {"image": "ml-base"}),
        ("image", {"image": "/images/ml.sif", "image_sha256": "0" * 64}),
        ("code", {"code": CodePack("0" * 64, 1)}),
        ("inputs", {"inputs": (Input("root://x/y", "y"),)}),
        ("outputs", {"outputs": (Output("metrics/*"),)}),
        ("outputs", {"outputs": (Output("a", to="davs://x"),)}),
        ("outputs", {"outputs": (Output("a", url="davs://x/a"),)}),
        ("validate", {"validate": ("true",)}),
        ("command", {"command": ()}),
        ("command", {"command": ("https://somewhere/trf",)}),
        ("command", {"command": ("run", "--containerImage", "x")}),
        ("command", {"command": ("run", "two\nlines")}),
        ("environment", {"environment": (("A", "two\nlines"),)}),
        ("environment", {"environment": (("A B", "1"),)}),
    ],
)
def test_what_cannot_and_which_part_hinders(part: str, more: dict[str, object]) -> None:
    assert unsaid(spec(**more)) == part
