"""The queue of `pilot queue serve` as a pilot uses it: the `Server` port over our own calls.

Holds no job state: only how the queue stood at the last claim, so that a look knows what to compare with. What the
server says is bounded before it is believed.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

from pilot.adapters.server_answer import Oversized
from pilot.adapters.server_calls import Calls
from pilot.model.capability import Offer
from pilot.model.faults import Code, fault
from pilot.model.files import CodePack
from pilot.model.job import Grant, JobSpec
from pilot.model.plain import PlainError, from_plain, to_plain
from pilot.model.report import Report
from pilot.model.rules import broken, placed
from pilot.ports import Beat, BeatReply, ClaimRequest, PortError, Registration, Unclaim
from pilot.wire.calls import BATCH_CAP, PATIENCE_CAP_SECONDS

A = TypeVar("A")
T = TypeVar("T")
LEASE_SECONDS = (0.5, 30 * 86400.0)  # outside of it a lease is nonsense, or a trap
POLL_SECONDS = (0.0, 86400.0)
ID_CAP, ATTEMPT_CAP = 200, 1 << 31
LEAVE_SECONDS = 2.0  # a courtesy: nobody waits for it
LOOK_SLACK_SECONDS = 15.0  # beyond its patience, for a look to be answered


@dataclass(frozen=True, slots=True)
class Claimed:
    """The answer to claims: a grant or nothing for each, and how the queue stood."""

    grants: tuple[object, ...]
    version: str


@dataclass(frozen=True, slots=True)
class Changed:
    """The answer to a look."""

    changed: bool
    version: str


@dataclass(frozen=True, slots=True)
class Attempt:
    """Of a grant that cannot be read whole, what is needed to refuse it."""

    job_id: str
    attempt: int
    lease_seconds: float


class OwnServer:
    """One pilot's view of a served queue; `leaves` where the service wants to know when a pilot goes."""

    def __init__(self, calls: Calls, leaves: bool = False) -> None:
        self._calls = calls
        self._leaves = leaves
        self._pilot_id = ""
        self._since = ""
        self._stirred = True  # we ourselves changed what a claim may find

    def register(self, offer: Offer) -> Registration:
        """Makes the pilot known, with what it offers."""
        found = self._calls.ask("register", Registration, {"offer": to_plain(offer)})
        self._pilot_id = offer.pilot_id
        for name, bounds in (
            ("lease_seconds", LEASE_SECONDS),
            ("poll_seconds", POLL_SECONDS),
            ("poll_cap_seconds", POLL_SECONDS),
        ):
            self._check("register", name, getattr(found, name), bounds)
        return found

    def claim(self, requests: Sequence[ClaimRequest]) -> Sequence[Grant | None]:
        """All requests in one call; each offer is sent once."""
        self._stirred = False
        return _by_parts(requests, self._claim)

    def changed(self, patience: float = 0.0) -> bool:
        """Asks the queue, which answers at once or, within `patience`, as soon as there is something new."""
        if self._stirred:
            return True
        wait = min(max(patience, 0.0), PATIENCE_CAP_SECONDS)
        asked = {"since": self._since, "patience": wait}
        return self._calls.ask("changed", Changed, asked, wait + LOOK_SLACK_SECONDS).changed

    def renew(self, beats: Sequence[Beat]) -> Sequence[BeatReply]:
        """Renews leases and brings commands."""
        return _by_parts(beats, lambda part: self._beaten("renew", part, {"beats": _plain(part)}))

    def report(self, reports: Sequence[Report]) -> Sequence[bool]:
        """True = recorded (or was already); False = refused, the attempt is no longer ours."""
        found = _by_parts(reports, self._report)
        self._stirred = True
        return found

    def give_back(self, claims: Sequence[Unclaim]) -> None:
        """Returns claims by their id."""
        _by_parts(claims, self._give_back)
        self._stirred = True

    def adopt(self, pilot_id: str, attempts: Sequence[Beat]) -> Sequence[BeatReply]:
        """Takes over what an earlier pilot of this state directory left."""
        found = _by_parts(
            attempts, lambda part: self._beaten("adopt", part, {"pilot_id": pilot_id, "attempts": _plain(part)})
        )
        self._stirred = True
        return found

    def code(self, pack: CodePack) -> bytes:
        """The archive of a job's own code; the caller verifies it."""
        return self._calls.code(pack.sha256)

    def close(self) -> None:
        """Lets go of connections; who registered says so to those who watch, if that is quickly done."""
        if self._leaves and self._pilot_id:
            with suppress(PortError):
                self._calls.ask("leave", type(None), {"pilot_id": self._pilot_id}, LEAVE_SECONDS)
        self._calls.close()

    # --- claims ---

    def _claim(self, requests: Sequence[ClaimRequest]) -> list[Grant | None]:
        offers = list(dict.fromkeys(each.offer for each in requests))
        numbers = {offer: number for number, offer in enumerate(offers)}
        claims = [[each.claim_id, numbers[each.offer]] for each in requests]
        found = self._calls.ask("claim", Claimed, {"offers": _plain(offers), "claims": claims})
        grants = [None if each is None else self._grant(each) for each in self._each("claim", requests, found.grants)]
        self._check_once(requests, grants)
        self._since = found.version
        return grants

    def _grant(self, data: object) -> Grant:
        """One that is not to be understood as a whole is refused, so that its job does not hold up the others."""
        try:
            grant = from_plain(Grant, data)
        except PlainError as problem:
            grant = self._refused(data, str(problem))
        wrong = broken(grant.spec) or placed(grant.spec)
        if wrong:
            grant = self._refused(data, wrong)
        if not (0 < len(grant.job_id) <= ID_CAP and grant.job_id.isprintable() and 0 < grant.attempt < ATTEMPT_CAP):
            raise self._calls.nonsense("claim", f"job {grant.job_id[:50]!r}, attempt {grant.attempt}")
        self._check("claim", "lease_seconds", grant.lease_seconds, LEASE_SECONDS)
        return grant

    def _refused(self, data: object, why: str) -> Grant:
        part = {name: data.get(name) for name in Attempt.__slots__} if isinstance(data, dict) else data
        try:
            known = from_plain(Attempt, part)
        except PlainError as problem:
            raise self._calls.nonsense("claim", str(problem)) from None
        spec = JobSpec(name=known.job_id, command=("unknown",))
        problem_seen = fault(Code.JOB_INVALID, f"this pilot cannot read the job that {self._calls.origin} gave: {why}")
        return Grant(known.job_id, known.attempt, spec, known.lease_seconds, refusal=problem_seen)

    def _check_once(self, requests: Sequence[ClaimRequest], grants: Sequence[Grant | None]) -> None:
        """One attempt is one claim's: two sandboxes of the same name would be one."""
        claims: dict[tuple[str, int], str] = {}
        for request, grant in zip(requests, grants, strict=True):
            key = (grant.job_id, grant.attempt) if grant else ("", 0)
            if grant and claims.setdefault(key, request.claim_id) != request.claim_id:
                raise self._calls.nonsense("claim", f"attempt {key[1]} of job {key[0]} given twice at once")

    # --- the rest ---

    def _report(self, reports: Sequence[Report]) -> Sequence[bool]:
        found = self._calls.ask("report", tuple[bool, ...], {"reports": _plain(reports)})
        return self._each("report", reports, found)

    def _give_back(self, claims: Sequence[Unclaim]) -> Sequence[None]:
        self._calls.ask("give_back", type(None), {"claims": _plain(claims)})
        return ()

    def _beaten(self, verb: str, beats: Sequence[Beat], asked: dict[str, object]) -> list[BeatReply]:
        found = self._each(verb, beats, self._calls.ask(verb, tuple[BeatReply, ...], asked))
        for beat, reply in zip(beats, found, strict=True):
            if (beat.job_id, beat.attempt) != (reply.job_id, reply.attempt):
                raise self._calls.nonsense(verb, f"an answer for {reply.job_id[:50]!r}, which was not asked for")
            if reply.ours:
                self._check(verb, "lease_seconds", reply.lease_seconds, LEASE_SECONDS)
        return list(found)

    def _each(self, verb: str, asked: Sequence[object], answers: Sequence[T]) -> Sequence[T]:
        if len(answers) != len(asked):
            raise self._calls.nonsense(verb, f"{len(answers)} answers to {len(asked)} questions")
        return answers

    def _check(self, verb: str, name: str, value: float, bounds: tuple[float, float]) -> None:
        if not bounds[0] <= value <= bounds[1]:
            raise self._calls.nonsense(verb, f"{name} {value:g} is not between {bounds[0]:g} and {bounds[1]:g}")


def _by_parts(items: Sequence[T], ask: Callable[[Sequence[T]], Sequence[A]]) -> list[A]:
    """As many at once as one call takes, and as its answer may hold."""
    parts = [items[start : start + BATCH_CAP] for start in range(0, len(items), BATCH_CAP)]
    return [each for part in parts for each in _halved(part, ask)]


def _halved(part: Sequence[T], ask: Callable[[Sequence[T]], Sequence[A]]) -> list[A]:
    """The same words again, in halves, where the answer is too much: asking twice counts once."""
    try:
        return list(ask(part))
    except Oversized:
        if len(part) < 2:
            raise
    middle = len(part) // 2
    return [*_halved(part[:middle], ask), *_halved(part[middle:], ask)]


def _plain(values: Sequence[object]) -> list[object]:
    return [to_plain(each) for each in values]
