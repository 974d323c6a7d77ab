"""What the steward is told: each function takes the steward and gives the steward who knows it."""

from dataclasses import replace

from pilot.core.steward import Stage, Steward
from pilot.core.timing import delay
from pilot.model.visit import Notice


def probed(steward: Steward) -> Steward:
    """The node is known and the queue knows the pilot: work may be asked for."""
    return replace(steward, stage=Stage.OPEN) if steward.stage is Stage.PROBING else steward


def recovered(steward: Steward, jobs: int) -> Steward:
    """So many jobs were taken over from an earlier pilot of this state: they count as claimed."""
    return replace(steward, claimed=jobs)


def notice(steward: Steward, what: Notice) -> Steward:
    """A signal or an order from outside; a second *stop* means *leave*, and nothing takes a notice back."""
    heard = Notice.LEAVE if steward.notice is what is Notice.STOP else what
    order = list(Notice)
    stronger = steward.notice is None or order.index(heard) > order.index(steward.notice)
    return replace(steward, notice=heard) if stronger else steward


def granted(steward: Steward, claim_id: str, cpus: int) -> Steward:
    """A claim was answered with a job of that many cores."""
    settled = _settled(steward, claim_id)
    return replace(settled, claimed=steward.claimed + 1, usual=cpus, empty=0)


def nothing(steward: Steward, claim_id: str, now: float) -> Steward:
    """A claim was answered: nothing that fits."""
    settled = _settled(steward, claim_id)
    return replace(settled, empty=steward.empty + 1, next_ask=now + _pause(steward))


def broke(steward: Steward, claim_id: str, now: float, unit_random: float) -> Steward:
    """No answer came; the same id is asked again later, after growing delays."""
    rules = steward.rules
    pause = delay(steward.failures, rules.retry, rules.retry_cap, unit_random)
    kept = (*(each for each in steward.broken if each != claim_id), claim_id)
    return replace(steward, broken=kept, failures=steward.failures + 1, next_ask=now + pause)


def looked(steward: Steward, changed: bool, now: float) -> Steward:
    """A look was answered (a look that failed counts as changed); unchanged, the next is due one pause later."""
    if changed:
        return replace(steward, looking=False, empty=0, offered=0, next_ask=now)
    return replace(steward, looking=False, empty=steward.empty + 1, next_ask=now + _pause(steward))


def _pause(steward: Steward) -> float:
    """How long an empty queue is left alone; grows where the rules let it."""
    return max(steward.rules.poll, min(steward.rules.poll_cap, steward.rules.poll * 2.0 ** min(steward.empty, 30)))


def _settled(steward: Steward, claim_id: str) -> Steward:
    left = tuple(each for each in steward.broken if each != claim_id)
    return replace(steward, broken=left, failures=0)
