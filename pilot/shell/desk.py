"""What the loop works with."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pilot.model.facts import Fact, Go
from pilot.model.job import Job
from pilot.model.orders import Kind
from pilot.model.report import Isolation, Report
from pilot.ports import Clock, Journal
from pilot.shell.errands import Errands
from pilot.shell.eyes import Eyes

OnReport = Callable[[Report, bool], None]


@dataclass(frozen=True, slots=True)
class Ears:
    """Who is told what the loop does; of a report also whether the queue took it."""

    on_report: OnReport
    on_fact: Callable[[Job, Job, Fact], None]
    on_event: Callable[[str, dict[str, object]], None]
    on_go: Callable[[Job, Go], None]
    on_over: Callable[[Job], None]


@dataclass(frozen=True, slots=True)
class Desk:
    """What the loop works with, beside the crew; `grace` and the site's own `deadlines` of orders in seconds."""

    clock: Clock
    journal: Journal
    errands: Errands
    eyes: Eyes
    ears: Ears
    isolation: Callable[[Job], Isolation]
    hurry: Callable[[Job], None]
    unit_random: Callable[[], float]
    pilot_id: str
    grace: float
    deadlines: Mapping[Kind, float]
