"""What PanDA is told of an attempt: heartbeats, reports, what is given back."""

import json
import re
import uuid
from dataclasses import replace

import pytest

from pilot.model.facts import GpuUsage, Usage
from pilot.model.faults import REGISTRY, Code, fault
from pilot.model.files import FileRecord
from pilot.model.job import Phase, Verdict
from pilot.model.numbers import codes_of
from pilot.model.report import Report, Seconds
from pilot.wire import telling
from pilot.wire.receipt import Receipt, write_receipt
from pilot.wire.telling import Life, alive, ended, guid_of, timing, unwanted
from tests.unit.wire.recorded import SITE

RECEIPT = Receipt(
    batch="slurm 77",
    cores=4,
    task="8017",
    log="job.log.tgz",
    log_guid="4b68ab26-3840-4cbc-9fd4-66632cacc313",
    log_endpoint="TEST_RSE",
    outputs=(("model.pt", "TEST_RSE"), ("bare.txt", "")),
    inputs=3,
)
ARCHIVE = FileRecord("job.log.tgz", "file:///rse/out/l", 99, "00000001", "0" * 64)
MODEL = FileRecord("model.pt", "file:///rse/out/m", 6, "084b021f", "1" * 64)
REPORT = Report(
    job_id="6001",
    attempt=1,
    name="user.ada.train",
    verdict=Verdict.SUCCEEDED,
    started="2026-11-20T17:00:00.123Z",
    ended="2026-11-20T17:10:05.999Z",
    exit_code=0,
    seconds=Seconds(0.4, 12.6, 1.0, 600.0, 0.0, 2.0, 30.4, 0.0),
    usage=Usage(2399.6, 4 << 30),
    outputs=(MODEL, FileRecord("bare.txt", "file:///x", 1, "00620062", "2" * 64)),
    archive=ARCHIVE,
    receipt=write_receipt(RECEIPT),
)


def life(phase: str, **more: object) -> Life:
    return Life("6001", 1, phase, receipt=write_receipt(RECEIPT), **more)  # type: ignore[arg-type]


def test_a_heartbeat() -> None:
    assert alive(SITE, life("running", usage=Usage(12.6, 1 << 20))) == {
        "job_id": 6001,
        "attempt_nr": 1,
        "job_status": "running",
        "job_sub_status": "running",
        "site_name": "TEST_QUEUE",
        "node": "wn1.test.local",
        "pilot_id": "https://logs.test.local/77.out|SLURM|ml-grid-pilot|1.2",
        "batch_id": "77",
        "core_count": 4,
        "cpu_consumption_time": 13,
        "max_rss": 1024,
        "job_metrics": "coreCount=4",
    }


@pytest.mark.parametrize("phase", Phase)
def test_every_phase_has_a_state_that_the_server_takes(phase: Phase) -> None:
    assert alive(SITE, life(phase.value))["job_status"] in ("starting", "running", "holding")


@pytest.mark.parametrize(
    ("phase", "state"),
    [("staging_in", "starting"), ("ready", "starting"), ("stopping", "running"), ("parked", "holding")],
)
def test_states(phase: str, state: str) -> None:
    assert telling.STATES[phase] == state


def test_metrics_hold_devices_and_progress_and_are_cut_at_whole_pairs() -> None:
    gpu = GpuUsage("GPU-1", "NVIDIA H100 NVL", 87.25, 70 << 30, 1234.5, "nvml", "device")
    progress = '{"type": "progress", "epoch": 2, "step": 7, "metrics": {"loss": 0.5, "a b": 1, "n": "x", "ok": true}}'
    told = alive(SITE, life("running", progress=progress, usage=Usage(gpus=(gpu,))))["job_metrics"]
    assert told == (
        "coreCount=4 nGPU=1 GPU_name=NVIDIA_H100_NVL GPU_mem_peak_MB=71680 GPU_util=87.2 GPU_energy_J=1234 "
        "epoch=2 step=7 loss=0.5 a_b=1"
    )
    many = json.dumps({"metrics": {f"metric{each}": each for each in range(100)}})
    long = str(alive(SITE, life("running", progress=many))["job_metrics"])
    assert len(long) <= 500
    assert re.fullmatch(r"(\S+=\S+ )*\S+=\S+", long)


@pytest.mark.parametrize("progress", ["", "no json", "[]", '{"metrics": 7}', "{" * 100_000, '{"metrics": {"a": NaN}}'])
def test_odd_progress_says_nothing(progress: str) -> None:
    assert alive(SITE, life("running", progress=progress))["job_metrics"] == "coreCount=4"


def test_an_answer_is_the_end_of_it() -> None:
    told = str(alive(SITE, life("running", answer="x" * 5000 + "\0\ud800end"))["stdout"])
    assert len(told) <= 2048
    assert told.endswith("x\ufffdend")


def test_a_receipt_that_is_none_of_ours_costs_only_what_it_said() -> None:
    assert alive(SITE, replace(life("running"), receipt="}{"))["core_count"] == 1
    assert ended(SITE, replace(REPORT, receipt=""))["job_status"] == "finished"


def test_a_finished_report() -> None:
    told = ended(SITE, REPORT)
    assert told["job_status"] == "finished"
    assert (told["start_time"], told["end_time"]) == ("2026-11-20 17:00:00", "2026-11-20 17:10:05")
    assert told["pilot_timing"] == "0|13|602|30|0|1"
    assert (told["pilot_error_code"], told["trans_exit_code"], told["cpu_consumption_time"]) == (0, 0, 2400)
    assert "pilot_error_diag" not in told
    assert (told["job_sub_status"], told["n_input_files"]) == ("succeeded", 3)
    assert json.loads(str(told["job_output_report"])) == {
        "model.pt": {
            "guid": guid_of("6001", 1, "model.pt"),
            "fsize": 6,
            "adler32": "084b021f",
            "surl": "file:///rse/out/m",
            "endpoint": "TEST_RSE",
        },
        "bare.txt": {
            "guid": guid_of("6001", 1, "bare.txt"),
            "fsize": 1,
            "adler32": "00620062",
            "surl": "file:///x",
        },
        "job.log.tgz": {
            "guid": "4b68ab26-3840-4cbc-9fd4-66632cacc313",
            "fsize": 99,
            "adler32": "00000001",
            "surl": "file:///rse/out/l",
            "endpoint": "TEST_RSE",
        },
    }
    assert json.loads(str(told["meta_data"]))["ml_grid_pilot"]["job_id"] == "6001"


def test_the_same_report_says_the_same_twice() -> None:
    assert ended(SITE, REPORT) == ended(SITE, REPORT)
    assert uuid.UUID(guid_of("1", 0, "a")) != uuid.UUID(guid_of("1", 1, "a"))


VERDICTS = [
    (Verdict.FAILED, Code.PAYLOAD_EXIT, 1305),
    (Verdict.FAILED, Code.PAYLOAD_MEMORY, 1212),
    (Verdict.FAILED, Code.STAGE_IN_CHECKSUM, 1171),
    (Verdict.INTERRUPTED, Code.BATCH_PREEMPTED, 1379),
    (Verdict.INTERRUPTED, Code.BATCH_WALLTIME, 1379),
    (Verdict.CANCELLED, Code.JOB_CANCELLED, 1144),
    (Verdict.DECLINED, Code.JOB_INVALID, 1311),
    (Verdict.DECLINED, Code.SLOT_UNFIT, 1344),
]


@pytest.mark.parametrize(("verdict", "code", "number"), VERDICTS)
def test_verdicts_become_numbers(verdict: Verdict, code: Code, number: int) -> None:
    told = ended(SITE, replace(REPORT, verdict=verdict, fault=fault(code, "what was\nseen"), exit_code=7, outputs=()))
    assert (told["job_status"], told["pilot_error_code"]) == ("failed", number)
    assert told["pilot_error_diag"] == f"{code.value}: {REGISTRY[code].message}: what was seen"
    assert REGISTRY[code].remedy in str(told["pilot_log"])
    assert list(json.loads(str(told["job_output_report"]))) == ["job.log.tgz"]
    assert told["trans_exit_code"] == 7
    assert ("exe_error_code" in told) is code.value.startswith("payload.")


NUMBERS = [
    (Code.PAYLOAD_SIGNAL, "", None, 11, 1328),
    (Code.PAYLOAD_SIGNAL, "", 143, 15, 1201),
    (Code.PAYLOAD_SIGNAL, "", 137, 9, 1200),
    (Code.STORAGE_UNREACHABLE, "file:///a", None, None, 1099),
    (Code.STORAGE_UNREACHABLE, "file:///a", 0, None, 1137),
    (Code.STORAGE_DENIED, "file:///a", None, None, 1338),
    (Code.STORAGE_DENIED, "file:///a", 0, None, 1383),
    (Code.STAGE_IN_MISSING, "https://panda.test/cache/s.tgz: there is no such file", None, None, 1335),
    (Code.STAGE_IN_MISSING, "file:///a: there is no such file", None, None, 1331),
    (Code.PILOT_DEADLINE, "", None, None, 1151),
    (Code.PILOT_DEADLINE, "", 0, None, 1152),
]


@pytest.mark.parametrize(("code", "detail", "exit_code", "signal", "number"), NUMBERS)
def test_numbers_say_which_way_and_which_signal(
    code: Code, detail: str, exit_code: int | None, signal: int | None, number: int
) -> None:
    failed = replace(REPORT, verdict=Verdict.FAILED, fault=fault(code, detail), exit_code=exit_code, signal=signal)
    assert ended(SITE, failed)["pilot_error_code"] == number
    assert code in codes_of(number)


def test_a_job_that_did_not_succeed_names_its_log_alone() -> None:
    failed = replace(REPORT, verdict=Verdict.FAILED, fault=fault(Code.PAYLOAD_EXIT))
    assert list(telling.files_of(failed, RECEIPT)) == ["job.log.tgz"]


def test_a_lost_log_is_said_to_be_lost() -> None:
    told = ended(SITE, replace(REPORT, archive=None))
    assert (told["job_status"], told["pilot_error_code"]) == ("failed", 1137)
    assert "job.log.tgz: the archive of the logs could not be stored" in str(told["pilot_error_diag"])


def test_a_job_that_asked_for_no_log_needs_none() -> None:
    receipt = write_receipt(replace(RECEIPT, log=""))
    assert ended(SITE, replace(REPORT, archive=None, receipt=receipt))["job_status"] == "finished"


@pytest.mark.parametrize(
    ("exit_code", "signal", "told"), [(None, 9, 137), (137, 9, 137), (None, None, None), (0, None, 0)]
)
def test_exit_codes(exit_code: int | None, signal: int | None, told: int | None) -> None:
    report = replace(REPORT, verdict=Verdict.FAILED, fault=fault(Code.GPU_LOST))
    assert ended(SITE, replace(report, exit_code=exit_code, signal=signal)).get("trans_exit_code") == told


def test_texts_fit_their_columns_and_the_database() -> None:
    long = fault(Code.PAYLOAD_EXIT, "x" * 9000 + "\0\ud800")
    told = ended(SITE, replace(REPORT, verdict=Verdict.FAILED, fault=long, exit_code=1))
    for name, limit in (("pilot_error_diag", 500), ("exe_error_diag", 500), ("pilot_log", 1024), ("pilot_id", 200)):
        assert len(str(told[name])) <= limit
    assert "\0" not in json.dumps(told)
    json.dumps(told).encode("utf-8")


def test_an_unwanted_attempt_fails_with_the_number_that_is_tried_again() -> None:
    told = unwanted(SITE, life("returned"), "the pilot leaves", "2026-11-20T17:00:00.123Z")
    assert (told["job_status"], told["pilot_error_code"], told["attempt_nr"]) == ("failed", 1379, 1)
    assert "the pilot leaves" in str(told["pilot_error_diag"])
    assert (told["start_time"], told["end_time"]) == ("2026-11-20 17:00:00",) * 2
    assert (told["job_output_report"], told["job_sub_status"]) == ("{}", "returned")


def test_timing_counts_every_second_once() -> None:
    assert timing(Seconds(1, 2, 3, 4, 5, 6, 7, 8)) == "1|2|15|7|0|3"


ARGUMENTS = {  # of the server's update_job: name -> types that its check lets through
    "job_id": int, "attempt_nr": int, "core_count": int, "cpu_consumption_time": int, "max_rss": (int, float),
    "n_input_files": int,
    "pilot_error_code": int, "exe_error_code": int, "trans_exit_code": int,
    "job_status": str, "job_sub_status": str, "site_name": str, "node": str, "pilot_id": str, "batch_id": str,
    "scheduler_id": str, "cpu_consumption_unit": str, "cpu_architecture_level": str, "job_metrics": str, "stdout": str,
    "start_time": str, "end_time": str, "pilot_timing": str, "job_output_report": str, "meta_data": str,
    "pilot_error_diag": str, "exe_error_diag": str, "pilot_log": str,
}  # fmt: skip


def test_every_argument_has_the_type_that_the_server_checks_for() -> None:
    site = replace(SITE, scheduler="h", cpu_model="AMD EPYC", cpu_level="x86_64-v3")
    failed = replace(REPORT, verdict=Verdict.FAILED, fault=fault(Code.PAYLOAD_EXIT), exit_code=3)
    beat = life("running", answer="a", usage=Usage(1.5, 1 << 20))
    seen: set[str] = set()
    for told in (ended(site, REPORT), ended(site, failed), alive(site, beat), unwanted(site, life(""), "x", "")):
        seen |= set(told)
        for name, value in told.items():
            assert isinstance(value, ARGUMENTS[name]), name  # type: ignore[arg-type]
            assert not isinstance(value, bool)
    assert seen == set(ARGUMENTS)
