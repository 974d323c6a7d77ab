"""Arithmetic of time: when to try again, how long a lease may be trusted, how a last window is spent.

All times are seconds. `now` and chance are arguments; nothing here waits.
"""

from dataclasses import dataclass

RENEWALS_PER_LEASE = 3.0  # two beats may be lost before the lease is in danger
LONGEST_SILENCE = 600.0  # however long the lease: commands travel with the answers to heartbeats
LAST_TRY = 1.0  # seconds before a lease is trusted no more there is one more try to renew it
WIDEST_MARGIN = 10.0  # clocks, a slow commit and the stop ladder have to fit into it
MARGIN_OF_LEASE = 0.25  # of a short lease, no more than a quarter is given away
LAST_REPORT = 3.0  # one HTTPS request with one repeat
RETRY_CAP = 90.0  # between tries at a queue that does not answer: a thousand pilots come back spread over a minute
BEATS_LEFT = 6.0  # tries within the lease that is left once its renewal is due
# How long a payload runs on beyond a lease that nobody renews or refuses. Silence is no answer: as long as nobody else
# has the job, the queue takes the attempt back. Ten minutes are a restart or upgrade, however short the leases;
# three leases are more than any pause that whoever chose the lease thought usual. The end is there because a pilot
# without a lifetime, cut off for good, would else compute for ever what somebody else does.
LEAST_PATIENCE = 600.0
LEASES_OF_PATIENCE = 3.0
_STEEPEST = 60  # doublings; keeps 2**attempt a sane float


def delay(attempt: int, base: float, cap: float, unit_random: float) -> float:
    """Seconds before the next try: doubles from `base` (attempt 0) up to `cap`; half of it is left to chance."""
    return rest(min(cap, base * 2.0 ** min(max(attempt, 0), _STEEPEST)), unit_random)


def renewal_interval(lease_seconds: float) -> float:
    """How often a lease of that length is renewed: three times in its life, and at least every ten minutes."""
    return min(lease_seconds / RENEWALS_PER_LEASE, LONGEST_SILENCE)


def lease_margin(lease_seconds: float) -> float:
    """How long before its end a lease is no longer trusted."""
    return min(WIDEST_MARGIN, MARGIN_OF_LEASE * lease_seconds)


def trusted_until(renewed_at: float, lease_seconds: float) -> float:
    """Up to when the attempt is certainly ours; counted from when the renewal was *asked for*."""
    return renewed_at + lease_seconds - lease_margin(lease_seconds)


def kept_until(renewed_at: float, lease_seconds: float) -> float:
    """Up to when an attempt that may be ours is kept, though it may write nothing outside: then it is given up."""
    return renewed_at + lease_seconds + max(LEAST_PATIENCE, LEASES_OF_PATIENCE * lease_seconds)


def beat_again(failures: int, renewed_at: float, lease_seconds: float, now: float, unit_random: float) -> float:
    """When a heartbeat that failed is tried again; once more just before the lease is past trusting, if it is not."""
    margin = lease_margin(lease_seconds)
    pause = delay(failures, margin / 4, min(RETRY_CAP, max(margin / 4, lease_seconds / BEATS_LEFT)), unit_random)
    last = trusted_until(renewed_at, lease_seconds) - min(LAST_TRY, margin / 4)
    return last if now < last < now + pause else now + pause


def rest(pause: float, unit_random: float) -> float:
    """A pause of about that many seconds: half of it is left to chance, so that pilots do not ask in step."""
    return float(pause * (0.5 + 0.5 * unit_random))


def may_write(now: float, renewed_at: float, lease_seconds: float) -> bool:
    """Whether external writes may be begun now."""
    return now < trusted_until(renewed_at, lease_seconds)


@dataclass(frozen=True, slots=True)
class Closing:
    """How the last window is spent: seconds for checkpoint and stop, for storing, and for the last report."""

    stop: float
    store: float
    report: float


def closing(window: float, grace: float) -> Closing:
    """Divides the last window: the report first, then at most half of the rest for stopping, the rest for storing."""
    whole = max(0.0, window)
    report = min(LAST_REPORT, whole / 2)
    stop = min(max(0.0, grace), (whole - report) / 2)
    return Closing(stop, whole - report - stop, report)


def time_left(deadline: float | None, now: float) -> float | None:
    """Seconds up to the deadline, never negative; None where there is none."""
    return None if deadline is None else max(0.0, deadline - now)


def earliest(*moments: float | None) -> float | None:
    """The first of the moments that are known."""
    return min((each for each in moments if each is not None), default=None)
