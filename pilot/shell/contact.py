"""Whether the queue answers: told in the log when it stops, seldom while it does not, and once when it is back."""

from collections.abc import Callable

from pilot.model.faults import Code, Fault, fault

FIRST_PAUSE, LONGEST_PAUSE = 60.0, 3600.0  # seconds between two lines about one trouble


class Contact:
    """What the last answers of the queue were; `trouble` is why the very last one was none."""

    def __init__(self, tell: Callable[[str, dict[str, object]], None], now: Callable[[], float]) -> None:
        self.trouble: Fault | None = None
        self._tell = tell
        self._now = now
        self._since = 0.0
        self._next = 0.0
        self._pause = FIRST_PAUSE
        self._count = 0

    def failed(self, event: str, why: str, code: Code) -> None:
        """No answer, or a refusal of the caller."""
        now = self._now()
        fresh = self.trouble is None or self.trouble.code is not code
        if self.trouble is None:
            self._since, self._count = now, 0
        self._pause = FIRST_PAUSE if fresh else self._pause
        self._count += 1
        self.trouble = fault(code, why)
        if fresh or now >= self._next:
            self._tell(event, {"why": why, "fault": code.value, "failures": self._count})
            self._next, self._pause = now + self._pause, min(2 * self._pause, LONGEST_PAUSE)

    def answered(self) -> None:
        """The queue did what it was asked for, or said no to the work alone."""
        if self.trouble is not None:
            away = round(self._now() - self._since, 1)
            self._tell("server back", {"seconds": away, "failures": self._count})
        self.trouble = None
