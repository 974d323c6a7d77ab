"""A gate in front of one server: shut when it said that it is busy, until the moment that it named."""

import email.utils
import math
import threading
import time
from collections.abc import Callable, Mapping

USUAL_SECONDS = 1.0  # shut for so long when a server says that it is busy, and not for how long
CAP_SECONDS = 300.0  # no server may silence a pilot for longer
PULSE_CAP_SECONDS = 10.0  # nor a heartbeat: a lease must not be lost for a word that was meant for the crowd


class Gate:
    """Shared by all lines to one server."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._lock = threading.Lock()
        self._shut_at = -math.inf
        self._seconds = 0.0

    def shut(self, seconds: float) -> None:
        """For so long from now; a gate that is shut for longer already stays so."""
        with self._lock:
            now = self._now()
            if now + seconds > self._shut_at + self._seconds:
                self._shut_at, self._seconds = now, seconds

    def left(self, cap: float = CAP_SECONDS) -> float:
        """Seconds until it opens, for a line that it may hold up for `cap` seconds at most."""
        with self._lock:
            return max(0.0, self._shut_at + min(self._seconds, cap) - self._now())


def named_pause(headers: Mapping[str, str], wall: Callable[[], float] = time.time) -> float:
    """What `Retry-After` says: seconds, or a date, read by the server's own clock since ours may be wrong."""
    text = headers.get("Retry-After", "").strip()
    if text.isascii() and text.isdigit():
        seconds = float(text[:9])
    else:
        until, sent = _moment(text), _moment(headers.get("Date", ""))
        seconds = until - (wall() if math.isnan(sent) else sent)
    return USUAL_SECONDS if math.isnan(seconds) else min(max(seconds, 0.0), CAP_SECONDS)


def _moment(text: str) -> float:
    try:
        return email.utils.parsedate_to_datetime(text).timestamp()
    except (ValueError, TypeError, OverflowError):
        return math.nan
