"""Whose turn it is: the place of a job among its owner's, the turn of an owner among owners, and who waited too long.

*Place.* A point of priority counts as a day of arrival: a job goes before all that arrived no more than a day later
for each point that it has more. So higher priorities come first, and yet none is passed over for ever.

*Share.* Owners go by the cores they use: those they hold now, and those they held of late, forgotten by half in a day.
That is HTCondor's user priority, pi(t) = b pi(t - dt) + (1 - b) rho(t) with b = 0.5^(dt / half-life) and a half-life
of a day (its manual, "User priorities and negotiation"), integrated over each attempt when it ends. The
owner who uses least goes first; those who use the same take turns, because a grant counts at once.

*Patience.* A lane (the jobs of one shape) from which nothing was given for ten minutes is overdue. After three grants
by share the next that fits an overdue lane goes to the one that has waited longest. So the first job of a lane that
offers fit waits at most ten minutes, and beyond that four grants for each overdue lane that has waited longer.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from pilot.model.job import Needs

HALF_LIFE_SECONDS = 86_400.0  # HTCondor's PRIORITY_HALFLIFE
POINT_MILLISECONDS = 86_400_000  # a point of priority: a day of arrival
PATIENCE_SECONDS = 600.0
OVERDUE_EVERY = 4  # of so many grants one goes to who has waited too long, if somebody has
ACCELERATOR_CORES = 16  # what a node has of cores for each of its accelerators, roughly; whoever holds one idles those


@dataclass(frozen=True, slots=True)
class Use:
    """The cores an owner holds (`running`), and at that time had held of late (`recent`, smoothed)."""

    running: int = 0
    recent: float = 0.0
    at: float = 0.0


def place(added: float, priority: int) -> int:
    """Where a job stands among its owner's: the smallest is first; in milliseconds."""
    return int(added * 1000) - priority * POINT_MILLISECONDS


def weight(needs: Sequence[Needs]) -> int:
    """The cores that a job counts as, by the first variant of its needs."""
    return max(1, needs[0].cpus, needs[0].gpus.count * ACCELERATOR_CORES) if needs else 1


def turn(use: Use, now: float) -> float:
    """By what owners are ordered: cores held now and of late; the smallest is first."""
    return use.running + _faded(use, now)


def charged(use: Use, cores: int, seconds: float, now: float) -> Use:
    """The use after an attempt has ended that held so many cores for so long."""
    held = cores * (1.0 - _left(max(seconds, 0.0)))
    return replace(use, recent=_faded(use, now) + held, at=max(now, use.at))


@dataclass(frozen=True, slots=True)
class Given:
    """How many grants a queue gave, and how many it had given when last an overdue lane had its turn."""

    grants: int = 0
    late: int = 0

    @property
    def late_turn(self) -> bool:
        """Whether the next grant goes to an overdue lane, if one fits."""
        return self.grants - self.late >= OVERDUE_EVERY - 1

    def after(self, late: bool) -> "Given":
        """One more was given; to a lane because it was overdue, or not."""
        return Given(self.grants + 1, self.grants + 1 if late else self.late)


def overdue(since: float, now: float) -> bool:
    """Whether a lane from which nothing was given since then has waited too long."""
    return now - since >= PATIENCE_SECONDS


def _faded(use: Use, now: float) -> float:
    return use.recent * _left(max(now - use.at, 0.0))


def _left(seconds: float) -> float:
    return float(0.5 ** (seconds / HALF_LIFE_SECONDS))
