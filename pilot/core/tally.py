"""The jobs in a pilot's hands, counted as the steward sees them."""

from collections.abc import Iterable
from dataclasses import dataclass

from pilot.model.job import Job, Phase
from pilot.model.orders import Kind

_TELLING = frozenset({Kind.REPORT, Kind.RETURN})


@dataclass(frozen=True, slots=True)
class Tally:
    """The jobs and the free cores as they stand now; `wanted` counts cores of jobs that wait for their share.

    `telling` counts those of the busy jobs that are over but for what the queue has still to hear of them, `returning`
    those of these that are no more than claims to be given back.
    """

    free: int = 0
    wanted: int = 0
    waiting: int = 0
    claiming: tuple[str, ...] = ()
    busy: int = 0
    parked: int = 0
    tainted: bool = False
    telling: int = 0
    returning: int = 0


def tally(jobs: Iterable[Job], free: int) -> Tally:
    """Counts the jobs; `free` is the number of free cores, from the ledger."""
    known = tuple(jobs)
    waiting = tuple(each for each in known if each.phase in (Phase.STAGING_IN, Phase.READY))
    claiming = tuple(each.key for each in known if each.phase is Phase.CLAIMING)
    parked = sum(each.phase is Phase.PARKED for each in known)
    finished = sum(each.phase is Phase.CLOSED and not each.open for each in known)
    return Tally(
        free=free,
        wanted=sum(each.spec.needs[0].cpus for each in waiting),
        waiting=len(waiting),
        claiming=claiming,
        busy=len(known) - len(claiming) - parked - finished,
        parked=parked,
        tainted=any(each.tainted for each in known),
        telling=sum(each.phase is Phase.CLOSED and bool(each.open) and _only_told(each) for each in known),
        returning=sum(each.phase is Phase.CLOSED and each.grant is None and bool(each.open) for each in known),
    )


def _only_told(job: Job) -> bool:
    return all(kind in _TELLING for kind, _ in job.open)
