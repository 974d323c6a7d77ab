"""Jobs by their row's number, which is what PanDA's clients know them by."""

from collections.abc import Sequence
from dataclasses import dataclass

from pilot.model.job import JobSpec
from pilot.queue.store import Store
from pilot.queue.templates import Templates

ROW = "SELECT job, job_id, queue, attempt, state, verdict, name, template, own FROM job WHERE job = ?"
NUMBER = "SELECT job FROM job WHERE job_id = ?"


@dataclass(frozen=True, slots=True)
class Row:
    """One job as far as PanDA's calls go."""

    number: int
    job_id: str
    queue: str
    attempt: int
    state: str
    verdict: str
    spec: JobSpec


def row_of(store: Store, number: int) -> Row | None:
    """The job of that number."""
    with store.reading() as db:
        found = db.execute(ROW, (number,)).fetchone()
        if found is None:
            return None
        spec = Templates().spec(db, found)
    return Row(number, found["job_id"], found["queue"], found["attempt"], found["state"], found["verdict"], spec)


def ids_of(store: Store, job_ids: Sequence[str]) -> dict[str, int]:
    """The numbers of those jobs."""
    with store.reading() as db:
        return {each: int(db.execute(NUMBER, (each,)).fetchone()["job"]) for each in job_ids}
