"""The pilot's side of the contract with the payload: what it is given, and what it leaves behind."""

import contextlib
import json
import os
import re
import stat
import sys
from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

from pilot.core.reporting import iso
from pilot.model.facts import WAITING, Ending, Usage
from pilot.model.files import Input
from pilot.model.job import Job, Share
from pilot.ports import Gone, Sandbox
from pilot.shell import below

VERSION = "1.0"
RESULT_BYTES = 1 << 20
TAIL_BYTES = 2000
MESSAGE_CHARACTERS = 1000  # one line of a report, whatever the payload wrote
_GENERATION = re.compile(r"gen-[0-9].*[0-9]")
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
STATUSES = frozenset({"succeeded", "failed", "diverged", "transient", "checkpointed"})


@dataclass(frozen=True, slots=True)
class Terms:
    """What a payload is told about its stay: seconds since the epoch, seconds, and where it stands."""

    deadline: float
    grace: float
    run_dir: str


def seed_of(job_id: str) -> int:
    """The same in every attempt of a job, so that a resumed training is the same training."""
    return crc32(job_id.encode())


def environment(job: Job, share: Share, terms: Terms) -> tuple[tuple[str, str], ...]:
    """The PILOT_ variables of docs/contract.md."""
    assert job.grant is not None
    values = {
        "PILOT_CONTRACT": VERSION,
        "PILOT_JOB_ID": job.grant.job_id,
        "PILOT_ATTEMPT": str(job.grant.attempt),
        "PILOT_RUN_DIR": terms.run_dir,
        "PILOT_GRACE_SECONDS": f"{terms.grace:g}",
        "PILOT_CPUS": str(max(1, len(share.cpus))),
        "PILOT_MEM_MB": str(share.memory_bytes >> 20),
        "PILOT_SEED": str(seed_of(job.grant.job_id)),
    }
    if terms.deadline:
        values["PILOT_DEADLINE"] = f"{terms.deadline:.0f}"
    return tuple(values.items())


def write_terms(job: Job, share: Share, terms: Terms, sandbox: Sandbox, found: dict[str, int]) -> None:
    """Writes contract.json and inputs.json where the runtime binds them from; `found` gives sizes of staged inputs."""
    _write(sandbox.pilot / "contract.json", _contract(job, share, terms))
    _write(sandbox.pilot / "inputs.json", [_input(each, found) for each in job.spec.inputs])
    for name in ("control", "checkpoint"):
        with contextlib.suppress(FileExistsError):  # the validate step finds what the payload left there
            os.mkdir(sandbox.work / name)


def _write(path: Path, document: object) -> None:
    """In place of an older one, which may be read-only by now, or be known to the payload under another name."""
    part = path.with_suffix(".part")
    write_file(part, json.dumps(document).encode())
    os.replace(part, path)


def write_file(path: Path, data: bytes) -> None:
    """A small file of ours in three calls; a file object asks the kernel four things more, which many jobs feel."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    try:
        os.write(descriptor, data)
    finally:
        os.close(descriptor)


def _contract(job: Job, share: Share, terms: Terms) -> dict[str, object]:
    assert job.grant is not None
    return {
        "contract": VERSION,
        "job_id": job.grant.job_id,
        "name": job.spec.name,
        "attempt": job.grant.attempt,
        "kind": job.spec.kind,
        "seed": seed_of(job.grant.job_id),
        "deadline_utc": iso(terms.deadline) if terms.deadline else None,
        "grace_s": terms.grace,
        "checkpoint_interval_s": job.spec.checkpoint_interval or None,
        "resources": {
            "cpus": max(1, len(share.cpus)),
            "memory_bytes": share.memory_bytes or None,
            "scratch_bytes": share.scratch_bytes or None,
            "devices": list(share.devices),
        },
        "inputs": [each.name for each in job.spec.inputs],
        "paths": {
            "run": terms.run_dir,
            "inputs": "inputs.json",
            "events": "events.jsonl",
            "control": "control",
            "result": "result.json",
            "checkpoint": "checkpoint",
            "scratch": "/tmp",  # noqa: S108  the sandbox's own /tmp, as the payload sees it
        },
    }


def _input(each: Input, found: dict[str, int]) -> dict[str, object]:
    """As it reached the payload: this pilot stages every input, whatever `cache` or `auto` would allow."""
    return {"name": each.name, "url": each.url, "path": each.name, "bytes": found.get(each.name), "mode": "stage"}


def tell(sandbox: Sandbox, name: str, kind: str, reason: str, grace: float | None, now: float) -> None:
    """Leaves a message in control/, by rename: that the file is there is the message.

    The payload owns control/: one that put a link there, to have us write elsewhere, or removed it, hears nothing.
    """
    try:
        with below.folder(sandbox.work, "control") as control:
            _tell(sandbox, control, name, {"contract": VERSION, "type": kind, "reason": reason,
                                           "sent_utc": iso(now), "grace_s": grace})  # fmt: skip
    except OSError:
        return


def _tell(sandbox: Sandbox, control: int, name: str, message: dict[str, object]) -> None:
    part = sandbox.pilot / f"{name}.part"
    part.write_text(json.dumps({**message, "sequence": _sequence(control, name) + 1}))
    try:
        os.replace(part, name, dst_dir_fd=control)
    except IsADirectoryError:
        part.unlink()


def _sequence(control: int, name: str) -> int:
    try:
        document = _json(_read(os.open(name, _READ, dir_fd=control), RESULT_BYTES + 1, from_end=False))
    except OSError:
        return 0
    found = document.get("sequence") if isinstance(document, dict) else None
    return found if isinstance(found, int) else 0


def newest_generation(sandbox: Sandbox) -> str:
    """The name of the newest complete checkpoint, "" without one: complete is what has its generation.json."""
    try:
        with below.folder(sandbox.work, "checkpoint") as checkpoint:
            found = [each for each in os.listdir(checkpoint) if _GENERATION.fullmatch(each)]
            return max((each for each in found if _complete(checkpoint, each)), default="")
    except OSError:  # the payload has closed its directories: what cannot be read is no checkpoint
        return ""


def _complete(checkpoint: int, name: str) -> bool:
    """Looked at through one descriptor: the name may be a link a moment later."""
    try:
        generation = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=checkpoint)
    except OSError:
        return False
    try:
        return stat.S_ISREG(os.stat("generation.json", dir_fd=generation, follow_symlinks=False).st_mode)
    except OSError:
        return False
    finally:
        os.close(generation)


def ending_of(gone: Gone, sandbox: Sandbox, restored: str, contract: str = VERSION) -> Ending:
    """The evidence of one ending; `restored` is the generation that was there from the start, or "".

    A payload that knows no contract ("") may have a result.json of its own, which says nothing to us.
    """
    below.open_up(sandbox.work)
    below.open_up(sandbox.work, ".pilot")
    status, message = _result(sandbox.work) if contract else ("", "")
    newest = newest_generation(sandbox)
    return Ending(
        marker=_marker(sandbox.work),
        exit_code=gone.exit_code,
        signal=gone.signal,
        gone=gone.gone,
        result_status=status,
        result_message=message,
        fresh_checkpoint=newest not in ("", restored),
        stderr_tail=gone.error or tail(sandbox.logs / "stderr"),
        usage=Usage(cpu_seconds=round(gone.cpu_seconds, 6), memory_peak_bytes=gone.memory_peak_bytes),
    )


def _marker(work: Path) -> str:
    """What the entry script left; a marker that has been removed or emptied was so by a payload that ran."""
    said = _text(work, 200, ".pilot", "marker").strip() or "started"
    return "" if said == WAITING else said


def tail(path: Path) -> str:
    """The last lines of a log."""
    return _text(path.parent, TAIL_BYTES, path.name)


def _result(work: Path) -> tuple[str, str]:
    if not os.path.lexists(work / "result.json"):
        return "", ""
    document = _json(_text(work, RESULT_BYTES + 1, "result.json", from_end=False))
    if not isinstance(document, dict):
        return "invalid", "result.json is no JSON object"
    problem = _broken(document)
    status, message = ("invalid", problem) if problem else (document["status"], document.get("message", ""))
    return str(status), " ".join(str(message).split())[:MESSAGE_CHARACTERS]


def _broken(document: dict[str, object]) -> str:
    """What breaks the contract in a result, or nothing: the decisive part of schemas/result-1.0.json."""
    version = document.get("contract")
    if not isinstance(version, str) or version.partition(".")[0] != "1":
        return f"result.json: contract {version!r} is not 1.x"
    if document.get("status") not in STATUSES:
        return f"result.json: status {document.get('status')!r} is not one of {', '.join(sorted(STATUSES))}"
    loss = document.get("loss")
    if loss is not None and not _finite(loss):
        return "result.json: loss is not a finite number"
    if loss is not None and document["status"] == "diverged":
        return "result.json: a diverged training has no loss"
    objectives = document.get("objectives", {})
    if not isinstance(objectives, dict) or not all(map(_finite, objectives.values())):
        return "result.json: objectives are not finite numbers by name"
    return ""


def _finite(value: object) -> bool:
    """Python reads 1e999 as infinity, and whole numbers of any size."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def _json(text: str) -> object:
    if not text or len(text) > RESULT_BYTES:
        return None
    try:
        return json.loads(text, parse_constant=_refuse)  # NaN and infinities are no JSON
    except (ValueError, RecursionError):  # a hundred thousand brackets are no JSON of ours
        return None


def _refuse(name: str) -> object:
    raise ValueError(name)


def _text(root: Path, limit: int, *parts: str, from_end: bool = True) -> str:
    """Up to `limit` bytes of a regular file of the payload's; links are not followed."""
    try:
        return _read(below.file(root, *parts), limit, from_end)
    except OSError:
        return ""


def _read(descriptor: int, limit: int, from_end: bool) -> str:
    """Reads the open file, if it is one, and closes it."""
    with os.fdopen(descriptor, "rb") as file:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            return ""
        file.seek(max(0, found.st_size - limit) if from_end else 0)
        return file.read(limit).decode(errors="replace")
