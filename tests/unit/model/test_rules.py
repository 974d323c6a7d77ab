"""The rules that every job keeps: what breaks one is named, and what is only large is taken."""

from dataclasses import replace

import pytest

from pilot.model.faults import Code, fault
from pilot.model.files import CodePack, Input, Output
from pilot.model.job import VARIANTS_CAP, GpuNeeds, Grant, JobSpec, Needs
from pilot.model.rules import OUTPUTS_CAP, STRING_BYTES, broken, clash_of, placed
from pilot.shell.doors import sound

SOUND = JobSpec("x", ("true",))
BROKEN = {
    "no command: ": replace(SOUND, command=()),
    "no command: empty": replace(SOUND, command=("",)),
    "needs: none": replace(SOUND, needs=()),
    "needs: many": replace(SOUND, needs=(Needs(),) * (VARIANTS_CAP + 1)),
    "needs: no core": replace(SOUND, needs=(Needs(cpus=0),)),
    "needs: negative memory": replace(SOUND, needs=(Needs(memory_bytes=-1),)),
    "needs: negative walltime": replace(SOUND, needs=(Needs(walltime_seconds=-5),)),
    "needs: negative devices": replace(SOUND, needs=(Needs(gpus=GpuNeeds(-1)),)),
    "needs: absurd": replace(SOUND, needs=(Needs(), Needs(scratch_bytes=1 << 51))),
    "max_interruptions: absurd": replace(SOUND, max_interruptions=1 << 40),
    "max_interruptions: negative": replace(SOUND, max_interruptions=-1),
    "attempts: none": replace(SOUND, attempts=0),
    "checkpoint": replace(SOUND, checkpoint_interval=-1),
    "command[1]: NUL": replace(SOUND, command=("a", "b\0c")),
    "command[1]: long": replace(SOUND, command=("a", "x" * (STRING_BYTES + 1))),
    "command[0]: long in bytes": replace(SOUND, command=("é" * (STRING_BYTES // 2 + 1),)),
    "command: together": replace(SOUND, command=("x" * 100_000,) * 6),
    "validate[0]": replace(SOUND, validate=("\0",)),
    "environment[0]": replace(SOUND, environment=(("A", "x" * (STRING_BYTES - 1)),)),
    "environment: ": replace(SOUND, environment=(("A=B", "x"),)),
    "inputs[0]: ": replace(SOUND, inputs=(Input("file:///a", "../a"),)),
    "inputs: 'x' cannot be": replace(SOUND, inputs=(Input("file:///a", "x/y"), Input("file:///b", "x"))),
    "outputs[0]: up": replace(SOUND, outputs=(Output("a/../../b"),)),
    "outputs[0]: log": replace(SOUND, log_archive=Output("../../.ssh/authorized_keys")),
    "description": replace(SOUND, requirements="x" * (1 << 21)),
}


@pytest.mark.parametrize("what", BROKEN)
def test_what_breaks_a_rule_is_named_in_one_short_line(what: str) -> None:
    found = broken(BROKEN[what])
    assert found
    assert found.isprintable()
    assert len(found) < 300
    assert what.partition(":")[0] in found


def test_a_large_job_is_a_job() -> None:
    many = tuple(Input(f"file:///data/set/file-{number:05}.root", f"in/{number}.root") for number in range(5000))
    large = replace(
        SOUND,
        command=("run", "x" * STRING_BYTES),
        environment=(("A", "x" * (STRING_BYTES - 2)),),
        needs=(Needs(),) * VARIANTS_CAP,
        inputs=many,
        outputs=tuple(Output(f"out/{number}", "file:///data/out") for number in range(OUTPUTS_CAP)),
        code=CodePack("0" * 64, 1),
        log_archive=Output("logs.tgz"),
    )
    assert broken(SOUND) == broken(large) == placed(large) == ""


def test_a_grant_that_breaks_a_rule_is_declined() -> None:
    for each in BROKEN.values():
        found = sound(Grant("j", 3, each, 60.0, owner="anna"))
        assert found.refusal is not None
        assert (found.refusal.code, found.refusal.party) == (Code.JOB_INVALID, "job")
        assert (found.job_id, found.attempt, found.owner) == ("j", 3, "anna")
        assert broken(found.spec) == "", "what is left of it is safe to handle"
    given = fault(Code.IMAGE_UNFIT, "not here")
    kept = sound(Grant("j", 3, replace(SOUND, needs=()), 60.0, refusal=given))
    assert (kept.refusal, broken(kept.spec)) == (given, ""), "a reason that the server gave already stays"
    whole = Grant("j", 3, SOUND, 60.0)
    assert sound(whole) is whole


def test_exact_places_are_not_for_submitters() -> None:
    exact = Output("a", url="file:///root/.ssh/authorized_keys")
    assert placed(replace(SOUND, outputs=(Output("b"), exact))).startswith("outputs[1].url: ")
    assert placed(replace(SOUND, log_archive=exact)).startswith("log_archive.url: ")
    assert placed(replace(SOUND, outputs=(Output("b", "file:///out"),), log_archive=Output("l"))) == ""


@pytest.mark.parametrize(
    ("names", "clash"),
    [
        (("x/y", "x"), True),
        (("x", "x/y"), True),
        (("a/b/c", "a"), True),
        (("x", "x"), True),
        (("x", "xy", "a/x"), False),
    ],
)
def test_names_that_cannot_lie_together(names: tuple[str, ...], clash: bool) -> None:
    assert bool(clash_of(names)) is clash
