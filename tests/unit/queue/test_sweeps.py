"""Sweeps: one description, many jobs, all or none."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import cast

import pytest

from pilot.model.faults import Code
from pilot.model.files import CodePack, Output
from pilot.model.job import JobSpec, Verdict
from pilot.model.queue import JobState, Submission
from pilot.model.report import Report
from pilot.ports import Final, Server
from tests.contracts.server_beds import BEDS, LocalBed, ask, job

TEMPLATE = Submission(
    JobSpec("toy", ("python3", "toys.py", "--seed", "{seed}"), "ml-base", outputs=(Output("toys-{seed}.root"),))
)


def seeds(jobs: int) -> list[dict[str, str]]:
    return [{"seed": str(each)} for each in range(jobs)]


def names(bed: LocalBed, state: JobState = JobState.WAITING) -> list[str]:
    return [each.name for each in bed.user().find([state])]


def claimed(pilot: Server, jobs: int) -> list[JobSpec]:
    grants = pilot.claim(ask(*(f"c{each}" for each in range(jobs))))
    return [each.spec for each in grants if each is not None]


@pytest.fixture(params=BEDS)
def reached(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[LocalBed]:
    """The same over the wire."""
    made = BEDS[request.param](tmp_path)
    yield made
    made.close()


def test_sweeps_are_taken_however_the_queue_is_reached(reached: LocalBed) -> None:
    user = reached.user()
    sweep = user.add_sweep(TEMPLATE, iter(seeds(5)))
    rows = user.find()
    assert (sweep.name, sweep.jobs, sweep.first, sweep.last) == ("toy", 5, rows[0].job_id, rows[-1].job_id)
    assert [each.command[-1] for each in claimed(reached.pilot(), 5)] == list("01234")
    with pytest.raises(Final, match="job 2 of the sweep"):
        user.add_sweep(TEMPLATE, [{"seed": "1"}, {"other": "1"}])
    with pytest.raises(Final, match="job 2 of the sweep"):
        user.add_sweep(TEMPLATE, [{"seed": "1"}, {"seed": "/"}])
    with pytest.raises(Final, match="a sweep without jobs"):
        user.add_sweep(TEMPLATE, [])
    assert len(user.find()) == 5


def test_each_job_gets_its_values_in_order(bed: LocalBed) -> None:
    sweep = bed.user("ada").add_sweep(TEMPLATE, seeds(5))
    rows = bed.user().find()
    assert (sweep.name, sweep.jobs, sweep.first, sweep.last) == ("toy", 5, rows[0].job_id, rows[-1].job_id)
    assert [(each.name, each.owner) for each in rows] == [(f"toy-{number}", "ada") for number in range(1, 6)]
    assert sorted(each.job_id for each in rows) == [each.job_id for each in rows]
    specs = claimed(bed.pilot(), 6)
    assert [each.command[-1] for each in specs] == list("01234")
    assert [each.outputs[0].name for each in specs] == [f"toys-{each}.root" for each in range(5)]
    shown = bed.user().show("toy-3").spec
    assert (shown, shown.name) == (specs[2], "toy-3")


def test_a_name_with_a_placeholder_needs_no_number(bed: LocalBed) -> None:
    bed.user().add_sweep(Submission(JobSpec("toy-{seed}", ("x", "{seed}"), "i")), seeds(2))
    assert names(bed) == ["toy-0", "toy-1"]


def test_all_of_a_sweep_is_one_template_and_one_shape(bed: LocalBed) -> None:
    bed.user().add_sweep(TEMPLATE, seeds(50))
    bed.user().add_sweep(TEMPLATE, seeds(50))
    with bed.store().reading() as db:
        for table in ("template", "shape", "lane"):
            assert db.execute(f"SELECT count(*) FROM {table}").fetchone()[0] == 1


def test_a_sweep_may_be_longer_than_memory(bed: LocalBed) -> None:
    """Values are taken one by one, as they come."""
    ahead = 0

    def values() -> Iterator[Mapping[str, str]]:
        nonlocal ahead
        for each in range(3000):
            ahead = each
            yield {"seed": str(each)}

    assert bed.user().add_sweep(TEMPLATE, values()).jobs == 3000
    assert ahead == 2999


@pytest.mark.parametrize(
    ("template", "values", "why"),
    [
        (TEMPLATE, [], "toy: a sweep without jobs"),
        (TEMPLATE, [{}], "without parameters"),
        (TEMPLATE, [{"sed": "1"}], "parameter 'sed': the job does not use it; write {sed} where"),
        (
            TEMPLATE,
            [{"seed": "1"}, {"seed": "1", "lr": "2"}],
            "job 2 of the sweep: the first job has no parameter 'lr'",
        ),
        (TEMPLATE, [{"seed": "1"}, {}], "job 2 of the sweep: parameter seed is missing"),
        (TEMPLATE, [*seeds(5), {"seed": "../x"}], "job 6 of the sweep: parameter seed: '../x' stands in a name"),
        (TEMPLATE, [{"seed": cast("str", 7)}], "job 1 of the sweep: parameter seed: 7 is no text"),
        (Submission(JobSpec("a", ("{x}",), "i")), [{"x": "a\0b"}], "printable text only"),
        (Submission(JobSpec("a" * 127, ("{x}",), "i")), [{"x": "1"}], "is longer than 128"),
        (Submission(TEMPLATE.spec, "mine"), seeds(1), "ids of their own; leave out `id`"),
        (Submission(JobSpec("a", ("{seed}",), "i", after=("nobody",))), seeds(1), "after: no job 'nobody'"),
        (Submission(JobSpec("a", ("{seed}",), "i", requirements="time() > 1")), seeds(1), "may not be called"),
        (Submission(JobSpec("a", ("{seed}",), "i", code=CodePack("0" * 64, 3)), code=b"abc"), seeds(1), "digest names"),
    ],
)
def test_one_wrong_job_and_none_is_taken(
    bed: LocalBed, template: Submission, values: list[dict[str, str]], why: str
) -> None:
    with pytest.raises(Final) as refused:
        bed.user().add_sweep(template, values)
    assert why in refused.value.fault.detail
    assert "\n" not in refused.value.fault.detail
    assert refused.value.fault.code is Code.JOB_INVALID
    assert list(bed.user().find()) == []


def test_a_file_that_breaks_off_adds_nothing(bed: LocalBed, tmp_path: Path) -> None:
    from pilot.config.problems import JobProblems
    from pilot.config.sweepfile import read_values

    (tmp_path / "v.csv").write_text("seed\n1\n2\n3,4\n")
    with pytest.raises(JobProblems, match=":4:1: 2 values for 1 parameters"):
        bed.user().add_sweep(TEMPLATE, (each for _, each in read_values(tmp_path / "v.csv")))
    assert list(bed.user().find()) == []


def test_every_job_of_a_sweep_waits_for_what_it_comes_after(bed: LocalBed) -> None:
    user, pilot = bed.user(), bed.pilot()
    (first,) = user.add([job("prepare")])
    after = Submission(JobSpec("toy", ("x", "{seed}"), "i", after=(first.job_id,)))
    user.add_sweep(after, seeds(3))
    assert [each.name for each in claimed(pilot, 4)] == ["prepare"]
    assert user.show("toy-2").waits_for == (first.job_id,)
    pilot.report([Report(first.job_id, 1, "prepare", Verdict.SUCCEEDED, "", "")])
    (grant, *_) = pilot.claim(ask("d1"))
    assert grant is not None
    assert (grant.spec.name, grant.spec.command, grant.spec.after) == ("toy-1", ("x", "0"), (first.job_id,))


def test_a_sweep_after_what_has_failed_fails(bed: LocalBed) -> None:
    user = bed.user()
    (first,) = user.add([job("prepare")])
    user.cancel([first.job_id])
    user.add_sweep(Submission(JobSpec("toy", ("x", "{seed}"), "i", after=(first.job_id,))), seeds(3))
    assert {each.verdict for each in user.find() if each.name.startswith("toy")} == {"failed"}


def test_braces_that_are_no_placeholder_stay(bed: LocalBed) -> None:
    code = "print({}, {'a': 1}, {seed}, {other})"
    bed.user().add_sweep(Submission(JobSpec("a", ("python3", "-c", code), "i")), [{"seed": "{other}"}])
    (spec,) = claimed(bed.pilot(), 1)
    assert spec.command[-1] == "print({}, {'a': 1}, {other}, {other})"
