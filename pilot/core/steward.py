"""The pilot itself: *probing*, *open*, *draining*, *left*; stages never go back.

The loop tells the steward what happened (`core/hearing`), and after every batch of facts asks `decide` what the
pilot wants now (`core/wishes`): claim, look whether asking again may help, drop a claim, end every job, leave.

A claim keeps its id until the queue has answered it. If the answer was lost the queue may have granted it all the
same, so the next try asks with the same id and gets the same grant; a claim that is not wanted any more is
*dropped*, which gives it back by that id. Claim ids are a prefix, made by chance outside, and a counter.

An empty queue is not asked again at once: the steward wishes to *look* at it every so often (cheap, not
journalled) and claims only when the look says that the answer may have changed, or when there is more to offer. The
pauses grow with every empty answer, and half of each is left to chance. A look that lasted (a long poll) needs no
pause after it.

A pilot whose time is over does not wait for a queue that does not answer: what only waits to be told stays in the
journal, for the next pilot of the same state. Claims that hang, and giving them back, it waits for least of all.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from pilot.core.tally import Tally
from pilot.core.timing import LAST_REPORT, RETRY_CAP, earliest
from pilot.core.wishes import Claim, Drop, EndAll, Leave, Look, Wish
from pilot.model.copies import replace
from pilot.model.faults import Code
from pilot.model.job import Cause
from pilot.model.visit import Notice


class Stage(StrEnum):
    """Where the pilot stands."""

    PROBING = "probing"
    OPEN = "open"
    DRAINING = "draining"
    LEFT = "left"


@dataclass(frozen=True, slots=True)
class Rules:
    """What the pilot was told at its start; all times in seconds, `deadline` on the caller's clock, None = none.

    `shortest_job` is the least time worth claiming for; `closing` is the last window before the deadline, in which
    jobs are ended; `idle_exit` None = wait for ever; `prefetch` counts jobs to hold beyond those that can start;
    `parked_patience` is how long an otherwise finished pilot waits for outputs that could not be stored. After
    `floor` no further job is claimed (PanDA's timefloor); a pilot that has had none yet still asks for its first.
    `phase_pause`: changes of phase are told, so many seconds after another heartbeat at the soonest; 0 = not so.
    """

    prefix: str
    max_jobs: int | None = None
    idle_exit: float | None = None
    deadline: float | None = None
    floor: float | None = None
    shortest_job: float = 30.0
    closing: float = 30.0
    prefetch: int = 0
    poll: float = 0.25
    poll_cap: float = 0.25
    retry: float = 0.5
    retry_cap: float = RETRY_CAP
    parked_patience: float = 60.0
    phase_pause: float = 0.0


@dataclass(frozen=True, slots=True)
class Steward:
    """The pilot's own state. `broken`: claims without an answer; `looking`: a look is under way, since `looked_at`.

    `empty` counts empty answers since there was reason to hope, `quiet` those since the last job: pauses grow with it.
    `idle_since` is when the pilot last had something to do; `offered` the free cores at the last empty answer;
    `ended_at` when the jobs were told to end, `parking` whether storing was told to end as well; `asked_at` is of the
    last claims; `returning_since` when nothing was left but claims to be given back.
    """

    rules: Rules
    stage: Stage = Stage.PROBING
    why: str = ""
    counter: int = 0
    claimed: int = 0
    usual: int = 0
    broken: tuple[str, ...] = ()
    failures: int = 0
    empty: int = 0
    quiet: int = 0
    offered: int = 0
    looking: bool = False
    looked_at: float = 0.0
    next_ask: float = 0.0
    idle_since: float | None = None
    parked_since: float | None = None
    notice: Notice | None = None
    ended_at: float | None = None
    parking: bool = False
    asked_at: float = 0.0
    returning_since: float | None = None


Step = tuple[Steward, tuple[Wish, ...]]

# Lost answers in a row after which a queue counts as having nothing, for a pilot that leaves when idle.
TRIES_BEFORE_IDLE = 5
HANGING_SECONDS = 10.0  # a claim without an answer for so long is as good as one that was answered with nothing


def decide(steward: Steward, seen: Tally, now: float) -> tuple[Steward, tuple[Wish, ...], float | None]:
    """The steward after this moment, what it wants, and when to ask it again if nothing happens before."""
    watched = _watch(steward, seen, now)
    decided, wishes = TABLE[watched.stage](watched, seen, now)
    return decided, wishes, _next_wake(decided, seen, now)


def _watch(steward: Steward, seen: Tally, now: float) -> Steward:
    """Notes since when the pilot has been idle, or has had nothing left but parked jobs: asking for more is no work.

    A pilot whose parked jobs have had their time is idle: it leaves them to the next pilot of the same state.
    """
    resting = not seen.busy and seen.parked > 0
    parked = (now if steward.parked_since is None else steward.parked_since) if resting else None
    idle = not seen.busy and (parked is None or now - parked >= steward.rules.parked_patience)
    since = (now if steward.idle_since is None else steward.idle_since) if idle else None
    return replace(steward, idle_since=since, parked_since=parked)


def _probing(steward: Steward, seen: Tally, now: float) -> Step:
    reason = _told_to_go(steward)
    return _drain(steward, seen, now, reason) if reason else (steward, ())


def _open(steward: Steward, seen: Tally, now: float) -> Step:
    reason = _reason_to_drain(steward, seen, now)
    return _drain(steward, seen, now, reason) if reason else _ask(steward, seen, now)


def _reason_to_drain(steward: Steward, seen: Tally, now: float) -> str:
    rules = steward.rules
    reasons = (
        (_told_to_go(steward), True),
        ("tainted", seen.tainted),
        ("max-jobs", rules.max_jobs is not None and steward.claimed >= rules.max_jobs),
        ("lifetime", rules.deadline is not None and now >= _last_claim(rules.deadline, rules)),
        ("timefloor", rules.floor is not None and steward.claimed > 0 and now >= rules.floor),
        ("idle", _idle_too_long(steward, seen, now)),
    )
    return next((reason for reason, holds in reasons if reason and holds), "")


def _told_to_go(steward: Steward) -> str:
    return "" if steward.notice is None else steward.notice.value


def _last_claim(deadline: float, rules: Rules) -> float:
    """After that moment there is no time for the shortest useful job."""
    return deadline - rules.closing - rules.shortest_job


def _idle_too_long(steward: Steward, seen: Tally, now: float) -> bool:
    """Idle counts only once the queue has said that it has nothing, or has been silent for a while."""
    if steward.rules.idle_exit is None or steward.idle_since is None:
        return False
    hanging = _asking(steward, seen) > 0 and now - steward.asked_at >= HANGING_SECONDS
    answered = steward.empty > 0 or steward.failures >= TRIES_BEFORE_IDLE or hanging
    return answered and now - steward.idle_since >= steward.rules.idle_exit


def _ask(steward: Steward, seen: Tally, now: float) -> Step:
    room, more = _room(steward, seen), seen.free > steward.offered
    if room == 0 or (steward.looking and not more):  # a look may last, and what has become free does not wait for it
        return steward, ()
    if steward.broken:
        return _claim_again(replace(steward, asked_at=now), seen) if now >= steward.next_ask else (steward, ())
    if steward.empty == 0 or more:
        return _claim(replace(steward, asked_at=now), seen, room)
    if now >= steward.next_ask and not seen.claiming:
        return replace(steward, looking=True, looked_at=now), (Look(),)
    return steward, ()


def _room(steward: Steward, seen: Tally) -> int:
    """How many more claims may be open: what can start now, as large as jobs usually are, and the prefetched."""
    unspoken = max(0, seen.free - seen.wanted)
    can_start = unspoken // steward.usual if 0 < steward.usual <= unspoken else min(1, unspoken)
    ahead = max(0, steward.rules.prefetch - (seen.waiting if can_start == 0 else 0))
    asking = _asking(steward, seen)
    room = can_start + ahead - asking
    if steward.rules.max_jobs is not None:
        room = min(room, steward.rules.max_jobs - steward.claimed - asking)
    return max(0, room)


def _asking(steward: Steward, seen: Tally) -> int:
    return len([each for each in seen.claiming if each not in steward.broken])


def _claim(steward: Steward, seen: Tally, count: int) -> Step:
    last = steward.counter + count
    wishes = tuple(Claim(f"{steward.rules.prefix}-{each}") for each in range(steward.counter + 1, last + 1))
    return replace(steward, counter=last, offered=seen.free), wishes


def _claim_again(steward: Steward, seen: Tally) -> Step:
    return replace(steward, broken=(), offered=seen.free), tuple(Claim(each) for each in steward.broken)


def _drain(steward: Steward, seen: Tally, now: float, reason: str) -> Step:
    return _draining(replace(steward, stage=Stage.DRAINING, why=reason), seen, now)


def _draining(steward: Steward, seen: Tally, now: float) -> Step:
    """Claims on their way are dropped, jobs ended where somebody or the clock says so; then the pilot leaves."""
    if steward.notice is Notice.LEAVE:
        return replace(steward, stage=Stage.LEFT), (Leave(at_once=True),)
    only = seen.busy == seen.returning and not seen.parked  # beside claims, which are dropped now
    steward = replace(steward, returning_since=(steward.returning_since or now) if only else None)
    if _finished(steward, seen, now) or _is_unheard(steward, seen, now):
        return replace(steward, stage=Stage.LEFT), (Leave(),)
    dropped: tuple[Wish, ...] = tuple(Drop(each) for each in seen.claiming)
    ending, wishes = _end_jobs(replace(steward, broken=()), now)
    return ending, (*dropped, *wishes)


def _end_jobs(steward: Steward, now: float) -> Step:
    """Once to stop what runs, once more, before the window closes, to stop storing: what is not stored is parked."""
    code = _ending(steward, now)
    if code is None or steward.parking:
        return steward, ()
    if steward.ended_at is None:
        return replace(steward, ended_at=now), (EndAll(Cause.PREEMPTED, code),)
    if now < _last_store(steward.ended_at, steward.rules):
        return steward, ()
    return replace(steward, parking=True), (EndAll(Cause.TIME_UP, code),)


def _last_store(ended_at: float, rules: Rules) -> float:
    """After that moment there is only time for the last reports."""
    return ended_at + rules.closing - min(LAST_REPORT, rules.closing / 2)


def _ending(steward: Steward, now: float) -> Code | None:
    """Why the jobs are to be ended now, if they are."""
    if steward.notice is Notice.STOP:
        return Code.BATCH_PREEMPTED
    deadline = steward.rules.deadline
    return Code.BATCH_WALLTIME if deadline is not None and now >= deadline - steward.rules.closing else None


def _finished(steward: Steward, seen: Tally, now: float) -> bool:
    if seen.busy or seen.claiming:
        return False
    patient = steward.parked_since is not None and steward.ended_at is None
    return not (patient and now - (steward.parked_since or now) < steward.rules.parked_patience)


def _is_unheard(steward: Steward, seen: Tally, now: float) -> bool:
    """Told to end, its window spent, and nothing left but what the queue does not answer to; claims have less time."""
    if seen.claiming or seen.busy > seen.telling:
        return False
    ends = (_last_return(steward), _plus(steward.ended_at, steward.rules.closing))
    return any(each is not None and now >= each for each in ends)


def _next_wake(steward: Steward, seen: Tally, now: float) -> float | None:
    moments = {Stage.OPEN: _open_moments, Stage.DRAINING: _draining_moments}.get(steward.stage)
    return earliest(*(each for each in moments(steward, seen) if each is not None and each > now)) if moments else None


def _open_moments(steward: Steward, seen: Tally) -> tuple[float | None, ...]:
    rules = steward.rules
    ask = None if steward.looking or not _room(steward, seen) else steward.next_ask
    drain = None if rules.deadline is None else _last_claim(rules.deadline, rules)
    patience = None if rules.idle_exit is None else _plus(steward.parked_since, rules.parked_patience)
    hangs = None if rules.idle_exit is None or not _asking(steward, seen) else steward.asked_at + HANGING_SECONDS
    return ask, drain, rules.floor, patience, _plus(steward.idle_since, rules.idle_exit), hangs


def _draining_moments(steward: Steward, seen: Tally) -> tuple[float | None, ...]:
    rules = steward.rules
    end = None if rules.deadline is None or steward.ended_at is not None else rules.deadline - rules.closing
    park = None if steward.ended_at is None or steward.parking else _last_store(steward.ended_at, rules)
    ends = _plus(steward.ended_at, rules.closing), _plus(steward.parked_since, rules.parked_patience)
    return end, park, _last_return(steward), *ends


def _last_return(steward: Steward) -> float | None:
    return _plus(steward.returning_since, min(LAST_REPORT, steward.rules.closing))


def _plus(moment: float | None, seconds: float | None) -> float | None:
    return None if moment is None or seconds is None else moment + seconds


TABLE: dict[Stage, Callable[[Steward, Tally, float], Step]] = {
    Stage.PROBING: _probing,
    Stage.OPEN: _open,
    Stage.DRAINING: _draining,
    Stage.LEFT: lambda steward, seen, now: (steward, ()),
}
