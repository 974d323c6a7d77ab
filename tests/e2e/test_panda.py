"""The pilot as a process on a real PanDA server: its own adder has the last word on every job."""

import contextlib
import http.server
import json
import ssl
import tarfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.beds.panda import PandaBed, panda_bed
from tests.beds.panda_jobs import HARVESTER, SITE, File, PandaJob
from tests.e2e.on_panda import TRF, OnPanda
from tests.e2e.piloted import Rig, until

pytestmark = pytest.mark.panda

TALES = b"once upon a time\n"


@pytest.fixture(scope="module")
def bed() -> Iterator[PandaBed]:
    with panda_bed() as made:
        yield made
        assert made.mistakes() == []


@pytest.fixture
def panda(rig: Rig, bed: PandaBed) -> OnPanda:
    bed.clear()
    return OnPanda(rig, bed)


def members(archive: Path) -> list[str]:
    with tarfile.open(archive) as opened:
        return opened.getnames()


# --- one job, from submission to the adder ---


def test_a_job_with_input_and_output_is_finished_by_the_adder(panda: OnPanda) -> None:
    tales = panda.put("bed", "tales.txt", TALES)
    files = [tales, File("shout.txt", "output")]
    job = PandaJob("/bin/sh", "-c 'tr a-z A-Z <tales.txt >shout.txt'", files=files)
    number, state = panda.finish(job)
    assert state == "finished", panda.bed.errors()
    assert panda.stored("bed", "shout.txt").read_bytes() == TALES.upper()
    assert any("stdout" in each for each in members(panda.stored("bed", f"{job.name}.log.tgz")))
    row = panda.bed.job(number)
    assert (row["attemptnr"], row["piloterrorcode"], row["computingsite"]) == (1, 0, "BED")
    assert "ml-grid-pilot" in row["pilotid"]
    assert row["pilottiming"].count("|") == 5
    assert row["starttime"] is not None
    assert row["endtime"] is not None
    assert row["jobsubstatus"] == "succeeded"
    [meta] = panda.bed.execute("SELECT metaData FROM DOMA_PANDA.metaTable WHERE PandaID = %s", number)
    assert json.loads(meta["metadata"])["ml_grid_pilot"]["job_id"] == str(number)


@pytest.mark.apptainer
def test_the_same_in_apptainer(panda: OnPanda) -> None:
    tales = panda.put("bed", "tales2.txt", TALES)
    files = [tales, File("inside.txt", "output")]
    more = {"container_name": "test-tiny"}
    job = PandaJob("/bin/sh", "-c 'wc -c <tales2.txt >inside.txt; ls / >>inside.txt'", files=files, more=more)
    _, state = panda.finish(job, runtime="apptainer")
    assert state == "finished", panda.bed.errors()
    assert panda.stored("bed", "inside.txt").read_bytes().split()[0] == b"17"


def test_a_failing_payload_is_failed_with_our_number_and_text(panda: OnPanda) -> None:
    number, state = panda.finish(PandaJob("/bin/sh", "-c 'echo no luck >&2; exit 7'"))
    assert state == "failed"
    row = panda.bed.job(number)
    assert (row["piloterrorcode"], row["transexitcode"]) == (1305, "7")
    assert "7" in row["piloterrordiag"]


def test_no_match_of_a_pattern_is_a_missing_output(panda: OnPanda) -> None:
    """Not an empty archive, and not a job that finished."""
    files = [File("user.none.tgz", "output")]
    words = """-j "" -r . -o "{'nope*.root': 'user.none.tgz'}" -p "true" """
    number, state = panda.finish(PandaJob(f"{TRF}/runGen-00-00-02", words, files=files))
    row = panda.bed.job(number)
    assert (state, row["piloterrorcode"]) == ("failed", 1165)
    assert not panda.stored("bed", "user.none.tgz").exists()


def test_a_folder_is_no_output(panda: OnPanda) -> None:
    job = PandaJob("/bin/sh", "-c 'mkdir res; echo 1 >res/f'", files=[File("res", "output")])
    number, state = panda.finish(job)
    row = panda.bed.job(number)
    assert (state, row["piloterrorcode"]) == ("failed", 1165)
    assert "res: it is a directory" in row["piloterrordiag"]


def test_a_payloads_own_result_is_not_ours(panda: OnPanda) -> None:
    files = [File("result.json", "output")]
    _, state = panda.finish(PandaJob("/bin/sh", "-c 'echo {} >result.json'", files=files))
    assert state == "finished", panda.bed.errors()


def test_a_storage_that_cannot_be_reached_is_the_sites_fault(panda: OnPanda) -> None:
    number = panda.bed.submit(
        PandaJob("/bin/sh", "-c 'touch /tmp/never; echo x >x.txt'", files=[File("x.txt", "output")])
    )
    assert panda.run(panda_storages={"OTHER": "file:///nowhere"}).code == 0
    row = panda.bed.job(number)
    assert (row["jobstatus"], row["piloterrorcode"], row["transexitcode"]) == ("holding", 1313, None)


def test_the_queues_environment_reaches_the_payload(panda: OnPanda) -> None:
    _, state = panda.finish(PandaJob("/bin/sh", "-c 'echo $BED_WORD >word.txt'", files=[File("word.txt", "output")]))
    assert state == "finished", panda.bed.errors()
    assert panda.stored("bed", "word.txt").read_text() == "here\n"


def test_inputs_beyond_what_the_queue_takes_decline_the_job(panda: OnPanda) -> None:
    number, state = panda.finish(PandaJob("/bin/true", files=[File("large.npz", "input", size=30_000 << 20)]))
    assert state == "failed"
    assert "at most 20000 MiB of inputs (maxinputsize)" in panda.bed.job(number)["piloterrordiag"]


def test_an_output_that_is_missing_fails_the_job(panda: OnPanda) -> None:
    number, state = panda.finish(PandaJob("/bin/true", files=[File("never.txt", "output")]))
    assert state == "failed"
    assert "never.txt" in panda.bed.job(number)["piloterrordiag"]


def test_what_cannot_be_translated_is_declined_with_the_reason(panda: OnPanda) -> None:
    number, state = panda.finish(PandaJob(f"{TRF}/runAthena-00-00-12", "-p x"))
    assert state == "failed"
    assert "runAthena" in panda.bed.job(number)["piloterrordiag"]


def test_a_kill_ends_a_running_payload_within_one_heartbeat(panda: OnPanda) -> None:
    number = panda.bed.submit(PandaJob("/bin/sleep", "600"))
    with panda.running("--max-jobs", "1") as process:
        until(lambda: panda.bed.state(number) == "running")
        panda.bed.kill(number)
        killed = time.monotonic()
        until(lambda: panda.bed.state(number) == "holding")
        assert time.monotonic() - killed < 2.0 + 2.0 + 1.0  # a heartbeat's interval, the grace, a moment to store
        _, err = process.communicate(timeout=20)
        assert process.returncode == 0, err
    assert panda.bed.run_adder(number) == "cancelled"


def test_a_soft_kill_leaves_the_job_to_others(panda: OnPanda) -> None:
    number = panda.bed.submit(PandaJob("/bin/sleep", "600"))
    with panda.running("--max-jobs", "1") as process:
        until(lambda: panda.bed.state(number) == "running")
        panda.bed.command(number, "softkill")
        process.communicate(timeout=20)
    assert panda.bed.run_adder(number) == "failed"
    assert panda.bed.job(number)["piloterrorcode"] == 1379  # after which PanDA tries again


def test_a_look_into_a_running_job_goes_to_the_monitor_and_no_shell_does(panda: OnPanda) -> None:
    number = panda.bed.submit(PandaJob("/bin/sh", "-c 'echo half way; touch made.txt; exec sleep 600'"))
    with panda.running("--max-jobs", "1") as process:
        until(lambda: panda.bed.state(number) == "running")
        panda.bed.command(number, "tail payload.stdout")
        until(lambda: "half way" in panda.seen(number))
        panda.bed.command(number, "ls")
        until(lambda: "made.txt" in panda.seen(number))
        panda.bed.command(number, f"touch {panda.rig.root}/by-the-operator; ls")
        heard = panda.bed.asked("pilot/update_job")
        until(lambda: panda.bed.asked("pilot/update_job") > heard + 1)  # it has gone out, and its beat has come back
        panda.bed.kill(number)
        process.communicate(timeout=20)
    assert not (panda.rig.root / "by-the-operator").exists()


def test_an_outage_while_a_job_ends_costs_nothing(panda: OnPanda) -> None:
    begun, go = panda.rig.root / "begun", panda.rig.root / "go"
    script = f"touch {begun}; until [ -e {go} ]; do sleep 0.1; done; echo here >late.txt"
    number = panda.bed.submit(PandaJob("/bin/sh", f"-c '{script}'", files=[File("late.txt", "output")]))
    with panda.running("--max-jobs", "1", panda_lease="60s") as process:
        until(begun.exists)
        with panda.bed.outage():
            go.touch()
            until(panda.stored("bed", "late.txt").exists)
            time.sleep(1.0)  # the first report has met nobody
        _, err = process.communicate(timeout=40)
        assert process.returncode == 0, err
    assert panda.bed.run_adder(number) == "finished"


# --- nodes, devices, workers ---


def test_node_and_devices_are_told_under_one_host_name(panda: OnPanda) -> None:
    number, _ = panda.finish(PandaJob("/bin/true"))
    (node,) = panda.bed.rows("worker_node")
    (queue,) = panda.bed.rows("worker_node_queue")
    assert (node["site"], queue["site"], queue["panda_queue"]) == (SITE, SITE, "BED")
    assert node["host_name"] == queue["host_name"] == panda.bed.job(number)["modificationhost"].split("@")[-1]
    assert node["n_logical_cpus"] > 0
    assert node["total_memory"] > 0


def test_harvesters_worker_is_told_of_begin_and_end(panda: OnPanda) -> None:
    panda.bed.submit(PandaJob("/bin/true"))
    env = {"HARVESTER_ID": HARVESTER, "HARVESTER_WORKER_ID": "42"}
    assert panda.run("--max-jobs", "1", env=env).code == 0
    (worker,) = [each for each in panda.bed.rows("Harvester_Workers") if each["workerid"] == 42]
    assert worker["pilotstatus"] == "finished"
    assert panda.bed.rows("Harvester_Rel_Jobs_Workers")[-1]["workerid"] == 42


def test_a_job_that_wishes_a_gpu_waits_for_a_node_that_has_one(panda: OnPanda) -> None:
    wish = {"gpu_spec": {"vendor": "nvidia", "model": ".*A100.*"}}
    panda.bed.insert("JEDI_Tasks", {"jediTaskID": 77, "architecture": json.dumps(wish)})
    wishing = panda.bed.submit(PandaJob("/bin/true", priority=5000, more={"jediTaskID": 77}))
    plain = panda.bed.submit(PandaJob("/bin/true"))
    assert panda.run("--max-jobs", "1", gpus=0).code == 0
    assert (panda.bed.state(wishing), panda.bed.state(plain)) == ("activated", "holding")
    device = {"vendor": "NVIDIA", "model": "NVIDIA A100-SXM4-40GB", "vram": 40960, "architecture": "Ampere"}
    asked = {"site_name": "BED", "prod_source_label": "user", "target_architecture": {"gpus": [device]}}
    reply = panda.bed.panda("pilot/acquire_jobs", **asked)
    assert [each["PandaID"] for each in reply["data"]["jobs"]] == [wishing]


def test_many_jobs_are_told_of_in_one_call(panda: OnPanda) -> None:
    numbers = [panda.bed.submit(PandaJob("/bin/sleep", "3", more={"coreCount": 1})) for _ in range(2)]
    before = panda.bed.asked("pilot/update_jobs_bulk")
    assert panda.run("--max-jobs", "2", cpus=2).code == 0
    assert panda.bed.asked("pilot/update_jobs_bulk") > before
    assert [panda.bed.run_adder(each) for each in numbers] == ["finished", "finished"]


# --- who asks ---


def test_a_certificate_is_as_good_as_a_token(panda: OnPanda) -> None:
    proxy = str(panda.bed.robot().file)
    _, state = panda.finish(PandaJob("/bin/true"), proxy_file=proxy, token_file=None, token_origin=None)
    assert state == "finished"


@pytest.mark.parametrize("wrong", ["expired", "audience", "origin"])
def test_a_token_that_is_not_taken_ends_in_one_line(panda: OnPanda, wrong: str) -> None:
    token = panda.bed.issuer.token(
        life=-60.0 if wrong == "expired" else 3600.0, audience="other" if wrong == "audience" else "pilot-client"
    )
    ended = panda.run(token=token, token_origin=None if wrong == "origin" else "wlcg.pilot")
    assert ended.code == 77, ended.err
    assert token not in ended.err + ended.out
    assert len(ended.said) == 1, ended.err


def test_a_queue_that_is_offline_or_unknown_ends_in_one_line(panda: OnPanda) -> None:
    for name, code in (("BED_OFFLINE", 75), ("NOWHERE", 78)):
        ended = panda.run(queue_name=name)
        assert ended.code == code
        assert len(ended.said) == 1, ended.err
        assert name in ended.err


def test_a_queue_under_test_gives_its_tests(panda: OnPanda) -> None:
    number, state = panda.finish(PandaJob("/bin/true", queue="BED_TEST", label="test"), queue_name="BED_TEST")
    assert (state, panda.bed.job(number)["prodsourcelabel"]) == ("finished", "test")


# --- what real tasks send ---


def test_a_task_of_prun_is_finished(panda: OnPanda) -> None:
    sandbox = panda.sandbox("sources.7b9c.tar.gz", {"train.sh": 'cat "$@" >model.pt\n'})
    data = panda.put("bed", "data._000001.npz", TALES)
    out = {"model.pt": "user.ada.8017._000007.model.pt"}
    arguments = f'-o "{out}" -i "[\'{data.lfn}\']" -p "sh%20train.sh%20%25IN" --inMap "{{\'IN\': [\'{data.lfn}\']}}"'
    parameters = f'-j "" -r . {sandbox} {arguments}'
    files = [data, File("user.ada.8017._000007.model.pt", "output")]
    job = PandaJob(f"{TRF}/runGen-00-00-02", parameters, files=files)
    number, state = panda.finish(job)
    assert state == "finished", panda.bed.job(number)["piloterrordiag"]
    assert panda.stored("bed", files[1].lfn).read_bytes() == TALES


def test_a_task_of_prun_with_a_container_is_finished(panda: OnPanda) -> None:
    sandbox = panda.sandbox("sources.11.tar.gz", {"fill.sh": 'cat "$@" >hist.root\n'})
    data = panda.put("bed", "a.root", TALES)
    out = {"hist.root": "user.ada.9.hist.root"}
    arguments = (
        f'-o "{out}" -i "[\'{data.lfn}\']" -p "sh%20fill.sh%20%25IN" --containerImage test-tiny --cvmfs --noX509'
    )
    job = PandaJob(
        f"{TRF}/runcontainer", f'-j "" -r . {sandbox} {arguments}', files=[data, File("user.ada.9.hist.root", "output")]
    )
    number, state = panda.finish(job)
    assert state == "finished", panda.bed.job(number)["piloterrordiag"]
    assert panda.stored("bed", "user.ada.9.hist.root").read_bytes() == TALES


TRAIN = """import pathlib, sys
assert pathlib.Path("input.txt").read_text().strip() == sys.argv[2], sys.argv
assert sys.argv[4] == "calib.v7.json"
pathlib.Path("out").mkdir()
pathlib.Path("out/model.pt").write_bytes(b"".join(pathlib.Path(each).read_bytes() for each in sys.argv[2].split(",")))
pathlib.Path("logs1.txt").write_text("trained")
"""
SANDBOXES = {"rungen": {"src/train.py": TRAIN}, "runcontainer": {"fill.sh": 'cat "$@" >hist.root\n'}}


@pytest.mark.apptainer
@pytest.mark.parametrize("name", SANDBOXES)
def test_a_recorded_definition_is_finished_in_apptainer(panda: OnPanda, name: str) -> None:
    job = panda.recorded(name, SANDBOXES[name], TALES)
    number, state = panda.finish(job, runtime="apptainer")
    assert state == "finished", panda.bed.job(number)["piloterrordiag"]
    output = next(each for each in job.files if each.kind == "output")
    assert panda.stored("user.ada", output.lfn).read_bytes() in (TALES, 2 * TALES)
    assert job.log is not None
    assert panda.stored("user.ada", job.log.lfn).is_file()
    kept = panda.bed.execute("SELECT * FROM DOMA_PANDA.filesTable4 WHERE PandaID = %s AND type <> %s", number, "input")
    blocks = {each.lfn: each.block for each in (*job.files, job.log) if each.block}
    assert {each["lfn"]: each["destinationdblock"] for each in kept} == blocks


def test_a_declined_job_has_one_error_and_a_log_that_says_why(panda: OnPanda) -> None:
    job = PandaJob(f"{TRF}/runGen-00-00-02", '-j "" -r . -p "true" --foo=1')
    number = panda.bed.submit(job)
    assert panda.run().code == 0
    assert panda.bed.run_adder(number) == "failed"
    row = panda.bed.job(number)
    assert (row["piloterrorcode"], row["ddmerrorcode"]) == (1311, 0)
    with tarfile.open(panda.stored("bed", f"{job.name}.log.tgz")) as archive:
        reason = archive.extractfile("pilot.log")
        assert reason is not None
        assert b"option --foo not recognized" in reason.read()


@contextlib.contextmanager
def stalling(bed: PandaBed) -> Iterator[str]:
    """A server whose answers begin and do not go on."""
    over = threading.Event()

    class Stalls(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b"begun")
            self.wfile.flush()
            over.wait(60)

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Stalls)
    server.daemon_threads = True
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(bed.authority.issue().file)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"https://127.0.0.1:{server.server_address[1]}"
    finally:
        over.set()
        server.shutdown()
        server.server_close()
        thread.join()


def test_a_sandbox_that_stalls_holds_up_neither_a_kill_nor_the_leaving(panda: OnPanda) -> None:
    with stalling(panda.bed) as source:
        words = f'-j "" -r . --sourceURL {source} -a stalls.tgz -p "true"'
        number = panda.bed.submit(PandaJob(f"{TRF}/runGen-00-00-02", words))
        with panda.running("--max-jobs", "1") as process:
            until(lambda: panda.bed.state(number) == "starting")
            panda.bed.kill(number)
            killed = time.monotonic()
            until(lambda: panda.bed.state(number) == "holding")
            _, err = process.communicate(timeout=20)
            assert process.returncode == 0, err
            assert time.monotonic() - killed < 10
    assert panda.bed.run_adder(number) == "cancelled"
