"""How the queue stood over time: a ring of samples in memory, finer for the last hour than for the last day.

It is lost when the service ends: the page says since when it is kept. Whoever needs more scrapes `/metrics`.
"""

import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

SAMPLE_SECONDS = 10.0  # a page refreshes as often
FINE_SAMPLES = 360  # the last hour, sample by sample
COARSE_SECONDS = 300.0
COARSE_SAMPLES = 288  # the last day


@dataclass(frozen=True, slots=True)
class Sample:
    """The queue at one moment (`at`, UTC epoch seconds): jobs by state now, and how many have ended so far."""

    at: float
    waiting: int = 0
    granted: int = 0
    succeeded: int = 0
    failed: int = 0
    grants: int = 0


class History:
    """The samples of one service, oldest first."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._fine: deque[Sample] = deque(maxlen=FINE_SAMPLES)
        self._coarse: deque[Sample] = deque(maxlen=COARSE_SAMPLES)

    def add(self, sample: Sample) -> None:
        """Takes one more; a clock that went back begins a new history."""
        with self._lock:
            if self._fine and sample.at < self._fine[-1].at:
                self._fine.clear()
                self._coarse.clear()
            if not self._coarse or sample.at - self._coarse[-1].at >= COARSE_SECONDS:
                self._coarse.append(sample)
            self._fine.append(sample)

    def samples(self) -> tuple[Sample, ...]:
        """The last day, as fine as it is kept."""
        with self._lock:
            return tuple(self._joined())

    def rate(self, seconds: float = 60.0) -> float:
        """Grants per second over the last so many seconds."""
        with self._lock:
            if len(self._fine) < 2:
                return 0.0
            last = self._fine[-1]
            first = next(each for each in self._fine if last.at - each.at <= seconds)
        span = last.at - first.at
        return (last.grants - first.grants) / span if span > 0 else 0.0

    def _joined(self) -> Iterator[Sample]:
        begin = self._fine[0].at if self._fine else 0.0
        yield from (each for each in self._coarse if each.at < begin)
        yield from self._fine
