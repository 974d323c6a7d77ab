"""Up to when each attempt is certainly ours, on the clock that counts suspension."""

from dataclasses import dataclass

from pilot.core.timing import lease_margin, renewal_interval, trusted_until


@dataclass(slots=True)
class _Lease:
    renewed: float
    seconds: float
    certain: bool


class Leases:
    """The leases of all attempts in hand; times in seconds of the boot clock."""

    def __init__(self) -> None:
        self._leases: dict[str, _Lease] = {}

    def take(self, key: str, now: float, seconds: float, certain: bool = True) -> None:
        """A lease was given or renewed; one that an earlier pilot held is not certain before it is renewed."""
        self._leases[key] = _Lease(now, seconds, certain)

    def doubt(self) -> None:
        """No lease is certain before it has been renewed."""
        for each in self._leases.values():
            each.certain = False

    def drop(self, key: str) -> None:
        """The attempt is over."""
        self._leases.pop(key, None)

    def trusted(self, key: str, now: float) -> bool:
        """Whether the attempt may write outside now."""
        lease = self._leases.get(key)
        return lease is not None and lease.certain and now < trusted_until(lease.renewed, lease.seconds)

    def lost(self, now: float) -> list[str]:
        """The attempts whose lease is past saving."""
        return [key for key, each in self._leases.items() if now >= trusted_until(each.renewed, each.seconds)]

    def next_loss(self) -> float | None:
        """When the first lease will be lost if nothing renews it."""
        return min((trusted_until(each.renewed, each.seconds) for each in self._leases.values()), default=None)

    def next_beat(self) -> float | None:
        """When the next heartbeat is due."""
        return min((each.renewed + renewal_interval(each.seconds) for each in self._leases.values()), default=None)

    def patience(self) -> float:
        """How long to wait before a failed heartbeat is tried again."""
        return min((lease_margin(each.seconds) / 4 for each in self._leases.values()), default=1.0)
