"""Jobs of `phpo` on a real PanDA server: its event ranges, the points of iDDS, and one pilot that settles both."""

import json
from collections.abc import Iterator

import pytest

from tests.beds.panda import PandaBed, panda_bed
from tests.beds.panda_jobs import PandaJob
from tests.e2e.on_panda import TRF, OnPanda
from tests.e2e.piloted import Rig

pytestmark = pytest.mark.panda

TASK = 8017
READY, FINISHED = 0, 3
EVALUATE = 'lr=$(cat input.json); echo "{\\"status\\": 0, \\"loss\\": 0.25, \\"seen\\": $lr}" >output.json\n'


@pytest.fixture(scope="module")
def bed() -> Iterator[PandaBed]:
    with panda_bed() as made:
        yield made


@pytest.fixture
def panda(rig: Rig, bed: PandaBed) -> OnPanda:
    return OnPanda(rig, bed)


def points(panda: OnPanda, **losses: float | None) -> None:
    """The task's points by number, each with an event range that is ready; those with a loss are evaluated already."""
    found = {f"{TASK}/{name[1:]}": {"loss": loss, "parameters": {"lr": 0.1}} for name, loss in losses.items()}
    (panda.bed.home / "cache" / "points.json").write_text(json.dumps(found))
    panda.bed.execute("DELETE FROM DOMA_PANDA.JEDI_Events")
    for name in losses:
        row = {
            "jediTaskID": TASK,
            "datasetID": 1,
            "PandaID": 0,
            "fileID": int(name[1:]),
            "attemptNr": 5,
            "status": READY,
        }
        more = {"job_processID": int(name[1:]), "def_min_eventID": 0, "def_max_eventID": 0, "event_offset": 0}
        panda.bed.insert("JEDI_Events", {**row, **more})


def finish(panda: OnPanda, evaluate: str) -> tuple[int, str]:
    """One job of the task on one pilot. JEDI, which owns such jobs, is not in the bed: its name stands in the row."""
    sandbox = panda.sandbox("jobO.1b2c.tar.gz", {"evaluate.sh": evaluate})
    words = f'-o output.json -j "" --inSampleFile input.json {sandbox} -p "sh%20evaluate.sh" '
    return settled(panda, PandaJob(f"{TRF}/runHPO-00-00-01", words, more={"jediTaskID": TASK}))


def settled(panda: OnPanda, job: PandaJob, **more: object) -> tuple[int, str]:
    number = panda.bed.submit(job)
    panda.bed.own(number)
    ended = panda.run("--max-jobs", "1", **more)
    assert ended.code == 0, ended.err
    panda.bed.own(number, by="")
    return number, panda.bed.run_adder(number)


def losses(panda: OnPanda) -> dict[str, float | None]:
    found = json.loads((panda.bed.home / "cache" / "points.json").read_text())
    return {name: each["loss"] for name, each in found.items()}


def ranges(panda: OnPanda) -> dict[int, int]:
    return {each["job_processid"]: each["status"] for each in panda.bed.rows("JEDI_Events")}


def test_a_point_is_evaluated_and_its_loss_brought(panda: OnPanda) -> None:
    points(panda, p11=0.7, p12=None)
    number, state = finish(panda, EVALUATE)
    assert state == "finished", panda.bed.job(number)["piloterrordiag"]
    assert losses(panda) == {"8017/11": 0.7, "8017/12": 0.25}
    assert ranges(panda) == {11: FINISHED, 12: FINISHED}


def test_without_a_point_the_job_has_nothing_to_do(panda: OnPanda) -> None:
    points(panda)
    number, state = finish(panda, "exit 9\n")
    assert state == "finished", panda.bed.job(number)["piloterrordiag"]


def test_an_evaluation_that_fails_settles_nothing(panda: OnPanda) -> None:
    points(panda, p12=None)
    number, state = finish(panda, "exit 9\n")
    assert (state, panda.bed.job(number)["transexitcode"]) == ("failed", "9")
    assert losses(panda) == {"8017/12": None}


EVALUATED = """import json, sys
assert sys.argv[1] == "--lr-from", sys.argv
lr = json.load(open(sys.argv[2]))["lr"]
json.dump({"status": 0, "loss": 10 * lr}, open("output.json", "w"))
"""


@pytest.mark.apptainer
def test_the_recorded_definition_is_finished_in_apptainer(panda: OnPanda) -> None:
    points(panda, p12=None)
    job = panda.recorded("runhpo", {"evaluate.py": EVALUATED}, b"")
    number, state = settled(panda, job, runtime="apptainer")
    assert state == "finished", panda.bed.job(number)["piloterrordiag"]
    assert losses(panda) == {"8017/12": 1.0}
    assert ranges(panda) == {12: FINISHED}
