"""A plain PanDA server as the pilot's queue: the adapter over a fake that was made from captured exchanges."""

from dataclasses import replace

import pytest

from pilot.adapters.server_panda import PandaServer
from pilot.model.capability import Accelerator, Capabilities, LimitedBy, Offer, View
from pilot.model.faults import Code, fault
from pilot.model.files import CodePack, FileRecord
from pilot.model.job import GpuNeeds, Grant, Verdict
from pilot.model.report import Report
from pilot.ports import Beat, ClaimRequest, Final, Passing, Unclaim
from pilot.wire.envelope import Reply
from pilot.wire.queuedata import QueueData
from pilot.wire.site import Limits
from tests.fakes.panda import Panda
from tests.unit.wire.recorded import SITE, definition

OFFER = Offer("p", "wn1.test.local", 8, 16 << 30, 40 << 30)
LOST = Passing(Code.SERVER_UNREACHABLE, "cut")


@pytest.fixture
def panda() -> Panda:
    return Panda()


def server(panda: Panda, **site: object) -> PandaServer:
    return PandaServer(panda, replace(SITE, **site))  # type: ignore[arg-type]


def claims(*ids: str, offer: Offer = OFFER) -> list[ClaimRequest]:
    return [ClaimRequest(each, offer) for each in ids]


def claim_one(panda: Panda, name: str = "echo", **changes: object) -> Grant:
    panda.add(definition(name, **changes))
    (grant,) = server(panda).claim(claims("c"))
    assert grant is not None
    return grant


def beat(grant: Grant, phase: str = "running") -> Beat:
    return Beat(grant.job_id, grant.attempt, phase, receipt=grant.receipt)


def report(grant: Grant, verdict: Verdict = Verdict.SUCCEEDED, **more: object) -> Report:
    because = None if verdict is Verdict.SUCCEEDED else fault(Code.PAYLOAD_EXIT)
    archive = FileRecord("l", "file:///l", 1, "00000001", "0" * 64)
    return Report(
        grant.job_id,
        grant.attempt,
        grant.spec.name,
        verdict,
        "2026-11-20T17:00:00.000Z",
        "2026-11-20T17:01:00.000Z",
        fault=because,
        archive=archive,
        receipt=grant.receipt,
        **more,  # type: ignore[arg-type]
    )


# --- registering ---


def test_registering_tells_the_node_and_harvester(panda: Panda) -> None:
    view = View(64, 1 << 39, 10**12, "x86_64", "x86_64-v3")
    node = Capabilities("wn1", view, view, LimitedBy("node", "node", "node"), cpu_model="AMD")
    gpu = Accelerator("GPU-1", "nvidia", "H100", 80 << 30, "9.0")
    site = replace(SITE, harvester="H", worker=42)
    one = PandaServer(panda, site, QueueData("TEST_CE", "TEST_QUEUE", "S", "test", timefloor_seconds=3600), node)
    found = one.register(replace(OFFER, devices=(gpu,)))
    assert panda.verbs() == [
        "is_alive",
        "get_resource_types",
        "update_worker_node",
        "update_worker_node_gpu",
        "update_worker_status",
    ]
    assert panda.seen[-1][1] == {
        "harvester_id": "H", "worker_id": 42, "node_id": "wn1.test.local", "status": "started"
    }  # fmt: skip
    assert (found.lease_seconds, found.poll_seconds, found.poll_cap_seconds) == (7200.0, 2.0, 60.0)
    assert (found.queue_state, found.timefloor_seconds) == ("test", 3600.0)
    one.close()
    assert panda.seen[-1][1]["status"] == "finished"
    assert panda.closed == 1


def test_without_harvester_no_worker_is_told(panda: Panda) -> None:
    one = server(panda)
    one.register(OFFER)
    one.close()
    assert panda.verbs() == ["is_alive", "get_resource_types"]


def test_monitors_that_fail_hold_up_nobody(panda: Panda) -> None:
    panda.broken = [(LOST, False)] * 3
    with pytest.raises(Passing):
        server(panda).register(OFFER)
    one = server(panda, harvester="H", worker=1)
    panda.broken = []
    panda.instead["update_worker_status"] = [Reply(False, "Failed to update worker status")]
    assert one.register(OFFER).queue_state == "online"
    panda.broken = [(LOST, False)]
    one.close()


# --- claiming ---


def test_an_empty_queue(panda: Panda) -> None:
    assert list(server(panda).claim(claims("a", "b"))) == [None, None]
    assert list(server(panda).claim([])) == []
    assert panda.verbs() == ["acquire_jobs"]
    assert server(panda).changed(5.0)


def test_one_request_for_all_that_are_wanted(panda: Panda) -> None:
    panda.add(definition("echo"))
    panda.add(definition("echo", PandaID=2, jobName="second"))
    grants = server(panda).claim(claims("a", "b", "c"))
    assert [each and each.job_id for each in grants] == ["1", "2", None]
    assert panda.verbs() == ["acquire_jobs"]
    assert panda.seen[0][1]["n_jobs"] == 3
    assert [each.status for each in panda.rows.values()] == ["sent", "sent"], (
        "nothing is said before the journal has it"
    )


def test_one_claim_asked_twice_in_a_call_is_one_claim(panda: Panda) -> None:
    panda.add(definition("echo"))
    panda.add(definition("echo", PandaID=2))
    grants = server(panda).claim(claims("a", "a"))
    assert [each and each.job_id for each in grants] == ["1", "1"]
    assert panda.rows[2].status == "activated"


def test_each_offer_asks_for_itself(panda: Panda) -> None:
    panda.add(definition("echo"))
    small = replace(OFFER, cpus=1)
    grants = server(panda).claim([*claims("a"), *claims("b", offer=small)])
    assert [each is not None for each in grants] == [True, False]
    assert panda.verbs().count("acquire_jobs") == 2


KINDS = [
    {"resource_name": "SCORE", "mincore": 1, "maxcore": 1, "minrampercore": None, "maxrampercore": 2000},
    {"resource_name": "MCORE", "mincore": 2, "maxcore": None, "minrampercore": None, "maxrampercore": 2000},
    {"resource_name": "SCORE_HIMEM", "mincore": 1, "maxcore": 1, "minrampercore": 2001, "maxrampercore": None},
]


def test_a_slot_that_cannot_take_every_size_asks_for_those_it_can(panda: Panda) -> None:
    panda.kinds = list(KINDS)
    panda.add(definition("echo", resource_type="MCORE"))
    panda.add(definition("echo", PandaID=2, resource_type="SCORE_HIMEM"))
    one = PandaServer(panda, SITE, QueueData("q", "r", "s", cores=8))
    one.register(OFFER)
    narrow = replace(OFFER, cpus=4)
    assert [each and each.job_id for each in one.claim(claims("a", "b", offer=narrow))] == ["2", None]
    assert [each and each.job_id for each in one.claim(claims("c"))] == ["1"]
    asked = [arguments.get("resource_type") for verb, arguments in panda.seen if verb == "acquire_jobs"]
    assert asked == ["SCORE", "SCORE_HIMEM", None]


def test_a_site_that_names_its_resource_type_asks_for_no_other(panda: Panda) -> None:
    one = server(panda, resource_type="MCORE")
    one.register(OFFER)
    one.claim(claims("a"))
    assert "get_resource_types" not in panda.verbs()
    assert panda.seen[-1][1]["resource_type"] == "MCORE"


def test_a_word_about_starting_that_is_lost_costs_nothing(panda: Panda) -> None:
    panda.add(definition("echo"))
    panda.instead["update_job"] = [Reply(True, "Database error", {"StatusCode": 30})]
    (grant,) = server(panda).claim(claims("a"))
    assert grant is not None
    assert panda.rows[1].status == "sent"


def test_a_server_that_takes_no_hardware_is_not_told_again(panda: Panda) -> None:
    panda.takes_hardware = False
    panda.add(definition("echo"))
    one = server(panda)
    assert one.claim(claims("a"))[0] is not None
    assert one.claim(claims("b")) == [None]
    asked = ["target_architecture" in arguments for verb, arguments in panda.seen if verb == "acquire_jobs"]
    assert asked == [True, False, False]


def test_a_queue_that_forbids_it_is_not_told_of_hardware(panda: Panda) -> None:
    PandaServer(panda, SITE, QueueData("q", "r", "s", hardware=False)).claim(claims("a"))
    assert "target_architecture" not in panda.seen[0][1]


def test_what_cannot_be_translated_is_refused_with_the_reason(panda: Panda) -> None:
    grant = claim_one(panda, "buildgen")
    assert grant.refusal is not None
    assert "buildGen-00-00-01" in grant.refusal.detail
    declined = replace(report(grant, Verdict.DECLINED), fault=grant.refusal, archive=None)
    assert list(server(panda).report([declined])) == [True]
    last = panda.rows[6005].updates[-1]
    assert (last["job_status"], last["pilot_error_code"]) == ("failed", 1311)
    assert "buildGen-00-00-01" in str(last["pilot_error_diag"])


def test_jobs_without_identity_and_jobs_told_twice_are_none(panda: Panda) -> None:
    one, other = definition("echo"), definition("echo", PandaID=None)
    panda.add(one)
    panda.instead["acquire_jobs"] = [Reply(True, "", {"StatusCode": 0, "jobs": [other, one, one]})]
    assert [each and each.job_id for each in server(panda).claim(claims("a", "b", "c"))] == ["1", None, None]


def test_more_than_was_asked_for_goes_back(panda: Panda) -> None:
    jobs = [definition("echo"), definition("echo", PandaID=2)]
    for each in jobs:
        panda.add(each).status = "sent"
    panda.instead["acquire_jobs"] = [Reply(True, "", {"StatusCode": 0, "jobs": jobs})]
    assert [each and each.job_id for each in server(panda).claim(claims("a"))] == ["1"]
    assert panda.rows[2].updates[-1]["pilot_error_code"] == 1379


@pytest.mark.parametrize(
    ("reply", "leaf", "code"),
    [
        (Reply(False, "Timed out"), Passing, Code.SERVER_UNREACHABLE),
        (Reply(False, "no production/pilot role in VOMS FQANs or non pilot owner"), Passing, Code.CREDENTIAL_REFUSED),
        (Reply(False, "SSL secure connection is required"), Passing, Code.CREDENTIAL_REFUSED),
        (Reply(False, "Type error: 'node' must be of type str, got int."), Final, Code.SERVER_REFUSED),
        (Reply(True, "", {"StatusCode": 0, "jobs": 7}), Passing, Code.SERVER_UNREACHABLE),
        (Reply(True, "", [7]), Passing, Code.SERVER_UNREACHABLE),
    ],
)
def test_failures_are_told_from_no_jobs(panda: Panda, reply: Reply, leaf: type[Exception], code: Code) -> None:
    panda.instead["acquire_jobs"] = [reply]
    with pytest.raises(leaf) as caught:
        server(panda).claim(claims("a"))
    assert caught.value.fault.code is code  # type: ignore[attr-defined]
    assert "https://panda.test:25443/api/v1/pilot/acquire_jobs" in caught.value.fault.detail  # type: ignore[attr-defined]


# --- heartbeats ---


def test_a_heartbeat_renews(panda: Panda) -> None:
    grant = claim_one(panda)
    (reply,) = server(panda).renew([beat(grant)])
    assert (reply.job_id, reply.attempt, reply.ours, reply.lease_seconds) == ("1", 0, True, 7200.0)
    assert (reply.command, reply.question, panda.rows[1].status) == ("", "", "running")


def test_several_go_in_bulk(panda: Panda) -> None:
    first, second = claim_one(panda), claim_one(panda, PandaID=2)
    panda.rows[2].command = "softkill"
    replies = server(panda).renew([beat(first), beat(second)])
    assert [(each.job_id, each.command) for each in replies] == [("1", ""), ("2", "stop")]
    assert panda.verbs()[-1] == "update_jobs_bulk"


def test_one_that_the_server_stumbles_over_stops_no_other(panda: Panda) -> None:
    first, second = claim_one(panda), claim_one(panda, PandaID=2)
    panda.instead["update_jobs_bulk"] = [Reply(False, "failed with KeyError 'x'", [])]
    assert [each.ours for each in server(panda).renew([beat(first), beat(second)])] == [True, True]
    assert panda.verbs()[-2:] == ["update_job", "update_job"]


def test_commands_and_questions(panda: Panda) -> None:
    grant = claim_one(panda)
    panda.rows[1].command = "debug,tail -n 5 stdout"
    (reply,) = server(panda).renew([beat(grant)])
    assert (reply.ours, reply.command, reply.question) == (True, "", "tail stdout 5")
    server(panda).renew([replace(beat(grant), answer="the end")])
    assert panda.rows[1].updates[-1]["stdout"] == "the end"


def test_a_kill_is_a_command_where_the_job_is_ours(panda: Panda) -> None:
    grant = claim_one(panda)
    panda.rows[1].command = "tobekilled"
    (reply,) = server(panda).renew([beat(grant)])
    assert (reply.ours, reply.command) == (True, "cancel")
    assert panda.verbs()[-1] == "get_job_status"


@pytest.mark.parametrize("what", ["unknown", "another attempt", "over"])
def test_the_same_word_means_fenced_where_it_is_not(panda: Panda, what: str) -> None:
    grant = claim_one(panda)
    if what == "unknown":
        del panda.rows[1]
    elif what == "another attempt":
        panda.rows[1].attempt = 1
    else:
        panda.rows[1].status = "cancelled"
    (reply,) = server(panda).renew([beat(grant)])
    assert not reply.ours


def test_attempts_of_another_queue_are_not_ours_and_not_asked_about(panda: Panda) -> None:
    foreign = Beat("j-7", 1, "running")
    assert [each.ours for each in server(panda).renew([foreign])] == [False]
    assert [each.ours for each in server(panda).adopt("p", [foreign])] == [False]
    assert list(server(panda).report([replace(report(claim_one(panda)), job_id="j-7")])) == [False]
    assert "update_jobs_bulk" not in panda.verbs()


def test_a_database_in_trouble_is_asked_again(panda: Panda) -> None:
    grant = claim_one(panda)
    panda.instead["update_job"] = [Reply(True, "Database error", {"StatusCode": 30})]
    with pytest.raises(Passing, match="Database error"):
        server(panda).renew([beat(grant)])


# --- reports ---


def test_a_report_is_recorded_once(panda: Panda) -> None:
    grant = claim_one(panda)
    for _ in range(3):
        assert list(server(panda).report([report(grant)])) == [True]
    final = [each for each in panda.rows[1].updates if each["job_status"] == "finished"]
    assert len(final) == 1
    assert (final[0]["attempt_nr"], final[0]["batch_id"]) == (0, "77")


def test_a_reply_that_is_lost_is_asked_for_again(panda: Panda) -> None:
    grant = claim_one(panda)
    panda.broken = [(LOST, True)]
    with pytest.raises(Passing):
        server(panda).report([report(grant)])
    assert list(server(panda).report([report(grant)])) == [True]
    assert [each["job_status"] for each in panda.rows[1].updates] == ["finished"]


def test_a_report_under_a_pending_kill_is_recorded(panda: Panda) -> None:
    grant = claim_one(panda)
    panda.rows[1].command = "tobekilled"
    assert list(server(panda).report([report(grant, Verdict.CANCELLED)])) == [True]
    assert panda.rows[1].updates[-1]["pilot_error_code"] == 1144


def test_an_old_attempts_report_is_refused(panda: Panda) -> None:
    grant = claim_one(panda)
    panda.rows[1].attempt = 1
    assert list(server(panda).report([report(grant)])) == [False]
    del panda.rows[1]
    assert list(server(panda).report([report(grant)])) == [False]


def test_metadata_that_cannot_be_stored_holds_up_no_report(panda: Panda) -> None:
    panda.stores_metadata = False
    first, second = claim_one(panda), claim_one(panda, PandaID=2)
    assert list(server(panda).report([report(first)])) == [True]
    assert list(server(panda).report([report(first), report(second)])) == [True, True]
    assert "meta_data" not in panda.rows[1].updates[-1]


# --- giving back, adopting, the rest ---


def test_giving_back_fails_the_job_with_the_number_that_is_tried_again(panda: Panda) -> None:
    grant = claim_one(panda)
    server(panda).give_back([Unclaim("c", grant.job_id, grant.attempt, grant.receipt), Unclaim("never-answered")])
    last = panda.rows[1].updates[-1]
    assert (last["job_status"], last["pilot_error_code"]) == ("failed", 1379)


def test_adopting_compares_attempts(panda: Panda) -> None:
    first, second, third = claim_one(panda), claim_one(panda, PandaID=2), claim_one(panda, PandaID=3)
    panda.rows[2].attempt = 5
    panda.rows[3].status = "finished"
    unknown = Beat("99", 0, "running")
    replies = server(panda).adopt("p2", [beat(first), beat(second), beat(third), unknown])
    assert [each.ours for each in replies] == [True, False, False, False]
    assert replies[0].lease_seconds == 7200.0


def test_panda_keeps_no_code(panda: Panda) -> None:
    with pytest.raises(Final, match="keeps no code"):
        server(panda).code(CodePack("0" * 64, 1))


# --- points ---

EVENTS = ["8017-6003-0-11-5", "8017-6003-0-12-5"]


def test_a_point_is_drawn_for_the_job_and_settled_with_its_report(panda: Panda) -> None:
    panda.ranges = list(EVENTS)
    panda.points = {"11": {"loss": 0.7, "parameters": {}}, "12": {"loss": None, "parameters": {"lr": 0.1}}}
    grant = claim_one(panda, "runhpo")
    assert grant.refusal is None
    assert '{"lr": 0.1}' in grant.spec.command[2]
    settled = [arguments["event_range_id"] for verb, arguments in panda.seen if verb == "update_single_event_range"]
    assert settled == EVENTS[:1]  # evaluated already
    assert list(server(panda).report([report(grant, message="loss=0.25")])) == [True]
    assert panda.points["12"]["loss"] == 0.25
    assert panda.verbs()[-3:] == ["relay_idds_command", "update_single_event_range", "update_job"]
    assert panda.rows[6003].updates[-1]["job_status"] == "finished"


def test_without_points_the_job_does_nothing_and_ends_well(panda: Panda) -> None:
    grant = claim_one(panda, "runhpo")
    assert grant.spec.command == ("true",)
    assert list(server(panda).report([report(grant)])) == [True]
    assert "relay_idds_command" not in panda.verbs()


def test_a_point_that_cannot_be_drawn_refuses_the_job(panda: Panda) -> None:
    panda.instead["acquire_event_ranges"] = [Reply(False, "no such job")]
    grant = claim_one(panda, "runhpo")
    assert grant.refusal is not None
    assert "no point could be drawn" in grant.refusal.detail


@pytest.mark.parametrize("message", ["", "fine", "loss=nan"])
def test_a_job_that_left_no_loss_has_failed(panda: Panda, message: str) -> None:
    panda.ranges, panda.points = EVENTS[1:], {"12": {"loss": None, "parameters": {}}}
    grant = claim_one(panda, "runhpo")
    server(panda).report([report(grant, message=message)])
    assert panda.rows[6003].updates[-1]["job_status"] == "failed"


def test_a_loss_that_nobody_takes_fails_the_job_and_says_so(panda: Panda) -> None:
    panda.ranges, panda.points = EVENTS[1:], {"12": {"loss": None, "parameters": {}}}
    grant = claim_one(panda, "runhpo")
    panda.points.clear()
    server(panda).report([report(grant, message="loss=0.25")])
    assert "iDDS did not take the loss 0.25" in str(panda.rows[6003].updates[-1]["pilot_error_diag"])


# --- devices ---

A100 = Accelerator("GPU-1", "nvidia", "NVIDIA A100-SXM4-40GB", 40960 << 20, "8.0")
WISH = '{"gpu_spec": {"vendor": "nvidia", "model": ".*A100.*", "vram": ">=40000"}}'


def with_devices(panda: Panda, *devices: Accelerator, jobs: int = 1) -> list[Grant]:
    for number in range(jobs):
        panda.add(definition("echo", PandaID=77 + number, taskID=9, cmtConfig="x86_64-el9"))
    offered = replace(OFFER, devices=devices)
    return [each for each in server(panda).claim(claims(*"abcd"[:jobs], offer=offered)) if each is not None]


def test_a_job_gets_the_device_that_its_task_wishes(panda: Panda) -> None:
    panda.tasks[9] = WISH
    grants = with_devices(panda, A100, replace(A100, uuid="GPU-2"), jobs=2)
    assert [each.spec.needs[0].gpus for each in grants] == [GpuNeeds(1, 40000 << 20)] * 2
    assert panda.verbs().count("get_detailed_info") == 1  # jobs of one task come in numbers


def test_a_node_without_devices_asks_no_task(panda: Panda) -> None:
    panda.tasks[9] = ""
    (grant,) = with_devices(panda)
    assert grant.refusal is None
    assert "get_detailed_info" not in panda.verbs()


def test_a_model_is_no_promise_among_several_kinds(panda: Panda) -> None:
    panda.tasks[9] = WISH
    (grant,) = with_devices(panda, A100, replace(A100, uuid="GPU-2", model="Tesla T4"))
    assert grant.refusal is not None
    assert "model" in grant.refusal.detail


def test_a_task_that_is_not_known_wishes_nothing(panda: Panda) -> None:
    (grant,) = with_devices(panda, A100)
    assert (grant.refusal, grant.spec.needs[0].gpus) == (None, GpuNeeds())


def test_a_task_that_cannot_be_asked_costs_no_job(panda: Panda) -> None:
    panda.tasks[9] = WISH
    panda.broken = [(LOST, True)]
    panda.broken.insert(0, (None, True))  # type: ignore[arg-type]  # the claim itself goes through
    (grant,) = with_devices(panda, A100)
    assert grant.refusal is not None
    assert grant.refusal.code is Code.SERVER_UNREACHABLE
    assert "what its task asks of devices could not be asked" in grant.refusal.detail


def test_the_queues_maxtime_is_the_pilots_lifetime(panda: Panda) -> None:
    assert server(panda, limits=Limits(walltime_seconds=600)).register(OFFER).lifetime_seconds == 600.0
    assert server(panda).register(OFFER).lifetime_seconds == 0.0
