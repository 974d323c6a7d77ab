"""A pilot's stay on a node: what it is told from outside, and what it leaves to be said."""

from dataclasses import dataclass
from enum import StrEnum

from pilot.model.faults import Fault


class Notice(StrEnum):
    """What a person, a signal or the site asks of the pilot: finish and go; stop the jobs and go; go at once."""

    DRAIN = "drain"
    STOP = "stop"
    LEAVE = "leave"


@dataclass(frozen=True, slots=True)
class Summary:
    """What one pilot did: jobs by verdict, why it left, and for how many seconds it lived.

    `parked` counts jobs whose outputs could not be stored, `unsent` reports that the queue has not taken.
    `trouble` is why the queue's last answer was none.
    """

    pilot_id: str
    why: str
    seconds: float
    verdicts: tuple[tuple[str, int], ...]
    parked: int
    unsent: int = 0
    trouble: Fault | None = None
