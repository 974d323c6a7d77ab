"""Our heartbeats and reports as PanDA's `update_job`: states, timing, metrics, error numbers, the output report.

What is sent is a pure function of beat or report and receipt, so that saying it twice says the same: the server keeps
the first final word, and the GUIDs of outputs follow from job, attempt and name.
"""

import json
import re
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, replace

from pilot.model.facts import Usage
from pilot.model.faults import Code, Fault, Party, fault
from pilot.model.files import FileRecord
from pilot.model.job import Verdict
from pilot.model.numbers import FETCHING, SANDBOX, STORING, by_signal, panda_number
from pilot.model.plain import to_plain
from pilot.model.report import Report, Seconds
from pilot.wire.asking import Arguments, id_of
from pilot.wire.envelope import WireError, cleaned, read_json
from pilot.wire.receipt import Receipt, read_receipt
from pilot.wire.site import Site

# The visible maps: where one of our jobs stands, and how it ended -> what PanDA is told.
STATES = {
    "claiming": "starting",
    "staging_in": "starting",
    "ready": "starting",
    "running": "running",
    "stopping": "running",
    "validating": "running",
    "staging_out": "running",
    "parked": "holding",
    "closed": "running",
}
ENDS = {
    Verdict.SUCCEEDED: "finished",
    Verdict.FAILED: "failed",
    Verdict.INTERRUPTED: "failed",
    Verdict.CANCELLED: "failed",
    Verdict.DECLINED: "failed",
}
# Verdicts whose number is that of a fault, whatever the job's own: another attempt is as good as the first.
NUMBERED = {Verdict.INTERRUPTED: Code.BATCH_PREEMPTED, Verdict.CANCELLED: Code.JOB_CANCELLED}

_NAMESPACE = uuid.UUID("5c1f4b0e-6d0b-4e0a-9a58-3f5f3c1f9a77")  # any constant: only that it never changes matters
_DIAGNOSIS, _METRICS, _LOG, _ANSWER, _META = 500, 500, 1024, 2048, 10_000  # characters, as far as the server keeps them
_SIGNAL_BASE = 128


@dataclass(frozen=True, slots=True)
class Life:
    """What one heartbeat says; `receipt` as it was given out."""

    job_id: str
    attempt: int
    phase: str
    progress: str = ""
    receipt: str = ""
    usage: Usage = Usage()  # noqa: RUF009  frozen, like the default that it is
    answer: str = ""


def alive(site: Site, life: Life) -> Arguments:
    """A heartbeat as `update_job` takes it."""
    receipt = read_receipt(life.receipt)
    said = {"job_status": STATES.get(life.phase, "running"), "job_sub_status": life.phase[:20]}
    told: Arguments = {**_base(site, receipt, life.job_id, life.attempt), **said, **_usage(life.usage)}
    told |= {"job_metrics": _metrics(life.usage, receipt, life.progress), "stdout": life.answer[-_ANSWER:]}
    return _sendable(told)


def ended(site: Site, report: Report) -> Arguments:
    """A report as `update_job` takes it."""
    receipt = read_receipt(report.receipt)
    whole = _with_its_log(report, receipt)
    told: Arguments = {
        **_base(site, receipt, report.job_id, report.attempt),
        "job_status": ENDS[whole.verdict],
        "job_sub_status": whole.verdict.value,
        "start_time": _moment(report.started),
        "end_time": _moment(report.ended),
        "pilot_timing": timing(report.seconds),
        "job_output_report": json.dumps(files_of(whole, receipt)),
        "job_metrics": _metrics(report.usage, receipt, ""),
        "meta_data": _metadata(whole),
        **_usage(report.usage),
        **_work(report, receipt),
        **_exit(report),
        **_fault(whole),
    }
    return _sendable(told)


def unwanted(site: Site, life: Life, why: str, now: str) -> Arguments:
    """An attempt given back unharmed: PanDA has no such word, so it fails with the number that is tried again.

    `now` (ISO 8601) stands for start and end: nothing ran. The empty output report is one: without any the server's
    adder would say that the pilot has told it nothing.
    """
    because = fault(Code.BATCH_PREEMPTED, why)
    told: Arguments = {
        **_base(site, read_receipt(life.receipt), life.job_id, life.attempt),
        "job_status": "failed",
        "job_sub_status": life.phase[:20],
        "start_time": _moment(now),
        "end_time": _moment(now),
        "job_output_report": "{}",
        "pilot_error_code": panda_number(because.code),
    }
    return _sendable({**told, **_diagnosis(because)})


def guid_of(job_id: str, attempt: int, name: str) -> str:
    """The GUID of an output: the same whenever it is asked for."""
    return str(uuid.uuid5(_NAMESPACE, f"{job_id}:{attempt}:{name}"))


def timing(seconds: Seconds) -> str:
    """`getjob|stagein|payload|stageout|initsetup|setup`, in whole seconds."""
    payload = seconds.running + seconds.stopping + seconds.validating
    parts = (seconds.claiming, seconds.staging_in, payload, seconds.staging_out, 0.0, seconds.ready)
    return "|".join(str(round(each)) for each in parts)


def files_of(report: Report, receipt: Receipt) -> dict[str, dict[str, object]]:
    """The output report: every stored output of a job that succeeded, and always the archive of the logs."""
    endpoints = dict(receipt.outputs)
    told: dict[str, dict[str, object]] = {}
    for each in report.outputs if report.verdict is Verdict.SUCCEEDED else ():
        told[each.name] = _file(each, guid_of(report.job_id, report.attempt, each.name), endpoints.get(each.name, ""))
    if report.archive is not None and receipt.log:
        guid = receipt.log_guid or guid_of(report.job_id, report.attempt, receipt.log)
        told[receipt.log] = _file(report.archive, guid, receipt.log_endpoint)
    return told


def _file(record: FileRecord, guid: str, endpoint: str) -> dict[str, object]:
    told: dict[str, object] = {"guid": guid, "fsize": record.bytes, "adler32": record.adler32, "surl": record.url}
    return told | ({"endpoint": endpoint} if endpoint else {})


def _with_its_log(report: Report, receipt: Receipt) -> Report:
    """PanDA fails a job whose logs are missing, with a text that helps nobody: then we say so ourselves."""
    if report.verdict is not Verdict.SUCCEEDED or not receipt.log or report.archive is not None:
        return report
    lost = fault(Code.STORAGE_UNREACHABLE, f"{receipt.log}: the archive of the logs could not be stored")
    return replace(report, verdict=Verdict.FAILED, fault=lost)


def _base(site: Site, receipt: Receipt, job_id: str, attempt: int) -> Arguments:
    """What every word about an attempt carries."""
    return {
        "job_id": id_of(job_id),
        "attempt_nr": attempt,
        "site_name": site.resource,
        "node": site.node,
        "pilot_id": site.pilot_id,
        "batch_id": (receipt.batch.partition(" ")[2] or receipt.batch)[:80],  # its kind stands in the pilot id
        "scheduler_id": site.scheduler,
        "core_count": receipt.cores,
        "cpu_consumption_unit": f"s+{site.cpu_model}" if site.cpu_model else "",
        "cpu_architecture_level": site.cpu_level[:20],
    }


def _sendable(told: Arguments) -> Arguments:
    """Without what is empty, and without signs that PanDA's database cannot hold."""
    clean = {
        name: cleaned(value).replace("\0", "") if isinstance(value, str) else value for name, value in told.items()
    }
    return {name: value for name, value in clean.items() if value != ""}


def _usage(usage: Usage) -> Arguments:
    """Memory in kB, time in whole seconds; what was not measured is not told."""
    told: Arguments = {}
    if usage.cpu_seconds:
        told["cpu_consumption_time"] = round(usage.cpu_seconds)
    if usage.memory_peak_bytes:
        told["max_rss"] = usage.memory_peak_bytes >> 10
    return told


def _work(report: Report, receipt: Receipt) -> Arguments:
    """How many inputs a payload that ran had. Not `mean_core_count`: servers without that column drop the update."""
    return {"n_input_files": receipt.inputs} if receipt.inputs and _ran(report) else {}


def _ran(report: Report) -> bool:
    return report.exit_code is not None or report.signal is not None


def _metrics(usage: Usage, receipt: Receipt, progress: str) -> str:
    """`k=v k=v`: devices as the incumbent names them, and the payload's own last word on how far it is."""
    known: dict[str, object] = {"coreCount": receipt.cores}
    if usage.gpus:
        known |= {"nGPU": len(usage.gpus), "GPU_name": usage.gpus[0].model}
        known["GPU_mem_peak_MB"] = max(each.memory_peak_bytes for each in usage.gpus) >> 20
        known["GPU_util"] = round(sum(each.utilisation for each in usage.gpus) / len(usage.gpus), 1)
        known["GPU_energy_J"] = round(sum(each.energy_joules for each in usage.gpus))
    if usage.scratch_peak_bytes:
        known["workDirSize"] = usage.scratch_peak_bytes
    pairs = (f"{_bare(name)}={_bare(str(value))}" for name, value in {**known, **_steps(progress)}.items())
    return _cut(pairs, _METRICS)


def _steps(progress: str) -> dict[str, object]:
    """Numbers of the last progress record, its metrics behind them."""
    if not progress:
        return {}
    try:
        found = read_json(progress.encode("utf-8", "replace"))
    except WireError:
        return {}
    if not isinstance(found, dict):
        return {}
    metrics = found.get("metrics")
    told = {name: found.get(name) for name in ("epoch", "step", "steps_total")}
    told |= metrics if isinstance(metrics, dict) else {}
    return {name: value for name, value in told.items() if isinstance(value, int | float) and value is not True}


def _cut(pairs: Iterable[str], limit: int) -> str:
    """As many whole pairs as there is room for."""
    text = ""
    for each in pairs:
        longer = f"{text} {each}".strip()
        if len(longer) > limit:
            break
        text = longer
    return text


def _bare(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9._:+-]+", "_", text)[:64]


def _moment(iso: str) -> str:
    """`2026-11-20 17:00:00`, UTC, from our ISO 8601."""
    found = re.match(r"(\d{4}-\d\d-\d\d)T(\d\d:\d\d:\d\d)", iso)
    return f"{found[1]} {found[2]}" if found else ""


def _exit(report: Report) -> Arguments:
    """The payload's own end; a signal as shells tell it."""
    if not _ran(report):
        return {}
    code = _SIGNAL_BASE + report.signal if report.exit_code is None and report.signal else report.exit_code or 0
    told: Arguments = {"trans_exit_code": code}
    if report.fault is not None and report.fault.party is Party.PAYLOAD and code:
        told |= {"exe_error_code": code, "exe_error_diag": _line(report.fault, _DIAGNOSIS)}
    return told


def _fault(report: Report) -> Arguments:
    if report.verdict is Verdict.SUCCEEDED:
        return {"pilot_error_code": 0}
    because = report.fault or fault(NUMBERED.get(report.verdict, Code.PAYLOAD_EXIT))
    number = panda_number(NUMBERED.get(report.verdict, because.code), *_circumstances(report, because))
    told = {"pilot_error_code": number, **_diagnosis(because)}
    return told | {"pilot_log": f"{_line(because, _LOG // 2)}\nwhat helps: {because.remedy}"[:_LOG]}


def _circumstances(report: Report, because: Fault) -> tuple[str, ...]:
    """What PanDA has a number of its own for: a file that failed before a payload ran was on its way in."""
    way = STORING if _ran(report) else FETCHING
    sandbox = (SANDBOX,) if because.detail.startswith("https://") else ()  # nothing else comes over https
    return (*((by_signal(report.signal),) if report.signal else ()), *sandbox, way)


def _diagnosis(because: Fault) -> Arguments:
    return {"pilot_error_diag": _line(because, _DIAGNOSIS)}


def _line(because: Fault, limit: int) -> str:
    detail = f": {because.detail}" if because.detail else ""
    said = " ".join(f"{because.code.value}: {because.message}{detail}".split())
    return said if len(said) <= limit else f"{said[: limit - 3]}..."


def _metadata(report: Report) -> str:
    """Our own report beside PanDA's columns, which have no room for isolation, shares and devices."""
    short = replace(report, receipt="", outputs=(), fault=None)
    said = json.dumps({"ml_grid_pilot": to_plain(short)}, separators=(",", ":"))
    return said if len(said) <= _META else ""
