"""The pilot's own log: one JSON line per fact, for programs; one short line each on a terminal, for people.

Fields: `time` (UTC, ISO 8601), `level`, `event`, `pilot` (the correlation id from batch job to stage-out), and
for a job `job`, `attempt`, `phase`, `verdict`, `fault`. Text that comes from payloads and queues is stripped of
control characters. The file is capped: when it is full it becomes `.1` and a new one begins.
"""

import contextlib
import json
import os
import sys
from collections.abc import MutableMapping
from functools import lru_cache
from pathlib import Path

import structlog

from pilot.core.reporting import clean, iso
from pilot.model.facts import Broke, End, Fact
from pilot.model.job import Job, Phase
from pilot.ports import Clock

LOG_BYTES = 20_000_000
_WORD = 60  # characters
LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}
_TROUBLES = frozenset({"look failed", "claim broke", "report broke", "return broke", "heartbeat failed"})
_QUIET = frozenset({"Claiming", "Nothing", "Saved", "Stopped", "Swept", "Returned", "Go"})


class Telemetry:
    """Writes the log; safe from any thread."""

    def __init__(self, path: Path, clock: Clock, pilot_id: str, level: str = "info") -> None:
        self._clock = clock
        self._path = path
        self._file = _open(path)
        self._size = os.fstat(self._file).st_size
        self._stories: dict[str, list[str]] = {}
        self._terminal = sys.stderr if sys.stderr.isatty() else None
        self._log = structlog.wrap_logger(
            _Sink(self),
            processors=[self._stamp, _clean_all, structlog.processors.JSONRenderer(serializer=_json)],
            wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
            pilot=pilot_id,
        ).bind()  # once, not for every line

    def event(self, event: str, fields: dict[str, object], level: str = "") -> None:
        """One line about the pilot itself."""
        getattr(self._log, level or ("warning" if event in _TROUBLES else "info"))(event, **fields)

    def fact(self, before: Job, after: Job, fact: Fact, story: Path | None) -> None:
        """One line for one fact of a job; the job's own part of the log is written when its files are to be stored."""
        name = type(fact).__name__
        log = self._log.debug if name in _QUIET else self._log.info
        line = log(name, **_of_job(before, after), **_of_fact(fact))
        if isinstance(line, str):
            self._stories.setdefault(after.key, []).append(line)
        if after.phase is not before.phase and after.phase in (Phase.STAGING_OUT, Phase.CLOSED):
            lines = self._stories.pop(after.key, [])
            if story is not None and lines:
                _tell(story, "\n".join(lines))

    def write(self, line: str) -> str:
        """Appends one finished line; gives it back. A full disk costs the line, not the pilot."""
        with contextlib.suppress(OSError):
            self._append(f"{line}\n".encode(errors="replace"))
        if self._terminal is not None:
            self._terminal.write(_for_people(line))
        return line

    def _append(self, data: bytes) -> None:
        self._size += os.write(self._file, data)
        if self._size > LOG_BYTES:
            os.replace(self._path, self._path.with_suffix(".log.1"))
            os.close(self._file)
            self._file, self._size = _open(self._path), 0

    def close(self) -> None:
        """Closes the file."""
        os.close(self._file)

    def _stamp(self, _: object, level: str, fields: MutableMapping[str, object]) -> MutableMapping[str, object]:
        return {"time": iso(self._clock.wall()), "level": level, **fields}


class _Sink:
    """What structlog writes to: every level ends in the same place."""

    def __init__(self, telemetry: Telemetry) -> None:
        self.debug = self.info = self.warning = self.error = telemetry.write


def _open(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _tell(path: Path, line: str) -> None:
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
    except OSError:
        return  # the sandbox is gone already: the pilot's own log has the line


def _clean_all(_: object, __: str, fields: MutableMapping[str, object]) -> MutableMapping[str, object]:
    return {key: _cleaned(value) if isinstance(value, str) else value for key, value in fields.items()}


def _cleaned(value: str) -> str:
    return _clean_word(value) if len(value) < _WORD else clean(value)


_clean_word = lru_cache(1024)(clean)  # names of phases, events, jobs: the same ones in many lines
_encode = json.JSONEncoder(default=repr).encode


def _json(fields: object, **_: object) -> str:
    return _encode(fields)


def _of_job(before: Job, after: Job) -> dict[str, object]:
    found: dict[str, object] = {"phase": after.phase.value, "claim": after.key}
    if after.grant is not None:
        found.update(job=after.grant.job_id, attempt=after.grant.attempt)
    if after.verdict is not None and after.verdict is not before.verdict:
        found["verdict"] = after.verdict.value
    if after.fault is not None and after.fault is not before.fault:
        found.update(fault=after.fault.code.value, detail=after.fault.detail)
    return found


def _of_fact(fact: Fact) -> dict[str, object]:
    if isinstance(fact, Broke):
        return {"order": fact.kind.value, "broke": fact.fault.code.value, "why": fact.fault.detail}
    return {"cause": fact.cause.value} if isinstance(fact, End) else {}


def _for_people(line: str) -> str:
    fields = json.loads(line)
    named = " ".join(
        f"{key}={fields[key]}" for key in fields if key not in ("time", "level", "event", "pilot", "claim")
    )
    return f"{fields['time'][11:23]} {fields['event']:<12} {named}\n"
