"""Facts as journal lines and back, and the folding of a journal into the jobs it tells of."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import cast

from pilot.core.lifecycle import advance
from pilot.core.reporting import Dossier, note, passed
from pilot.model import facts
from pilot.model.copies import replace
from pilot.model.facts import Fact
from pilot.model.job import Job
from pilot.model.plain import from_plain, to_plain
from pilot.ports import Line

_KINDS: dict[str, type] = {
    kind.__name__: kind
    for kind in vars(facts).values()
    if isinstance(kind, type) and issubclass(kind, facts.Answer | facts.News)
}
SNAPSHOT = "Snapshot"


@dataclass(frozen=True, slots=True)
class Held:
    """One job in the pilot's hands, with all that was seen of it."""

    job: Job
    dossier: Dossier = field(default_factory=Dossier)


def line_of(fact: Fact, wall: float, mono: float) -> Line:
    """The journal line of a fact."""
    plain = cast(dict[str, object], to_plain(fact))
    del plain["key"]
    return Line(wall, mono, fact.key, {"is": type(fact).__name__, **plain})


def fact_of(line: Line) -> Fact:
    """The fact of a journal line; raises PlainError where it is none."""
    data = {**line.fact, "key": line.key}
    kind = _KINDS[cast(str, data.pop("is"))]
    return cast(Fact, from_plain(kind, data))


def snapshot(held: Held, wall: float, mono: float) -> Line:
    """One line that tells all of a job: the head of a new segment."""
    plain = {"is": SNAPSHOT, "job": to_plain(held.job), "dossier": to_plain(held.dossier)}
    return Line(wall, mono, held.job.key, plain)


def step(held: Held, fact: Fact, wall: float, mono: float) -> tuple[Held, tuple[object, ...]]:
    """The job and its dossier after a fact, and the orders that follow."""
    job, orders = advance(held.job, fact)
    dossier = held.dossier
    if job is not held.job or orders:
        dossier = passed(note(dossier, fact, wall), held.job.phase, job.phase, mono)
    return replace(held, job=job, dossier=dossier), orders


def fold(lines: Iterable[Line]) -> dict[str, Held]:
    """The jobs that a journal tells of, as they stood at its end; finished ones are left out."""
    held: dict[str, Held] = {}
    for line in lines:
        held[line.key] = folded(held.get(line.key), line)
    return {key: each for key, each in held.items() if not is_over(each.job)}


def is_over(job: Job) -> bool:
    """Closed, and nothing is left to be answered."""
    return job.phase == "closed" and not job.open


def folded(before: Held | None, line: Line) -> Held:
    """A job after one more line of the journal."""
    if line.fact.get("is") == SNAPSHOT:
        return Held(from_plain(Job, line.fact["job"]), from_plain(Dossier, line.fact["dossier"]))
    start = before or Held(Job(line.key), Dossier(since=line.mono))
    return step(start, fact_of(line), line.wall, line.mono)[0]
