"""Our jobs in PanDA's words and PanDA's reports in ours: for clients that speak `acquire_jobs` and `update_job` alone.

What cannot be said is not given to them at all: `pilot/core/panda_words.py`.
"""

import json
import shlex
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from itertools import chain

from pilot.core.reporting import clean
from pilot.model.capability import Accelerator, Offer
from pilot.model.facts import Usage
from pilot.model.faults import Code, Fault, fault
from pilot.model.files import FileRecord
from pilot.model.job import Grant, JobSpec, Needs, Verdict
from pilot.model.numbers import codes_of
from pilot.model.report import Report
from pilot.queue.service.panda_words import Acquire, Update

MIB = 1 << 20
NULL = "NULL"
SPEECH = ("Requirements", 'TARGET.PandaCannotSay == ""')  # what such a client demands of a job
CORES = {"MCORE": 8, "MCORE_HIMEM": 8}  # by resource type; else one, for the call does not say
CAPABILITY = {"Volta": "7.0", "Turing": "7.5", "Ampere": "8.0", "Ada Lovelace": "8.9", "Hopper": "9.0",
              "Blackwell": "10.0"}  # fmt: skip
LISTED_GPUS = 64
DIAGNOSIS = 500  # letters

# Where PanDA's states stand in a job's life; finished and failed are ends.
PHASES = {"starting": "staging_in", "running": "running", "transferring": "staging_out", "holding": "staging_out"}
ENDS = {"finished": Verdict.SUCCEEDED, "failed": Verdict.FAILED}
# How our states and verdicts read in `get_job_status`.
STATES = {"waiting": "activated", "held": "defined", "granted": "running", "done": "failed"}
DONE = {"succeeded": "finished", "cancelled": "cancelled"}


def offer_of(asked: Acquire, node: str) -> Offer:
    """What that client can run, as far as it says."""
    devices = tuple(chain.from_iterable(_devices(each, node) for each in _gpus(asked)))
    versions = [str(each.get("framework_version", "")) for each in _gpus(asked)]
    driver = (("GPUs_DriverVersion", versions[0]),) if versions else ()
    return Offer(
        pilot_id=f"panda/{node}/{asked.worker_id or 0}",
        host=node,
        cpus=CORES.get(asked.resource_type or "", 1),
        memory_bytes=max(asked.memory or 0, 0) * MIB,
        scratch_bytes=max(asked.disk_space or 0, 0) * MIB,
        seconds=float(max(asked.remaining_time or 0, 0)),
        devices=devices,
        runtime="bare",  # whether it has containers the call does not say; PanDA takes it for granted
        attributes=(SPEECH, *driver),
    )


def definition(panda_id: int, grant: Grant, queue: str) -> dict[str, object]:
    """The job as `acquire_jobs` gives it."""
    spec = grant.spec
    outputs = [each.name for each in spec.outputs]
    log = f"{grant.job_id}.{grant.attempt}.log.tgz"
    transformation, parameters = _command(spec)
    return {
        "StatusCode": 0,
        "PandaID": panda_id,
        "attemptNr": grant.attempt,
        "jobName": spec.name,
        "jobDefinitionID": panda_id,
        "taskID": NULL,
        "jobsetID": NULL,
        "reqID": NULL,
        "prodSourceLabel": "user",
        "processingType": "grid",
        "prodUserID": grant.owner,
        "transformation": transformation,
        "jobPars": parameters,
        "container_name": spec.image or NULL,
        "currentPriority": spec.priority,
        **_limits(spec.needs[0]),
        **_inputs(),
        "outFiles": ",".join([*outputs, log]),
        "scopeOut": ",".join(queue for _ in outputs),
        "realDatasets": ",".join(queue for _ in [*outputs, log]),
        "destinationDblock": ",".join(queue for _ in [*outputs, log]),
        "destinationDBlockToken": "",
        "fileDestinationSE": "",
        "ddmEndPointOut": "",
        "allowNoOutput": ",".join(each.name for each in spec.outputs if each.optional),
        "logFile": log,
        "logGUID": str(uuid.uuid5(uuid.NAMESPACE_OID, f"{grant.job_id}/{grant.attempt}")),
        "scopeLog": queue,
        **dict.fromkeys(("cloud", "sourceSite", "nucleus", "swRelease", "homepackage", "transferType"), NULL),
        "nSent": 0,
    }


def _command(spec: JobSpec) -> tuple[str, str]:
    """Command and parameters; variables go before the command, through env."""
    variables = [f"{name}={value}" for name, value in spec.environment]
    words = ["/usr/bin/env", *variables, *spec.command] if variables else list(spec.command)
    return shlex.quote(words[0]), shlex.join(words[1:])


def _limits(needs: Needs) -> dict[str, object]:
    return {
        "coreCount": needs.cpus,
        "minRamCount": _up(needs.memory_bytes),
        "maxDiskCount": _up(needs.scratch_bytes),
        "maxWalltime": needs.walltime_seconds,
        "maxCpuCount": needs.walltime_seconds * needs.cpus,
        "cmtConfig": _architecture(needs),
        "resource_type": "MCORE" if needs.cpus > 1 else "SCORE",
        "ioIntensity": None,
        "ioIntensityUnit": None,
    }


def _architecture(needs: Needs) -> str:
    """PanDA's architecture field: a GPU stands behind its `&`."""
    wishes = needs.gpus
    if not wishes.count:
        return NULL
    memory = f":vram>={_up(wishes.memory_bytes)}" if wishes.memory_bytes else ""
    return f"x86_64#x86_64&nvidia{memory}{f':cuda{wishes.cuda}' if wishes.cuda else ''}"


def _inputs() -> dict[str, object]:
    names = ("inFiles", "scopeIn", "fsize", "checksum", "GUID", "realDatasetsIn", "prodDBlocks", "prodDBlockToken",
             "dispatchDblock", "dispatchDBlockToken", "ddmEndPointIn")  # fmt: skip
    return dict.fromkeys(names, "")


def _up(size: int) -> int:
    return -(-size // MIB)


def _gpus(asked: Acquire) -> list[Mapping[str, object]]:
    said = asked.target_architecture
    try:
        found = json.loads(said) if isinstance(said, str) else said or {}
    except ValueError:
        return []
    gpus = found.get("gpus") if isinstance(found, dict) else None
    return [each for each in gpus[:LISTED_GPUS] if isinstance(each, dict)] if isinstance(gpus, list) else []


def _devices(gpu: Mapping[str, object], node: str) -> list[Accelerator]:
    count, vram = gpu.get("count", 1), gpu.get("vram", 0)
    if not isinstance(count, int) or not isinstance(vram, int):
        return []
    model, kind = str(gpu.get("model", ""))[:100], CAPABILITY.get(str(gpu.get("architecture", "")), "")
    vendor = str(gpu.get("vendor", "")).lower()[:40]
    return [
        Accelerator(f"{node}/{model}/{number}", vendor, model, vram * MIB, kind)
        for number in range(max(0, min(count, LISTED_GPUS)))
    ]


# --- what comes back --------------------------------------------------------------------------------------------------


def usage_of(asked: Update) -> Usage:
    """What the payload used, as far as it is told; PanDA counts kB."""
    return Usage(cpu_seconds=float(asked.cpu_consumption_time or 0), memory_peak_bytes=max(asked.max_rss or 0, 0) << 10)


def report_of(asked: Update, job_id: str, attempt: int, spec: JobSpec) -> Report:
    """The end of an attempt; one that lacks an output that its job names has not succeeded."""
    files = _files(asked.job_output_report or "")
    stored = tuple(each for each in files if any(each.name == one.name for one in spec.outputs))
    lacking = {each.name for each in spec.outputs if not each.optional} - {each.name for each in stored}
    verdict, because = ENDS[asked.job_status], _fault(asked)
    if verdict is Verdict.SUCCEEDED and lacking:
        verdict, because = Verdict.FAILED, fault(Code.OUTPUT_MISSING, f"{min(lacking)}: not in the job's output report")
    return Report(
        job_id=job_id,
        attempt=attempt,
        name=spec.name,
        verdict=verdict,
        started=_moment(asked.start_time),
        ended=_moment(asked.end_time),
        exit_code=asked.trans_exit_code,
        fault=None if verdict is Verdict.SUCCEEDED else because,
        usage=usage_of(asked),
        outputs=stored,
        pilot_id=(asked.pilot_id or "")[:200],
        archive=next((each for each in files if each.name.endswith(".log.tgz")), None),
    )


def _fault(asked: Update) -> Fault:
    """By PanDA's number, where one of ours has it; else the payload's own end."""
    number = asked.pilot_error_code or 0
    code = next(iter(codes_of(number)), Code.PAYLOAD_EXIT)
    said = asked.pilot_error_diag or asked.exe_error_diag or ""
    return fault(code, clean(f"{f'{number}: ' if number else ''}{said}"[:DIAGNOSIS]))


def _files(text: str) -> tuple[FileRecord, ...]:
    """PanDA's output report; what cannot be read counts as not stored."""
    try:
        found = json.loads(text or "{}")
    except (ValueError, RecursionError):
        return ()
    records = found.items() if isinstance(found, dict) else ()
    return tuple(_file(str(name), each) for name, each in records if isinstance(each, dict) and _whole(each))


def _whole(each: Mapping[str, object]) -> bool:
    """PanDA's adder asks for a size and a checksum."""
    size = each.get("fsize")
    return isinstance(size, int) and not isinstance(size, bool) and bool(each.get("adler32") or each.get("md5sum"))


def _file(name: str, each: Mapping[str, object]) -> FileRecord:
    size = each["fsize"]
    assert isinstance(size, int)
    return FileRecord(name, str(each.get("surl", ""))[:2000], size, str(each.get("adler32", ""))[:8], "")


def _moment(text: str | None) -> str:
    """ISO 8601 from PanDA's time, which is UTC; "" for what is none."""
    try:
        return datetime.strptime(text or "", "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC).isoformat()
    except ValueError:
        return ""
