"""The rows of the board: how jobs, pilots, faults and what waits are shown."""

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from pilot.core.reporting import clean
from pilot.model.capability import Offer
from pilot.model.faults import Fault
from pilot.model.job import Needs
from pilot.model.plain import from_plain
from pilot.model.queue import QueueSettings
from pilot.queue.explaining import iso
from pilot.queue.service.history import Sample
from pilot.queue.service.labels import cut
from pilot.queue.service.meter import FaultSeen

T = TypeVar("T")

LIVE_SECONDS = 180.0  # a pilot on an empty queue asks at least so often
TEXT_CAP = 500
VARIANTS_SHOWN = 4
UNITS = ((1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"))


@dataclass(frozen=True, slots=True)
class Counts:
    """Jobs by state, and those that are done by verdict."""

    waiting: int = 0
    held: int = 0
    granted: int = 0
    done: int = 0
    succeeded: int = 0
    failed: int = 0
    interrupted: int = 0
    cancelled: int = 0
    declined: int = 0


@dataclass(frozen=True, slots=True)
class OwnerCounts:
    """One owner's jobs."""

    owner: str
    counts: Counts


@dataclass(frozen=True, slots=True)
class ShapeRow:
    """Jobs that wait and ask for the same; `fits` of the `looked` offers that are alive could run them."""

    shape: int
    needs: str
    owner: str
    jobs: int
    oldest: str
    fits: int
    looked: int
    why: str


@dataclass(frozen=True, slots=True)
class PilotRow:
    """One pilot's last offer: what was free, when it was made, and how many jobs the pilot has."""

    pilot: str
    host: str
    seen: str
    live: bool
    cpus: int
    memory_bytes: int
    scratch_bytes: int
    seconds: float
    devices: tuple[str, ...]
    runtime: str
    jobs: int


@dataclass(frozen=True, slots=True)
class FaultRow:
    """One fault as it was reported."""

    at: str
    job_id: str
    name: str
    owner: str
    attempt: int
    pilot: str
    party: str
    code: str
    text: str
    remedy: str


@dataclass(frozen=True, slots=True)
class JobLine:
    """One job as the board shows it."""

    job_id: str
    name: str
    owner: str
    state: str
    verdict: str
    attempt: int
    priority: int
    added: str
    ended: str
    pilot: str
    phase: str
    progress: str
    told: str
    note: str


@dataclass(frozen=True, slots=True)
class BoardView:
    """Everything the web page shows at one moment; `owner`: whose jobs alone are counted and listed, "" = all."""

    version: str
    now: str
    started: str
    queue: QueueSettings
    counts: Counts
    owners: tuple[OwnerCounts, ...]
    shapes: tuple[ShapeRow, ...]
    pilots: tuple[PilotRow, ...]
    pilots_seen: int
    pilots_live: int
    faults: tuple[FaultRow, ...]
    jobs: tuple[JobLine, ...]
    more: bool
    overdue: int
    oldest_seconds: float
    file_bytes: int
    grants_per_second: float
    samples: tuple[Sample, ...] = ()
    owner: str = ""


def needs_text(needs: Needs) -> str:
    """What is asked for, in a few words."""
    parts = [f"{needs.cpus} cpu" + ("s" if needs.cpus != 1 else "")]
    if needs.memory_bytes:
        parts.append(size(needs.memory_bytes))
    if needs.gpus.count:
        memory = f" of {size(needs.gpus.memory_bytes)}" if needs.gpus.memory_bytes else ""
        parts.append(f"{needs.gpus.count} GPU{'s' if needs.gpus.count != 1 else ''}{memory}")
    if needs.scratch_bytes:
        parts.append(f"{size(needs.scratch_bytes)} disk")
    if needs.walltime_seconds:
        parts.append(span(needs.walltime_seconds))
    return ", ".join(parts)


def size(octets: float) -> str:
    """Octets in the largest unit of which there is at least one."""
    unit, name = next(((unit, name) for unit, name in UNITS if octets >= unit), (1, "B"))
    return f"{_short(octets / unit)} {name}"


def span(seconds: float) -> str:
    """A time in hours, or in minutes or seconds where it is shorter."""
    unit, name = next(((unit, name) for unit, name in ((3600, "h"), (60, "min")) if seconds >= unit), (1, "s"))
    return f"{_short(seconds / unit)} {name}"


def _short(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def variants_text(variants: Sequence[Needs]) -> str:
    """All variants, the first of them in words: what a submitter writes must not fill everybody's page."""
    said = "; or ".join(needs_text(each) for each in variants[:VARIANTS_SHOWN])
    more = len(variants) - VARIANTS_SHOWN
    return cut(f"{said}; or {more} more" if more > 0 else said, TEXT_CAP)


def amount(attribute: str, value: str) -> str:
    """What a clause wants or an offer has, in a unit for people: HTCondor counts memory in MiB and disk in KiB."""
    unit = {"Memory": 1 << 20, "Disk": 1 << 10}.get(attribute)
    return size(int(value) * unit) if unit and value.isdigit() else value


def read(kind: type[T], row: sqlite3.Row) -> T | None:
    """What a row's body holds; None where another version wrote it: the rest of the board is shown all the same."""
    try:
        return from_plain(kind, json.loads(row["body"]))
    except (ValueError, RecursionError):
        return None


# --- rows as the page shows them ---


def sum_of(groups: Sequence[sqlite3.Row]) -> Counts:
    """All jobs of these groups."""
    total: dict[str, int] = {}
    for row in groups:
        for name in {row["state"], row["verdict"]} - {""}:
            total[name] = total.get(name, 0) + row["jobs"]
    return Counts(**total)


def owner_counts(groups: Sequence[sqlite3.Row], only: str) -> tuple[OwnerCounts, ...]:
    """The jobs of each owner, or of one alone; who has most to do comes first."""
    names = dict.fromkeys(row["owner"] for row in groups if only in ("", row["owner"]))
    each = [OwnerCounts(name, sum_of([row for row in groups if row["owner"] == name])) for name in names]
    return tuple(sorted(each, key=lambda one: (-one.counts.waiting - one.counts.granted, one.owner)))


def pilot_row(row: sqlite3.Row, offer: Offer, jobs: int, live: bool) -> PilotRow:
    """One pilot."""
    return PilotRow(
        pilot=offer.pilot_id,
        host=offer.host,
        seen=iso(row["seen"]),
        live=live,
        cpus=offer.cpus,
        memory_bytes=offer.memory_bytes,
        scratch_bytes=offer.scratch_bytes,
        seconds=offer.seconds,
        devices=tuple(each.model for each in offer.devices),
        runtime=offer.runtime,
        jobs=jobs,
    )


def job_line(row: sqlite3.Row, now: float) -> JobLine:
    """One job."""
    return JobLine(
        job_id=row["job_id"],
        name=row["name"],
        owner=row["owner"],
        state=row["state"],
        verdict=row["verdict"],
        attempt=row["attempt"],
        priority=row["priority"],
        added=iso(row["added"]),
        ended=iso(row["ended"]),
        pilot=row["pilot"] if row["state"] == "granted" else "",
        phase=(row["phase"] or "") if row["state"] == "granted" else "",
        progress=(row["progress"] or "")[:TEXT_CAP] if row["state"] == "granted" else "",
        told=row["command"],
        note=_note(row, now),
    )


def _note(row: sqlite3.Row, now: float) -> str:
    """What the state alone does not say."""
    if row["state"] == "granted" and row["lease_until"] is not None and row["lease_until"] < now:
        return "its pilot is silent"
    if row["state"] != "waiting":
        return ""
    if row["blockers"]:
        return "waits for other jobs"
    return "waits a while after a failure" if row["not_before"] is not None else ""


def fault_row(seen: FaultSeen) -> FaultRow:
    """A fault that this service was told of."""
    fault = seen.fault
    text = clean(fault.detail or fault.message)[:TEXT_CAP]
    where = (iso(seen.at), seen.job_id, seen.name, seen.owner, seen.attempt, seen.pilot)
    return FaultRow(*where, fault.party.value, fault.code.value, text, fault.remedy)


def old_fault_row(row: sqlite3.Row) -> FaultRow:
    """A fault that the file remembers."""
    where = (iso(row["ended"]), row["job_id"], row["name"], row["owner"], row["attempt"], row["pilot"])
    try:
        fault = from_plain(Fault, json.loads(row["fault"]))
    except (ValueError, RecursionError):
        return FaultRow(*where, "", "", "a fault that this version cannot read", "")
    return FaultRow(*where, fault.party.value, fault.code.value, clean(fault.detail or fault.message)[:TEXT_CAP], "")
