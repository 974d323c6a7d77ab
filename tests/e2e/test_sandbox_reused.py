"""Job after job in sandboxes of those before: each finds its own as new, also after a kill -9 between two."""

import pytest

from tests.e2e.piloted import Rig

JOBS = 6
SEEN = 'ls -A "$HOME" "$TMPDIR" control checkpoint >seen.txt; ls -A >>seen.txt; touch "$HOME/mine" "$TMPDIR/mine" mine'


def jobs(rig: Rig) -> None:
    output = [{"name": "seen.txt"}]
    rig.queue(*[rig.job(f"j{number}", "sh", "-c", SEEN, outputs=output) for number in range(JOBS)])


def check(rig: Rig) -> None:
    """Every job succeeded once, and saw nothing of the others."""
    reports = [each for each in rig.reports(rig.root / "queue.db") if each["verdict"] == "succeeded"]
    assert sorted(each["name"] for each in reports) == [f"j{number}" for number in range(JOBS)]
    seen = [each.read_text() for each in (rig.root / "out").glob("*/*/seen.txt")]
    assert len(seen) == JOBS
    assert [each for each in seen if "mine" in each or "seen.txt" not in each] == []
    assert rig.left() == []
    assert not (rig.root / "state/queue/scratch/spare").exists()


def test_no_job_sees_anything_of_another(rig: Rig) -> None:
    jobs(rig)
    ended = rig.serve()
    assert ended.code == 0, ended.err
    check(rig)


@pytest.mark.drill
@pytest.mark.parametrize("point", ["staging.reuse.before", "staging.reuse.after", "staging.spare.after"])
def test_a_pilot_killed_between_two_jobs_leaves_no_sandbox(rig: Rig, point: str) -> None:
    jobs(rig)
    assert rig.serve(PILOT_FAILPOINT=f"{point}:kill").code == -9
    ended = rig.serve()
    assert ended.code == 0, ended.err
    check(rig)
