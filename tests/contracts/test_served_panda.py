"""PanDA's calls on a served queue: its manner, its words, and what of our jobs can be said in them."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pilot.adapters.server_panda import PandaServer
from pilot.model.files import FileRecord, Input, Output
from pilot.model.job import GpuNeeds, JobSpec, Needs, Verdict
from pilot.model.queue import Submission
from pilot.model.report import Report
from pilot.ports import Beat
from pilot.queue.service.call import Role
from pilot.wire.definition import read_definition
from pilot.wire.places import Endpoint
from pilot.wire.site import Site
from pilot.wire.transforms import program_of
from tests.beds.served import Raw, Served, new_queue
from tests.contracts.server_beds import HandClock, ask, job, offer

PILOT = "/api/v1/pilot/"


class Panda:
    """A client of PanDA's, by hand."""

    def __init__(self, served: Served) -> None:
        self.served = served
        self.raw = Raw(served, served.token(Role.PILOT, "panda").read_text().strip())
        self.user = served.user("anna")

    def ask(self, verb: str, **arguments: object) -> dict[str, object]:
        reply = self.raw.post(PILOT + verb, arguments)
        assert reply.status_code == 200
        assert reply.headers["content-type"].startswith("text/plain")
        return dict(reply.json())

    def acquire(self, **more: object) -> list[dict[str, object]]:
        found = self.ask("acquire_jobs", site_name="default", node="wn1", memory=4000, disk_space=10_000, **more)
        return found["data"]["jobs"] if found["success"] else []  # type: ignore[index]

    def command(self, **update: object) -> object:
        found = self.ask("update_job", **update)
        assert found["success"]
        return found["data"]["command"]  # type: ignore[index]

    def close(self) -> None:
        self.raw.close()
        self.user.close()


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def panda(folder: Path, clock: HandClock) -> Iterator[Panda]:
    served = Served(new_queue(folder), clock)
    made = Panda(served)
    yield made
    made.close()
    served.close()


def said(name: str = "a", **more: object) -> Submission:
    values = {"command": ("echo", "a b", "$HOME;"), "image": "docker://alpine:3", **more}
    return Submission(JobSpec(name=name, **values))  # type: ignore[arg-type]


def test_a_job_whose_claim_was_lost_is_free_after_half_an_hour(panda: Panda, clock: HandClock) -> None:
    """The client heard nothing of it, and will not say a word about it."""
    panda.user.add([said("a")])
    (lost,) = panda.acquire()
    clock.move(1799)
    assert panda.acquire() == []
    clock.move(2)
    (again,) = panda.acquire()
    assert (again["PandaID"], again["attemptNr"]) == (lost["PandaID"], 2)
    late = panda.command(job_id=lost["PandaID"], job_status="finished", attempt_nr=1)
    assert late == "tobekilled"  # nothing is accepted twice
    assert panda.command(job_id=lost["PandaID"], job_status="starting", attempt_nr=2) == "NULL"
    clock.move(10_799)
    assert panda.acquire() == []
    assert panda.command(job_id=lost["PandaID"], job_status="finished", attempt_nr=2) == "NULL"
    assert [each.attempt for each in panda.user.results("a")] == [2]


def test_arguments_are_strict_in_pandas_words(panda: Panda) -> None:
    wrong = {
        "Argument error: got an unexpected keyword argument 'foo'": {"site_name": "default", "foo": 1},
        "Argument error: missing a required argument: 'site_name'": {},
        "Type error: 'site_name' must be of type str, got int.": {"site_name": 1},
        "Type error: 'worker_id' must be of type int, got str.": {"site_name": "default", "worker_id": "1"},
        "Type error: 'n_jobs' must be of type int, got bool.": {"site_name": "default", "n_jobs": True},
    }
    for message, sent in wrong.items():
        assert panda.ask("acquire_jobs", **sent) == {"success": False, "message": message, "data": None}  # type: ignore[arg-type]


def test_no_job_is_told_as_panda_tells_it(panda: Panda) -> None:
    nothing = {"success": False, "message": "No jobs in PanDA", "data": None}
    assert panda.ask("acquire_jobs", site_name="default") == nothing
    assert panda.ask("acquire_jobs", site_name="nowhere") == nothing


def test_a_content_type_with_a_charset_is_not_read(panda: Panda) -> None:
    reply = panda.raw.post(
        PILOT + "acquire_jobs", {"site_name": "x"}, **{"Content-Type": "application/json; charset=utf-8"}
    )
    assert "missing a required argument" in reply.text


def test_who_may_not_is_told_as_panda_tells_it(panda: Panda) -> None:
    bare, submitter = Raw(panda.served), Raw(panda.served, panda.served.token(Role.SUBMITTER, "x").read_text().strip())
    false = Raw(panda.served, "abc")
    asked = {"site_name": "default"}
    assert bare.post(PILOT + "acquire_jobs", asked).json()["message"] == "SSL secure connection is required"
    assert submitter.post(PILOT + "acquire_jobs", asked).json()["message"] == "production or pilot role required"
    reply = false.post(PILOT + "acquire_jobs", asked)
    assert (reply.status_code, reply.text[:35]) == (403, "ERROR : Token authentication failed")
    for each in (bare, submitter, false):
        each.close()


def test_a_job_goes_out_and_its_translation_back_is_the_same(panda: Panda) -> None:
    """What our own reading of a definition makes of it is what the user meant."""
    needs = (Needs(1, 2 << 30, 5 << 30, 3600, GpuNeeds(1, 20 << 30, cuda=">=12.0")),)
    panda.user.add([said(needs=needs, environment=(("A", "1 2"),), outputs=(Output("o.txt", optional=True),))])
    gpu = {"vendor": "NVIDIA", "model": "H100", "architecture": "Hopper", "vram": 95830, "count": 1,
           "framework": "CUDA", "framework_version": "13.3"}  # fmt: skip
    assert panda.acquire(target_architecture={"gpus": []}) == []
    (found,) = panda.acquire(target_architecture={"gpus": [gpu]}, n_jobs=3)
    read = read_definition(found)
    program = program_of(read)
    assert program.image == "docker://alpine:3"
    assert program.command[-4:] == ("A=1 2", "echo", "a b", "$HOME;") or "'$HOME;'" in program.command[-1]
    assert (read.needs.cpus, read.needs.memory_bytes, read.needs.walltime_seconds) == (1, 2 << 30, 3600)
    assert (read.needs.gpus.count, read.needs.gpus.memory_bytes) == (1, 20 << 30)
    assert [(each.name, each.optional) for each in read.outputs] == [("o.txt", True)]
    assert read.log is not None
    assert (read.attempt, read.user, read.name) == (1, "anna", "a")


@pytest.mark.parametrize(
    ("part", "more"),
    [
        ("image", {"image": "ml-base"}),
        ("inputs", {"inputs": (Input("root://x/y", "y"),)}),
        ("outputs", {"outputs": (Output("*.root"),)}),
        ("validate", {"validate": ("true",)}),
    ],
)
def test_what_panda_cannot_say_is_not_given_and_explain_says_why(panda: Panda, part: str, more: object) -> None:
    panda.user.add([said(**more)])  # type: ignore[arg-type]
    assert panda.acquire() == []
    why = panda.user.explain("a")
    assert (why.clause, why.attribute, why.offered) == ("node requirements", "PandaCannotSay", part)
    assert panda.user.show("a").job.attempt == 0


def test_a_heartbeat_keeps_the_job_for_three_hours(panda: Panda, clock: HandClock) -> None:
    panda.user.add([said()])
    (found,) = panda.acquire()
    assert panda.command(job_id=found["PandaID"], job_status="starting", attempt_nr=1) == "NULL"
    for _ in range(3):
        clock.move(1800)
        assert panda.acquire() == []
        assert panda.command(job_id=found["PandaID"], job_status="running", attempt_nr=1, max_rss=1000) == "NULL"
    assert panda.user.show("a").phase == "running"
    clock.move(10_801)
    (again,) = panda.acquire()
    assert (again["PandaID"], again["attemptNr"]) == (found["PandaID"], 2)
    assert panda.command(job_id=found["PandaID"], job_status="running", attempt_nr=1) == "tobekilled"


def test_kills_reach_the_client(panda: Panda) -> None:
    panda.user.add([said()])
    (found,) = panda.acquire()
    panda.user.checkpoint(["a"])
    assert panda.command(job_id=found["PandaID"], job_status="running") == "softkill"
    panda.user.cancel(["a"])
    assert panda.command(job_id=found["PandaID"], job_status="running") == "tobekilled"
    assert panda.command(job_id=424242, job_status="running") == "tobekilled"
    bogus = panda.ask("update_job", job_id=found["PandaID"], job_status="bogus")
    assert bogus == {"success": False, "message": "Invalid job status: bogus", "data": {"StatusCode": 50}}


def finish(panda: Panda, files: dict[str, object], **more: object) -> None:
    (found,) = panda.acquire()
    told = {"start_time": "2026-11-20 10:00:00", "end_time": "2026-11-20 10:10:00", "trans_exit_code": 0}
    told |= {"job_output_report": json.dumps(files), **more}
    assert panda.command(job_id=found["PandaID"], job_status=more.pop("job_status", "finished"), **told) == "NULL"


def test_a_finished_job_has_succeeded(panda: Panda) -> None:
    panda.user.add([said(outputs=(Output("o.txt"),))])
    finish(panda, {"o.txt": {"fsize": 3, "adler32": "0000002a", "surl": "root://x/o.txt"}})
    (report,) = panda.user.results("a")
    assert (report.verdict, report.exit_code, report.started) == ("succeeded", 0, "2026-11-20T10:00:00+00:00")
    assert [(each.name, each.bytes, each.adler32, each.url) for each in report.outputs] == [
        ("o.txt", 3, "0000002a", "root://x/o.txt")
    ]
    reply = panda.raw.get(PILOT + "get_job_status", job_ids="1,99").json()
    assert reply["data"] == [{"job_id": 1, "status": "finished", "attempt_number": 1}]


@pytest.mark.parametrize("files", [{}, {"o.txt": {"fsize": 3}}, {"o.txt": {"adler32": "1"}}, {"o.txt": 7}])
def test_a_finished_job_without_its_outputs_has_failed(panda: Panda, files: dict[str, object]) -> None:
    """PanDA's adder fails such a job too."""
    panda.user.add([said(outputs=(Output("o.txt"),), attempts=1)])
    finish(panda, files)
    fault = panda.user.show("a").fault
    assert fault is not None
    assert fault.code == "output.missing"


def test_a_failed_job_carries_the_fault_of_pandas_number(panda: Panda) -> None:
    panda.user.add([said(attempts=1)])
    (found,) = panda.acquire()
    panda.command(
        job_id=found["PandaID"],
        job_status="failed",
        pilot_error_code=1212,
        pilot_error_diag="too much",
        trans_exit_code=9,
    )
    view = panda.user.show("a")
    assert view.fault is not None
    assert (view.job.verdict, view.fault.code, view.fault.detail) == ("failed", "payload.memory", "1212: too much")


def test_bulk_updates_have_an_answer_each(panda: Panda) -> None:
    panda.user.add([said("a"), said("b")])
    first, second = panda.acquire(n_jobs=2)
    sent = [{"job_id": each["PandaID"], "job_status": "running"} for each in (first, second)]
    found = panda.ask("update_jobs_bulk", job_list=[*sent, {"job_id": 99, "job_status": "running"}, {"x": 1}, 7])
    answers = found["data"]
    assert [each["data"] and each["data"]["command"] for each in answers] == ["NULL", "NULL", "tobekilled", None, None]  # type: ignore[attr-defined]


def test_nodes_workers_and_resource_types(panda: Panda) -> None:
    node = {"site": "s", "host_name": "slot1@wn", "cpu_model": "EPYC"}
    assert panda.ask("update_worker_node", **node)["message"] == "Inserted new worker node."  # type: ignore[arg-type]
    node["host_name"] = "slot2@wn"
    assert panda.ask("update_worker_node", **node)["message"] == "Updated existing worker node."  # type: ignore[arg-type]
    refused = panda.ask("update_worker_node", **node, clock_speed=2400)  # type: ignore[arg-type]
    assert refused["message"] == "Type error: 'clock_speed' must be of type float, got int."
    gpu = {"site": "s", "host_name": "wn", "vendor": "NVIDIA", "model": "A100", "count": 2}
    assert panda.ask("update_worker_node_gpu", **gpu)["message"] == "Inserted new worker node GPU."  # type: ignore[arg-type]
    assert panda.ask("update_worker_status", worker_id=1, harvester_id="h", status="started")["success"]
    types = panda.raw.get("/api/v1/metaconfig/get_resource_types").json()["data"]
    assert {each["resource_name"] for each in types} == {"SCORE", "MCORE"}


def test_a_call_that_we_do_not_have_is_told_as_panda_tells_it(panda: Panda) -> None:
    reply = panda.raw.post("/api/v1/event/acquire_event_ranges", {})
    assert (reply.status_code, reply.text) == (403, "ERROR : method acquire_event_ranges is forbidden")


def test_our_own_jobs_beside_it_are_left_alone(panda: Panda) -> None:
    panda.user.add([job("ours"), said("theirs")])
    assert [each["jobName"] for each in panda.acquire(n_jobs=2)] == ["theirs"]


VALUES = (
    st.none() | st.booleans() | st.integers(-(1 << 70), 1 << 70) | st.floats(allow_nan=False) | st.text(max_size=30)
    | st.lists(st.integers() | st.text(max_size=5), max_size=3)
    | st.dictionaries(st.sampled_from(["gpus", "x"]), st.lists(st.dictionaries(st.sampled_from(
        ["count", "vram", "vendor", "model", "framework_version"]), st.integers() | st.text(max_size=5)), max_size=2))
)  # fmt: skip
NAMES = ["job_id", "job_status", "attempt_nr", "site_name", "max_rss", "job_output_report", "start_time", "memory",
         "target_architecture", "n_jobs", "remaining_time", "cpu_consumption_time", "pilot_error_code", "job_list",
         "worker_id", "stdout"]  # fmt: skip


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    verb=st.sampled_from(["acquire_jobs", "update_job", "update_jobs_bulk", "update_worker_node_gpu"]),
    found=st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=5),
    right=st.booleans(),
)
def test_whatever_is_sent_is_answered(panda: Panda, verb: str, found: dict[str, object], right: bool) -> None:
    """Half of it names what is required, so that it gets further."""
    usual = {"site_name": "default"} if verb == "acquire_jobs" else {"job_id": 1, "job_status": "finished"}
    if right and not list(panda.user.find()):
        panda.user.add([said()])
    reply = panda.raw.post(PILOT + verb, {**found, **(usual if right and verb != "update_jobs_bulk" else {})})
    assert reply.status_code in (200, 422), reply.text
    assert reply.status_code == 422 or set(reply.json()) == {"success", "message", "data"}


# --- a client of PanDA's: our own adapter for plain PanDA servers ---

PLACE = Endpoint(read="root://store//data", write="root://store//data")
SITE = Site("default", "default", "SITE", "wn1.example", endpoints={"SITE": PLACE}, output="SITE", network="none")


def test_the_adapter_for_panda_servers_runs_jobs_on_it(panda: Panda) -> None:
    """Registered, claimed, kept alive, told to stop, reported: through PanDA's calls alone."""
    server = PandaServer(panda.served.line(Role.PILOT, "panda"), SITE)
    panda.user.add([said("a", outputs=(Output("o.txt"),)), said("b"), job("ours")])
    assert server.register(offer("p1")).queue_state == "online"
    first, second, third = server.claim(ask("1", "2", "3", by=offer("p1", cpus=4)))
    assert first is not None
    assert second is not None
    assert (first.spec.name, second.spec.name, third) == ("a", "b", None)
    assert first.spec.image == "docker://alpine:3"
    assert first.refusal is None
    beats = [Beat(each.job_id, each.attempt, "running", receipt=each.receipt) for each in (first, second)]
    assert [(each.ours, each.command) for each in server.renew(beats)] == [(True, ""), (True, "")]
    panda.user.cancel(["b"])
    assert [(each.ours, each.command) for each in server.renew(beats)] == [(True, ""), (True, "cancel")]
    made = FileRecord("o.txt", "root://store//data/o.txt", 3, "0000002a", "")
    log = FileRecord("log.tgz", "root://store//data/log.tgz", 9, "0000002b", "")
    done = Report(first.job_id, first.attempt, "a", Verdict.SUCCEEDED, "2026-11-20T10:00:00Z", "2026-11-20T10:01:00Z",
                  exit_code=0, outputs=(made,), archive=log, receipt=first.receipt)  # fmt: skip
    stopped = Report(second.job_id, second.attempt, "b", Verdict.CANCELLED, "", "", archive=log, receipt=second.receipt)
    assert list(server.report([done, stopped])) == [True, True]
    assert panda.user.show("a").job.verdict == "succeeded"
    assert panda.user.results("a")[0].outputs == (made,)
    assert panda.user.show("b").job.verdict == "cancelled"
    server.close()
