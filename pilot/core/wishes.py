"""What the steward may want of the loop."""

from dataclasses import dataclass

from pilot.model.faults import Code
from pilot.model.job import Cause


@dataclass(frozen=True, slots=True)
class Claim:
    """Ask the queue for a job under that id: a new one, or again."""

    claim_id: str


@dataclass(frozen=True, slots=True)
class Look:
    """Ask the queue, cheaply, whether claiming again may help; `looked` takes the answer."""


@dataclass(frozen=True, slots=True)
class Drop:
    """That claim is not wanted any more: end its job while it is still claiming."""

    claim_id: str


@dataclass(frozen=True, slots=True)
class EndAll:
    """Every job is to end: PREEMPTED first; TIME_UP when the last window is nearly over and storing must end too."""

    cause: Cause
    code: Code


@dataclass(frozen=True, slots=True)
class Leave:
    """The pilot is done; `at_once` = do not wait for jobs: stop, report what can be reported, go."""

    at_once: bool = False


Wish = Claim | Look | Drop | EndAll | Leave
