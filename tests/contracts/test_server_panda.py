"""The contract of queues on a real PanDA server: every promise that `LOSSES` does not name is kept there too."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from pilot.model.capability import Accelerator, Capabilities, LimitedBy, View
from pilot.model.faults import Code
from pilot.model.job import Verdict
from pilot.ports import Beat, Unclaim
from tests.beds.panda import PandaBed, panda_bed
from tests.contracts import test_server as contract
from tests.contracts.panda_losses import LOSSES
from tests.contracts.plain_panda import PandaContractBed
from tests.contracts.server_beds import GIB, LEASE, ask, job, offer
from tests.contracts.test_server import adopted, beat, claim_one, report

pytestmark = pytest.mark.panda

LOST = {name for loss in LOSSES.values() for name in loss.tests}
PROMISES = {name: each for name, each in vars(contract).items() if name.startswith("test_")}
# Collected here, they take the bed of this file.
globals().update({name: each for name, each in PROMISES.items() if name not in LOST})


@pytest.fixture(scope="module")
def panda() -> Iterator[PandaBed]:
    with panda_bed() as made:
        yield made
        assert made.mistakes() == []


@pytest.fixture
def bed(panda: PandaBed) -> Iterator[PandaContractBed]:
    made = PandaContractBed(panda)
    yield made
    made.close()


def test_what_is_lost_is_part_of_the_contract() -> None:
    assert not LOST - set(PROMISES)
    named = [name for loss in LOSSES.values() for name in loss.tests]
    assert len(named) == len(set(named))


# --- what is left of a promise that PanDA keeps in part ---


def test_an_attempt_is_ours_as_long_as_the_server_waits_for_it(bed: PandaContractBed) -> None:
    bed.user().add([job("a")])
    pilot = bed.pilot()
    grant = claim_one(pilot, "c1")
    (reply,) = pilot.renew(beat(grant))
    assert (reply.ours, reply.lease_seconds, reply.command) == (True, LEASE, "")
    assert adopted(bed.pilot(), grant)
    (unknown,) = pilot.adopt("p1", [Beat("999999", 1, "parked")])
    (foreign,) = pilot.adopt("p1", [Beat(grant.job_id, 7, "parked")])
    assert (unknown.ours, foreign.ours) == (False, False)
    assert list(bed.pilot().claim(ask("c2"))) == [None]


def test_a_report_said_again_is_acknowledged_again(bed: PandaContractBed) -> None:
    bed.user().add([job("a")])
    pilot = bed.pilot()
    failed = report(claim_one(pilot, "c1"), Verdict.FAILED, Code.PAYLOAD_EXIT)
    assert list(pilot.report([failed])) == [True]
    assert list(pilot.report([failed, failed])) == [True, True]
    assert bed.user().show("a").job.verdict == "failed"
    assert list(pilot.report([failed])) == [True]


def test_a_job_given_back_has_failed_there_and_is_not_given_out(bed: PandaContractBed) -> None:
    bed.user().add([job("a")])
    pilot = bed.pilot()
    grant = claim_one(pilot, "c1")
    pilot.give_back([Unclaim("c1", grant.job_id, grant.attempt, grant.receipt)])
    assert list(pilot.claim(ask("c2"))) == [None]
    assert bed.user().show("a").job.verdict == "failed"


def test_a_good_end_under_a_kill_is_taken_and_counts_as_cancelled(bed: PandaContractBed) -> None:
    bed.user().add([job("a")])
    pilot = bed.pilot()
    grant = claim_one(pilot, "c1")
    bed.user().cancel(["a"])
    assert list(pilot.report([report(grant)])) == [True]
    assert list(pilot.claim(ask("c2"))) == [None]


# The fake answers them too.
IN_PART = (
    test_an_attempt_is_ours_as_long_as_the_server_waits_for_it,
    test_a_report_said_again_is_acknowledged_again,
    test_a_job_given_back_has_failed_there_and_is_not_given_out,
    test_a_good_end_under_a_kill_is_taken_and_counts_as_cancelled,
)

# --- what monitors are told ---

A100 = Accelerator("GPU-1", "nvidia", "NVIDIA A100-SXM4-40GB", 40960 << 20, "8.0")
VIEW = View(64, 512 * GIB, 2000 * GIB, "x86_64", "x86_64-v3")
NODE = Capabilities("node", VIEW, VIEW, LimitedBy("node", "node", "node"), cpu_model="AMD EPYC 7351 16-Core Processor")
T4 = Accelerator("GPU-3", "nvidia", "Tesla T4", 15360 << 20, "7.5")


def test_devices_are_rows_that_join_their_node(bed: PandaContractBed, panda: PandaBed) -> None:
    devices = (A100, replace(A100, uuid="GPU-2"), T4, replace(T4, uuid="GPU-4", health="lost"))
    bed.pilot(NODE).register(offer(devices=devices))
    rows = panda.rows("mv_worker_node_gpu_summary")
    counts = {(each["panda_queue"], each["model"]): each["gpus_per_host"] for each in rows}
    assert counts == {("BED", A100.model): 2, ("BED", T4.model): 1}
    (node,) = panda.rows("worker_node")
    assert {each["host_name"] for each in panda.rows("worker_node_gpus")} == {node["host_name"]}
