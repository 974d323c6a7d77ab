"""What is to be said to the loop later: named, replaceable, in order of time."""

import heapq
from collections.abc import Callable

Due = Callable[[], None]


class Timers:
    """Alarms by name; a name set again replaces the old alarm. Times in seconds of one clock."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, str]] = []
        self._live: dict[str, tuple[int, Due]] = {}
        self._count = 0

    def set(self, name: str, moment: float, due: Due) -> None:
        """Sets or moves the alarm of that name."""
        self._count += 1
        self._live[name] = (self._count, due)
        heapq.heappush(self._heap, (moment, self._count, name))

    def __contains__(self, name: str) -> bool:
        """Whether an alarm of that name is set."""
        return name in self._live

    def cancel(self, name: str) -> None:
        """Drops the alarm of that name, if it is set."""
        self._live.pop(name, None)

    def cancel_all(self, prefix: str) -> None:
        """Drops every alarm whose name begins so."""
        for name in [each for each in self._live if each.startswith(prefix)]:
            del self._live[name]

    def next(self) -> float | None:
        """When the next alarm is due."""
        while self._heap and self._stale(self._heap[0]):
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def ring(self, now: float) -> None:
        """Runs every alarm that is due."""
        while (moment := self.next()) is not None and moment <= now:
            _, _, name = heapq.heappop(self._heap)
            _, due = self._live.pop(name)
            due()

    def _stale(self, entry: tuple[float, int, str]) -> bool:
        live = self._live.get(entry[2])
        return live is None or live[0] != entry[1]
