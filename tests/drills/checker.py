"""What must hold after a round, whatever was killed: from the queue's file, the store, /proc and the journal alone.

Nothing of the pilot is asked here: the tables are read with SQL, checksums are computed again.
"""

import hashlib
import json
import os
import sqlite3
import tarfile
import time
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from tests.drills.menu import ARCHIVE, Expected, Scenario

GONE_WITHIN_SECONDS = 10.0
SETTLED_WITHIN_SECONDS = 5.0


@dataclass
class Restart:
    """A pilot was killed: since when it had lived, which attempts it had then, which reports were accepted by then."""

    began: float
    leased: frozenset[tuple[str, int]]
    accepted: frozenset[tuple[str, int, str]]
    restarted: float = 0.0


@dataclass
class Round:
    """All that the checker looks at."""

    root: Path
    state: Path
    expected: dict[str, Expected]
    scenario: Scenario
    restarts: list[Restart] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    slowest: float = 0.0

    def query(self, text: str) -> list[sqlite3.Row]:
        with closing(sqlite3.connect(f"file:{self.root}/queue.db?mode=ro", uri=True, timeout=30)) as db:
            db.row_factory = sqlite3.Row
            return db.execute(text).fetchall()

    def snapshot(self) -> tuple[frozenset[tuple[str, int]], frozenset[tuple[str, int, str]]]:
        """The attempts that somebody has, and the reports that have been accepted."""
        leased = {(row["job_id"], row["attempt"]) for row in self.attempts() if row["state"] == "leased"}
        return frozenset(leased), frozenset((job, number, body) for job, number, body, _ in self.reports())

    def attempts(self) -> list[sqlite3.Row]:
        return self.query("SELECT job_id, granted.attempt, granted.state FROM granted JOIN job USING (job)")

    def reports(self) -> list[tuple[str, int, str, float]]:
        rows = self.query("SELECT job_id, report.attempt, body, received FROM report JOIN job USING (job)")
        return [tuple(row) for row in rows]

    def all_done(self) -> bool:
        return not self.query("SELECT 1 FROM job WHERE state != 'done'")

    def ended_well(self, code: int | None, blow: str) -> None:
        if code not in (0, 143):
            self.problems.append(f"a pilot ended with {code} after {blow}")


def check(round_: Round) -> list[str]:
    """Everything that is wrong, one line each."""
    checks = (
        _queue,
        _jobs,
        _one_result,
        _archives,
        _whole,
        _nothing_taken_back,
        _settled_soon,
        _started_once,
        _journal,
        _same_story,
        _words,
        _left,
    )
    return [*round_.problems, *(line for each in checks for line in each(round_))]


# --- the queue ------------------------------------------------------------------------------------------------------


def _queue(round_: Round) -> Iterator[str]:
    for pragma in ("integrity_check", "foreign_key_check"):
        rows = [tuple(row) for row in round_.query(f"PRAGMA {pragma}")]
        if rows not in ([("ok",)], []):
            yield f"{pragma}: {rows}"
    for row in round_.attempts():
        if row["state"] == "leased":
            yield f"{row['job_id']}.{row['attempt']}: nobody has it, and it was neither reported nor returned"
    reported = {(row["job_id"], row["attempt"]) for row in round_.attempts() if row["state"] == "reported"}
    bodies = {(job, number) for job, number, _, _ in round_.reports()}
    if reported != bodies:
        yield f"reports {sorted(bodies)} are not those of the attempts that count as reported: {sorted(reported)}"


def _jobs(round_: Round) -> Iterator[str]:
    rows = {row["job_id"]: row for row in round_.query("SELECT job_id, state, verdict, attempt, fault FROM job")}
    for job, expected in round_.expected.items():
        row = rows[job]
        if row["state"] != "done" or row["verdict"] not in expected.verdicts:
            yield f"{job}: {row['state']} {row['verdict']} {row['fault'] or ''}, expected {sorted(expected.verdicts)}"
        elif row["verdict"] != "succeeded" and json.loads(row["fault"])["code"] not in expected.faults:
            yield f"{job}: {row['fault']}, expected {sorted(expected.faults)}"


# --- results --------------------------------------------------------------------------------------------------------


def _one_result(round_: Round) -> Iterator[str]:
    successes = Counter[str]()
    for job, attempt, body, _ in round_.reports():
        report = json.loads(body)
        if (report["job_id"], report["attempt"]) != (job, attempt):
            yield f"{job}.{attempt}: the report of {report['job_id']}.{report['attempt']} was accepted for it"
        if report["verdict"] == "succeeded":
            successes[job] += 1
            yield from _outputs(round_, report)
    for job, count in successes.items():
        if count > 1:
            yield f"{job}: {count} results were accepted"
    for part in (*round_.root.glob("out/**/.part-*"), *round_.root.glob("shut/**/.part-*")):
        yield f"{part}: a part of a file was left in the store"


def _outputs(round_: Round, report: dict[str, Any]) -> Iterator[str]:
    label = f"{report['job_id']}.{report['attempt']}"
    expected = round_.expected[report["job_id"]]
    told = {each["name"]: each for each in report.get("outputs", [])}
    if set(told) != set(expected.outputs):
        yield f"{label}: succeeded with outputs {sorted(told)}, expected {sorted(expected.outputs)}"
        return
    for name, each in told.items():
        place = round_.root / expected.base / report["job_id"] / str(report["attempt"]) / name
        if Path(unquote(urlsplit(each["url"]).path)) != place:
            yield f"{label}: {name} is said to be at {each['url']}, expected {place}"
        yield from _bytes(label, place, each, expected.outputs[name])


def _archives(round_: Round) -> Iterator[str]:
    """Whatever the verdict: who asked for an archive of all logs is told of a whole one."""
    for job, attempt, body, _ in round_.reports() if round_.scenario.name == "plain" else ():
        place, told = round_.root / "out" / job / str(attempt) / ARCHIVE, json.loads(body).get("archive")
        if told is None or not place.is_file():
            yield f"{job}.{attempt}: no archive of its logs, {place} is said to be {told}"
            continue
        yield from _bytes(f"{job}.{attempt}", place, told, place.read_bytes())
        ran = "exit_code" in json.loads(body) or "signal" in json.loads(body)  # else nothing was ever started
        with tarfile.open(place) as tar:
            if not {"pilot.log", *(("stdout.log", "stderr.log") if ran else ())} <= set(tar.getnames()):
                yield f"{place}: holds {tar.getnames()}"


def _bytes(label: str, place: Path, told: dict[str, Any], expected: bytes) -> Iterator[str]:
    if not place.is_file():
        yield f"{label}: {place} is not there"
        return
    data = place.read_bytes()
    found = (len(data), f"{zlib.adler32(data):08x}", hashlib.sha256(data).hexdigest())
    if found != (told.get("bytes", told.get("size", 0)), told["adler32"], told["sha256"]):
        yield f"{label}: {place} is not what the report says: {found}"
    if data != expected:
        yield f"{label}: {place} holds {data[:60]!r}, expected {expected!r}"


def _whole(round_: Round) -> Iterator[str]:
    """Whoever stored it, and whatever became of that attempt: what has a name in the store is whole."""
    for job, expected in round_.expected.items():
        for name, data in expected.outputs.items():
            for place in (round_.root / expected.base / job).glob(f"*/{name}"):
                if place.read_bytes() != data:
                    yield f"{place}: holds {place.read_bytes()[:60]!r}, expected {data!r}"


def _nothing_taken_back(round_: Round) -> Iterator[str]:
    now = frozenset((job, number, body) for job, number, body, _ in round_.reports())
    for restart in round_.restarts:
        for job, number, _ in restart.accepted - now:
            yield f"{job}.{number}: its accepted result was lost or changed"


def _settled_soon(round_: Round) -> Iterator[str]:
    received = {(job, number): at for job, number, _, at in round_.reports()}
    following = [*(each.leased for each in round_.restarts[1:]), frozenset()]
    for restart, later in zip(round_.restarts, following, strict=False):
        for attempt in restart.leased - later:  # one that the next dead pilot had as well is counted from there
            seconds = received.get(attempt, restart.restarted) - restart.restarted
            round_.slowest = max(round_.slowest, seconds)
            if seconds > SETTLED_WITHIN_SECONDS + round_.scenario.payload_seconds:
                yield f"{attempt}: settled {seconds:.1f} s after the restart"


def _started_once(round_: Round) -> Iterator[str]:
    ledger = round_.root / "ledger"
    lines = ledger.read_text().splitlines() if ledger.exists() else []
    granted = {(row["job_id"], str(row["attempt"])) for row in round_.attempts()}
    starts = Counter(tuple(line.split()[:2]) for line in lines)
    for attempt, count in starts.items():
        if count > 1:
            yield f"{'.'.join(attempt)}: its payload was started {count} times"
        if attempt not in granted:
            yield f"{'.'.join(attempt)}: its payload was started, and it was never granted"


# --- what is left ---------------------------------------------------------------------------------------------------


def _journal(round_: Round) -> Iterator[str]:
    for segment in sorted(round_.root.glob("*state/journal/*.jsonl")):
        lines = segment.read_bytes().rstrip(b"\0").splitlines(keepends=True)  # room that is held is empty bytes
        good = [_record(line) is not None for line in lines]
        if not all(good[:-1]):
            yield f"{segment}: a line that is not the last is damaged"
    for part in round_.root.glob("*state/journal/*.part"):
        yield f"{part}: left over"


def _record(line: bytes) -> dict[str, Any] | None:
    checksum, _, text = line.rstrip(b"\n").partition(b" ")
    whole = line.endswith(b"\n") and checksum == b"%08x" % zlib.crc32(text)
    return json.loads(text) if whole else None


def _same_story(round_: Round) -> Iterator[str]:
    """What the queue counts as reported, a journal knows to be acknowledged; and nothing else."""
    told: set[tuple[str, int]] = set()
    for journal in round_.root.glob("*state/journal"):
        told |= _acknowledged(journal)
    accepted = {(job, number) for job, number, _, _ in round_.reports()}
    if told != accepted:
        yield f"the queue has the reports of {sorted(accepted)}, the journals of {sorted(told)}"


def _acknowledged(journal: Path) -> set[tuple[str, int]]:
    attempts: dict[str, tuple[str, int]] = {}
    told = set()
    for segment in sorted(journal.glob("*.jsonl")):
        for line in segment.read_bytes().rstrip(b"\0").splitlines(keepends=True):
            record = _record(line) or {"k": "", "f": {"is": ""}}
            fact = record["f"]
            grant = fact.get("grant") or fact.get("job", {}).get("grant")
            if grant:
                attempts[record["k"]] = (grant["job_id"], grant["attempt"])
            if fact["is"] == "Acknowledged" and fact.get("accepted", True):
                told.add(attempts.get(record["k"], (record["k"], 0)))
    return told


def _words(round_: Round) -> Iterator[str]:
    for name in ("stderr", "state/supervisor.log"):
        file = round_.root / name
        if file.exists() and ("Traceback" in file.read_text() or "internal error" in file.read_text()):
            yield f"{file}: {file.read_text()[-600:]}"


def _left(round_: Round) -> Iterator[str]:
    deadline = time.monotonic() + GONE_WITHIN_SECONDS
    while (left := processes_of(round_.root)) and time.monotonic() < deadline:
        time.sleep(0.02)
    yield from (f"a process was left: {each}" for each in left)
    if str(round_.root) in Path("/proc/self/mountinfo").read_text():
        yield "a mount was left"
    yield from (f"a sandbox was left: {each}" for each in round_.root.glob("*state/scratch/jobs/*"))


def processes_of(root: Path) -> list[str]:
    """Every living process that has the round's folder in its command line or environment."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            words = _speaks_of(entry, os.fsencode(root) + b"/")
            if words:
                found.append(words)
    return found


def _speaks_of(process: Path, text: bytes) -> str:
    try:
        command, environment = (process / "cmdline").read_bytes(), (process / "environ").read_bytes()
        state = (process / "stat").read_bytes().rpartition(b") ")[2][:1]
    except OSError:
        return ""
    ours = text in command or text in environment
    return f"{process.name} {state.decode()} {command[:200]!r}" if ours and state not in b"ZX" else ""
