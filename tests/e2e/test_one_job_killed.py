"""`pilot run --job` killed with -9 and begun again with the same words: the job is done once, its output is there."""

from pathlib import Path

import pytest

from tests.e2e.piloted import Rig

POINTS = [
    "queue.create.before", "queue.create.after", "queue.new.after", "queue.add.before", "queue.add.after",
    "journal.begin.before", "queue.claim.before", "queue.claim.after", "launcher.start.before", "launcher.start.after",
    "order.start.after", "part.publish.before", "part.publish.after", "order.store.after", "order.report.before",
]  # fmt: skip


def killed(rig: Rig, job: Path, point: str) -> int:
    """As `rig.one` begins it."""
    places = ("--output", rig.root / "out" / "once", "--state", rig.root / "state" / "once", "--runtime", "bare")
    return rig.pilot("run", "--job", job, *places, PILOT_FAILPOINT=f"{point}:kill").code


@pytest.mark.drill
@pytest.mark.parametrize("point", POINTS)
def test_one_job_that_is_begun_again_is_finished(rig: Rig, point: str) -> None:
    script = f'echo start >>"{rig.root}/starts"; sleep 0.1; echo good >out.txt'
    job = rig.job("once", "sh", "-c", script, outputs=[{"name": "out.txt"}], id="my-own-id")
    assert killed(rig, job, point) == -9
    again = rig.one(job)
    assert again.code == 0, again.err
    assert (again.report["verdict"], again.report["attempt"]) == ("succeeded", 1)
    assert (again.output / "out.txt").read_text() == "good\n"
    assert (rig.root / "starts").read_text() == "start\n"


@pytest.mark.drill
@pytest.mark.parametrize("point", ["queue.report.after", "order.sweep.before", "order.sweep.after"])
def test_one_job_that_was_done_before_the_kill_is_not_done_again(rig: Rig, point: str) -> None:
    script = f'echo start >>"{rig.root}/starts"; echo good >out.txt'
    job = rig.job("once", "sh", "-c", script, outputs=[{"name": "out.txt"}])
    assert killed(rig, job, point) == -9
    again = rig.one(job)
    assert (again.code, again.report["verdict"], len(again.lines)) == (0, "succeeded", 2), again.err
    assert (again.output / "out.txt").read_text() == "good\n"
    assert (rig.root / "starts").read_text() == "start\n"
