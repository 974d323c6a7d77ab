"""Up to when each attempt is certainly ours, and how long it is kept beyond, on the clock that counts suspension."""

from dataclasses import dataclass

from pilot.core.timing import beat_again, kept_until, lease_margin, renewal_interval, trusted_until


@dataclass(slots=True)
class _Lease:
    renewed: float
    seconds: float
    certain: bool


class Leases:
    """The leases of all attempts in hand; times in seconds of the boot clock."""

    def __init__(self) -> None:
        self._leases: dict[str, _Lease] = {}
        self._asked: dict[str, float] = {}

    def ask(self, key: str, now: float) -> None:
        """A claim goes out: a lease that it brings counts from now, however late the answer arrives."""
        self._asked[key] = now

    def grant(self, key: str, now: float, seconds: float) -> None:
        """The claim was answered with a lease."""
        self.take(key, self._asked.pop(key, now), seconds)

    def take(self, key: str, now: float, seconds: float, certain: bool = True) -> None:
        """A lease was given or renewed; one that an earlier pilot held is not certain before it is renewed."""
        self._leases[key] = _Lease(now, seconds, certain)

    def doubt(self, now: float) -> None:
        """No lease is certain before it is renewed; silence counts anew, since nobody asked while we were suspended."""
        for each in self._leases.values():
            each.certain = False
            each.renewed = max(each.renewed, now - each.seconds)

    def overslept(self, now: float) -> bool:
        """Whether a loss is noticed so late that the pilot must have been suspended."""
        late = ((now - kept_until(each.renewed, each.seconds), each) for each in self._leases.values())
        return any(seconds > lease_margin(each.seconds) / 2 for seconds, each in late)

    def drop(self, key: str) -> None:
        """The attempt is over."""
        self._leases.pop(key, None)
        self._asked.pop(key, None)

    def trusted(self, key: str, now: float) -> bool:
        """Whether the attempt may write outside now."""
        lease = self._leases.get(key)
        return lease is not None and lease.certain and now < trusted_until(lease.renewed, lease.seconds)

    def lost(self, now: float) -> list[str]:
        """The attempts that nobody has renewed or refused for so long that they are given up."""
        return [key for key, each in self._leases.items() if now >= kept_until(each.renewed, each.seconds)]

    def next_loss(self) -> float | None:
        """When the first attempt will be given up if nothing renews it."""
        return min((kept_until(each.renewed, each.seconds) for each in self._leases.values()), default=None)

    def next_beat(self) -> float | None:
        """When the next heartbeat is due."""
        return min((each.renewed + renewal_interval(each.seconds) for each in self._leases.values()), default=None)

    def beat_again(self, failures: int, now: float, unit_random: float) -> float:
        """When a heartbeat that failed so many times before is tried again."""
        moments = (beat_again(failures, each.renewed, each.seconds, now, unit_random) for each in self._leases.values())
        return min(moments, default=now + 1.0)
