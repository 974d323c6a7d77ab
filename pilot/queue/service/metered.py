"""The queue as pilots use it, with what they are answered counted on the way."""

from collections.abc import Sequence

from pilot.model.capability import Offer
from pilot.model.files import CodePack
from pilot.model.job import Grant
from pilot.model.report import Report
from pilot.ports import Beat, BeatReply, ClaimRequest, Registration, Unclaim
from pilot.queue.local import LocalServer
from pilot.queue.service.meter import Meter


class Metered:
    """Another `Server` in front of the queue's own; it decides nothing."""

    def __init__(self, server: LocalServer, meter: Meter) -> None:
        self._server = server
        self._expired = server.expired
        self._meter = meter

    def register(self, offer: Offer) -> Registration:
        """Makes the pilot known, with what it offers."""
        return self._server.register(offer)

    def claim(self, requests: Sequence[ClaimRequest]) -> Sequence[Grant | None]:
        """One answer per request, in order; None = nothing that fits."""
        answers = self._server.claim(requests)
        self._meter.claimed(answers)
        self._meter.expired(self._server.expired - self._expired)
        self._expired = self._server.expired
        return answers

    def changed(self, patience: float = 0.0) -> bool:
        """Whether asking again may give another answer than last time."""
        return self._server.changed(patience)

    def renew(self, beats: Sequence[Beat]) -> Sequence[BeatReply]:
        """Renews leases and brings commands."""
        answers = self._server.renew(beats)
        self._meter.renewed(answers)
        return answers

    def report(self, reports: Sequence[Report]) -> Sequence[bool]:
        """True = recorded (or was already); False = refused, the attempt is no longer ours."""
        answers = self._server.report(reports)
        owners = self._server.owners([each.job_id for each in reports if each.fault is not None])
        self._meter.reported(reports, answers, [owners.get(each.job_id, "") for each in reports])
        return answers

    def give_back(self, claims: Sequence[Unclaim]) -> None:
        """Returns claims, unharmed."""
        self._server.give_back(claims)
        self._meter.returned(len(claims))

    def adopt(self, pilot_id: str, attempts: Sequence[Beat]) -> Sequence[BeatReply]:
        """Hands over what an earlier pilot of the same place left."""
        return self._server.adopt(pilot_id, attempts)

    def code(self, pack: CodePack) -> bytes:
        """The archive of a job's own code."""
        return self._server.code(pack)

    def close(self) -> None:
        """Lets go of connections and files."""
        self._server.close()
