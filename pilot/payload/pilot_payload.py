"""Talk to the pilot from inside a payload: progress, checkpoints, results (contract 1.0, docs/contract.md).

One file, standard library only, Python 3.8 and later, because images are old and users copy it.
Outside a pilot (no PILOT_RUN_DIR) the same script runs on a laptop: progress is printed, nothing is sent.
"""

from __future__ import annotations

import json
import math
import os
import signal
import sys
import time
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from types import FrameType
from typing import Dict, Iterator, List, Mapping, NamedTuple, NoReturn, Optional, Union

HELPER_VERSION = "1.0.0"
CONTRACT_VERSION = "1.0"
CONTRACT_MAJOR = CONTRACT_VERSION.partition(".")[0]
EXIT_TRANSIENT = 75  # EX_TEMPFAIL: storage or network failed, try again
EXIT_CHECKPOINTED = 85  # HTCondor's habit for "saved, run me again"
EXIT_STOPPED = 99  # stopped on notice, with or without a checkpoint
STATUSES = ("succeeded", "failed", "diverged", "transient", "checkpointed")
# `default=float` below: a NumPy scalar is a number too, and this file cannot import NumPy to know it.
LINE_BYTES = 8192  # the pilot drops longer lines; one write(2) of this size is atomic on local file systems
RESULT_BYTES = 1 << 20  # a result is a summary: what is larger belongs in an output file
SAVE_MARGIN = 2.0  # a checkpoint under pressure may take twice as long as the slowest one so far
GENERATION_GLOB = "gen-" + 6 * "[0-9]"
KEPT_GENERATIONS = 2  # the pilot may still copy the one before the latest

Number = Union[int, float]


class ContractError(ValueError):
    """The contract with the pilot was broken; the message says by whom and what helps."""


class Generation(NamedTuple):
    """One complete checkpoint."""

    number: int
    path: Path
    step: Optional[int]

    @property
    def name(self) -> str:
        """Its directory's name, which the result and the pilot's reports use."""
        return f"gen-{self.number:06d}"


class Contract(NamedTuple):
    """The typed view of contract.json; `raw` keeps keys of later minor versions."""

    version: str
    job_id: str
    attempt: int
    kind: str
    seed: int
    deadline: Optional[float]
    grace_seconds: float
    cpus: int
    memory_bytes: Optional[int]
    inputs: List[str]
    run_dir: Path
    raw: Dict[str, object]


class _State:
    """What this process remembers between calls; one per process because signals are."""

    def __init__(self) -> None:
        self.signalled = False
        self.greeted = False
        self.torn = False  # the last event was cut short (disk full): the next starts on a new line
        self.complained = False
        self.last_save = time.monotonic()
        self.slowest_save = 0.0
        self.checkpoint_sequence = 0


_state = _State()


def inside_pilot() -> bool:
    """Whether a pilot runs this payload."""
    return bool(os.environ.get("PILOT_RUN_DIR"))


def run_dir() -> Path:
    """The working directory that the pilot shares with the payload, else the current one."""
    return Path(os.environ.get("PILOT_RUN_DIR") or os.getcwd())


def _check_version(version: object, where: str) -> str:
    if not isinstance(version, str) or version.partition(".")[0] != CONTRACT_MAJOR:
        raise ContractError(
            f"{where} speaks contract {version!r}, this pilot_payload.py {CONTRACT_VERSION}: "
            "remove the copy of pilot_payload.py from the job's code, the pilot brings its own"
        )
    return version


def _load(path: Path) -> Dict[str, object]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ContractError(f"{path}: not readable as JSON ({error}): the pilot writes this file") from error
    if not isinstance(document, dict):
        raise ContractError(f"{path}: not a JSON object: the pilot writes this file")
    return document


def contract() -> Optional[Contract]:
    """What was granted to this payload; None outside a pilot."""
    if not inside_pilot():
        return None
    return _contract(run_dir() / "contract.json")


@lru_cache(maxsize=None)  # read-only for as long as the payload runs, and asked for in every step
def _contract(path: Path) -> Contract:
    try:
        return _typed(_load(path))
    except (KeyError, TypeError) as error:
        raise ContractError(f"{path}: missing or malformed {error}: the pilot writes this file") from error


def _typed(document: Dict[str, object]) -> Contract:
    resources, names = document["resources"], document["inputs"]
    if not isinstance(resources, dict) or not isinstance(names, list):
        raise TypeError("resources, inputs")
    return Contract(
        version=_check_version(document["contract"], "contract.json"),
        job_id=str(document["job_id"]),
        attempt=int(str(document["attempt"])),
        kind=str(document["kind"]),
        seed=int(str(document["seed"])),
        deadline=deadline(),
        grace_seconds=float(str(document["grace_s"])),
        cpus=int(resources["cpus"]),
        memory_bytes=resources.get("memory_bytes"),
        inputs=[str(name) for name in names],
        run_dir=run_dir(),
        raw=document,
    )


def deadline() -> Optional[float]:
    """When the walltime ends, in seconds since 1970; None when nothing limits it."""
    text = os.environ.get("PILOT_DEADLINE")
    return float(text) if text else None


def seconds_left() -> float:
    """Seconds to the deadline; infinite without one."""
    end = deadline()
    return math.inf if end is None else end - time.time()


def seed(default: int = 0) -> int:
    """The job's seed: the same in every attempt, so that a resumed run is the same run."""
    return int(os.environ.get("PILOT_SEED") or default)


# --- payload to pilot ------------------------------------------------------------------------------------


def progress(
    epoch: Optional[Number] = None,
    step: Optional[int] = None,
    steps_total: Optional[int] = None,
    metrics: Optional[Mapping[str, Number]] = None,
    eta_seconds: Optional[float] = None,
) -> None:
    """Tell how far the work is; a metric that is not finite is sent as null and named."""
    numbers = {name: float(value) for name, value in (metrics or {}).items()}
    record = {"epoch": epoch, "step": step, "steps_total": steps_total, "eta_s": eta_seconds}
    broken = [name for name, value in numbers.items() if not math.isfinite(value)]
    event: Dict[str, object] = {key: value for key, value in record.items() if value is not None}
    event["metric"] = {name: None if name in broken else value for name, value in numbers.items()}
    _event("progress", dict(event, nonfinite=broken) if broken else event)


def log(message: str, level: str = "info") -> None:
    """Send one line to whoever watches the job (stdout stays the user's own)."""
    _event("log", {"message": message[:2000], "level": level})


def artifact(path: Union[str, Path], kind: str = "file") -> Path:
    """Announce a finished output file; it is stored at the end if the job declares it."""
    base, full = run_dir().resolve(), Path(path).resolve()
    if base not in full.parents:
        raise ContractError(f"artifact {path}: outside the working directory {base}: write outputs below it")
    _event("artifact", {"path": str(full.relative_to(base)), "bytes": full.stat().st_size, "kind": kind})
    return Path(path)


def _event(kind: str, fields: Mapping[str, object]) -> None:
    if not inside_pilot():
        print(f"[{kind}] " + " ".join(f"{k}={_short(v)}" for k, v in fields.items()), file=sys.stderr)
        return
    if not _state.greeted:
        _check_version(os.environ.get("PILOT_CONTRACT", CONTRACT_VERSION), "PILOT_CONTRACT")
        _state.greeted = True
        _append({"t": time.time(), "type": "hello", "contract": CONTRACT_VERSION, "helper": HELPER_VERSION})
    _append({"t": time.time(), "type": kind, **fields})


def _short(value: object) -> str:
    return json.dumps(value) if isinstance(value, (dict, list)) else str(value)


def _append(record: Mapping[str, object]) -> None:
    """Append one line with one write(2); a full disk loses the line, never the training."""
    line = (json.dumps(record, allow_nan=False, default=float, separators=(",", ":")) + "\n").encode()
    if len(line) > LINE_BYTES:
        raise ContractError(f"event of {len(line)} bytes: the limit is {LINE_BYTES}; send fewer metrics")
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        descriptor = os.open(str(run_dir() / "events.jsonl"), flags, 0o644)
        try:
            _state.torn = os.write(descriptor, b"\n" + line if _state.torn else line) < len(line)
        finally:
            os.close(descriptor)
    except OSError as error:
        if not _state.complained:
            print(f"pilot_payload: progress is not recorded: {error}", file=sys.stderr)
        _state.complained = True


def result(
    status: str = "succeeded",
    loss: Optional[float] = None,
    objectives: Optional[Mapping[str, float]] = None,
    message: str = "",
    metadata: Optional[Mapping[str, object]] = None,
    error: Optional[BaseException] = None,
) -> None:
    """Write result.json, which wins over the exit code; the last call counts."""
    numbers = dict(objectives or {})
    _check_result(status, loss, numbers)
    document: Dict[str, object] = {"contract": CONTRACT_VERSION, "status": status}
    document["loss"] = None if loss is None else float(loss)
    document["objectives"] = {name: float(value) for name, value in numbers.items()}
    document.update(message=(message or str(error or ""))[:1000], metadata=dict(metadata or {}))
    document["error"] = _described(error) if error is not None else None
    if status == "checkpointed":
        document["generation"] = _newest().name
    _store_result(document)


def _check_result(status: str, loss: Optional[float], objectives: Mapping[str, float]) -> None:
    if status not in STATUSES:
        raise ContractError(f"status {status!r}: one of {', '.join(STATUSES)}")
    if status == "diverged" and loss is not None:
        raise ContractError('status "diverged" goes with loss=None: a diverged training has no loss')
    for name, value in [("loss", loss), *objectives.items()]:
        if value is not None and not math.isfinite(value):
            raise ContractError(f'{name} is {value}: report status="diverged" with loss=None instead')


def _described(error: BaseException) -> Dict[str, str]:
    import traceback

    trace = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    return {"type": type(error).__name__[:200], "message": str(error)[:1000], "traceback": trace[-16000:]}


def _store_result(document: Mapping[str, object]) -> None:
    try:
        text = json.dumps(document, allow_nan=False, default=float, indent=1)
    except (ValueError, TypeError) as error:
        raise ContractError(f"result is not JSON ({error}): metadata takes plain, finite values") from error
    if len(text.encode()) > RESULT_BYTES:
        raise ContractError(f"result of {len(text)} bytes: the limit is {RESULT_BYTES}; use an output file")
    if inside_pilot():
        _replace(run_dir() / "result.json", text)
    else:
        print(f"[result] {text}", file=sys.stderr)


def _replace(path: Path, text: str) -> None:
    """Write by rename, so that a reader sees all or nothing."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_text(text, encoding="utf-8")
    _sync(temporary)
    os.replace(str(temporary), str(path))
    _sync(path.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(str(path), os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# --- checkpoints -----------------------------------------------------------------------------------------


def latest() -> Optional[Generation]:
    """The newest complete checkpoint, of this attempt or restored from an earlier one."""
    # By name, not by LATEST: a crash between the rename and LATEST leaves a complete generation without it.
    found = [_generation(path) for path in sorted((run_dir() / "checkpoint").glob(GENERATION_GLOB))]
    complete = [generation for generation in found if generation is not None]
    return complete[-1] if complete else None


def _newest() -> Generation:
    newest = latest()
    if newest is None:
        raise ContractError('status "checkpointed" without a checkpoint: save one with checkpoint() first')
    return newest


def _generation(path: Path) -> Optional[Generation]:
    meta = path / "generation.json"
    if not meta.is_file():
        return None
    step = _load(meta).get("step")
    return Generation(int(path.name[len("gen-") :]), path, step if isinstance(step, int) else None)


@contextmanager
def checkpoint(step: Optional[int] = None) -> Iterator[Path]:
    """Give a directory to save into; it becomes the latest generation, or vanishes if the block fails."""
    import shutil

    began, asked, before = time.monotonic(), _requested(), latest()
    number = 1 + (before.number if before else 0)
    final = run_dir() / "checkpoint" / f"gen-{number:06d}"
    working = final.with_name(final.name + ".tmp")
    shutil.rmtree(str(working), ignore_errors=True)  # left by a payload that was killed while saving
    working.mkdir(parents=True)
    try:
        yield working
        size = _seal(working, step)
        os.replace(str(working), str(final))
    except BaseException:
        shutil.rmtree(str(working), ignore_errors=True)
        raise
    _sync(final.parent)
    _replace(final.parent / "LATEST", final.name + "\n")
    for old in sorted(final.parent.glob(GENERATION_GLOB))[:-KEPT_GENERATIONS]:
        shutil.rmtree(str(old), ignore_errors=True)
    _state.checkpoint_sequence = asked  # a request that came while saving is still open
    _saved(Generation(number, final, step), size, time.monotonic() - began)


def _seal(directory: Path, step: Optional[int]) -> int:
    """Force a generation to disk before its name says that it is complete; gives its size."""
    meta = {"contract": CONTRACT_VERSION, "step": step, "seed": seed(), "saved": time.time()}
    (directory / "generation.json").write_text(json.dumps(meta), encoding="utf-8")
    entries = sorted(directory.rglob("*"), reverse=True)
    for entry in entries:
        if not entry.is_symlink():
            _sync(entry)
    _sync(directory)
    return sum(entry.stat().st_size for entry in entries if entry.is_file())


def _saved(generation: Generation, size: int, seconds: float) -> None:
    _state.last_save = time.monotonic()
    _state.slowest_save = max(_state.slowest_save, seconds)
    record: Dict[str, object] = {"generation": generation.number, "bytes": size, "seconds": seconds}
    record["path"] = f"checkpoint/{generation.name}"
    _event("checkpoint", record if generation.step is None else dict(record, step=generation.step))


# --- pilot to payload ------------------------------------------------------------------------------------


def stop_on_signals() -> None:
    """Let SIGTERM and SIGINT only set a flag, so that the training loop may save and leave by itself."""

    def note(_number: int, _frame: Optional[FrameType]) -> None:
        _state.signalled = True

    signal.signal(signal.SIGTERM, note)
    signal.signal(signal.SIGINT, note)


def should_stop() -> bool:
    """Whether to save and leave now: the pilot said so, a signal came, or the walltime is nearly over."""
    return _state.signalled or _told("PREEMPT.json") or seconds_left() < SAVE_MARGIN * _state.slowest_save


def should_drain() -> bool:
    """Whether to begin nothing new (toys, requests, points); what is begun may finish."""
    return should_stop() or _told("DRAIN")


def should_checkpoint() -> bool:
    """Whether to save now: stopping, asked for, or the job's interval has passed."""
    if not inside_pilot():
        return _state.signalled
    return should_stop() or _requested() > _state.checkpoint_sequence or _interval_passed()


def leave() -> NoReturn:
    """End after a notice: exit 85 and result `checkpointed` where a generation is there, else exit 99."""
    newest = latest()
    if newest is None:
        raise SystemExit(EXIT_STOPPED)
    result("checkpointed", message=f"saved {newest.name}, ready to resume")
    raise SystemExit(EXIT_CHECKPOINTED)


def _told(name: str) -> bool:
    return inside_pilot() and (run_dir() / "control" / name).exists()


def _requested() -> int:
    """The number of the last CHECKPOINT_NOW; 1 when the message has no readable number."""
    path = run_dir() / "control" / "CHECKPOINT_NOW"
    if not inside_pilot() or not path.exists():
        return 0
    try:
        return int(str(_load(path).get("sequence", 1)))
    except ValueError:  # an empty file, made by hand, is a request too
        return 1


def _interval_passed() -> bool:
    granted = contract()
    interval = granted.raw.get("checkpoint_interval_s") if granted else None
    return isinstance(interval, (int, float)) and time.monotonic() - _state.last_save >= interval
