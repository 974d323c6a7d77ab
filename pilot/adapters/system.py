"""The machine's clocks."""

import time


class SystemClock:
    """Time, three ways."""

    def monotonic(self) -> float:
        """Seconds; stands still while the machine is suspended."""
        return time.monotonic()

    def boot(self) -> float:
        """Seconds; counts suspension."""
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    def wall(self) -> float:
        """Seconds since the epoch, UTC."""
        return time.time()
