"""The order that `after` asks for: names and ids become edges between jobs, and circles are refused."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter

from pilot.model.faults import Code
from pilot.model.queue import Submission
from pilot.ports import Final

Known = Callable[[str], bool]


@dataclass(frozen=True, slots=True)
class Batch:
    """Jobs handed in together, with their final ids; `named` maps a name to the ids that bear it."""

    jobs: tuple[Submission, ...]
    named: Mapping[str, tuple[str, ...]]


def batch_of(jobs: Sequence[Submission]) -> Batch:
    """The jobs, which have their ids by now."""
    named: dict[str, tuple[str, ...]] = {}
    for each in jobs:
        named[each.spec.name] = (*named.get(each.spec.name, ()), each.job_id)
    return Batch(tuple(jobs), named)


def predecessors(batch: Batch, known: Known) -> dict[str, tuple[str, ...]]:
    """For each job of the batch the ids that it comes after; refuses what is not there, and circles."""
    ids = {each.job_id for each in batch.jobs}
    found = {
        each.job_id: tuple(dict.fromkeys(_resolve(each, wanted, batch, ids, known) for wanted in each.spec.after))
        for each in batch.jobs
    }
    _refuse_circles(found, batch)
    return found


def _resolve(job: Submission, wanted: str, batch: Batch, ids: set[str], known: Known) -> str:
    if wanted in ids:
        return wanted
    bearers = batch.named.get(wanted, ())
    if len(bearers) > 1:
        raise Final(Code.JOB_INVALID, f"{job.spec.name}: after: {len(bearers)} jobs are named {wanted!r}; give an id")
    if bearers:
        return bearers[0]
    if known(wanted):
        return wanted
    hint = "give the id of a job in the queue, or a name given in the same add"
    raise Final(Code.JOB_INVALID, f"{job.spec.name}: after: no job {wanted!r}; {hint}")


def _refuse_circles(found: Mapping[str, tuple[str, ...]], batch: Batch) -> None:
    names = {each.job_id: each.spec.name for each in batch.jobs}
    try:
        TopologicalSorter(found).prepare()
    except CycleError as circle:
        path = " after ".join(names.get(each, each) for each in reversed(circle.args[1]))
        raise Final(Code.JOB_INVALID, f"after: a circle: {path}; leave one of them out") from None
