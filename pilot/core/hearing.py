"""What the steward is told: each function takes the steward and gives the steward who knows it."""

from pilot.core.steward import Stage, Steward
from pilot.core.timing import delay, rest
from pilot.model.copies import replace
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
    return replace(settled, claimed=steward.claimed + 1, usual=cpus, empty=0, quiet=0)


def nothing(steward: Steward, claim_id: str, now: float, unit_random: float) -> Steward:
    """A claim was answered: nothing that fits. Claims that were asked together are one empty answer."""
    settled = replace(_settled(steward, claim_id), empty=steward.empty + 1)
    return settled if now < steward.next_ask else _quieter(settled, now, unit_random)


def broke(steward: Steward, claim_id: str, now: float, unit_random: float) -> Steward:
    """No answer came; the same id is asked again later, after growing delays."""
    rules = steward.rules
    pause = delay(steward.failures, rules.retry, rules.retry_cap, unit_random)
    kept = (*(each for each in steward.broken if each != claim_id), claim_id)
    return replace(steward, broken=kept, failures=steward.failures + 1, next_ask=now + pause)


def looked(steward: Steward, changed: bool, now: float, unit_random: float) -> Steward:
    """A look was answered; unchanged, the next waits one pause from the start of this one.

    A queue that cannot tell always says changed: its pauses grow with the empty answers to the claims that follow.
    """
    seen = replace(steward, looking=False, failures=0)
    if changed:
        return replace(seen, empty=0, offered=0, next_ask=now)
    return _quieter(replace(seen, empty=steward.empty + 1), steward.looked_at, unit_random)


def unseen(steward: Steward, now: float, unit_random: float) -> Steward:
    """A look failed: the next waits as after an empty answer, and at least as long as after so many failures."""
    rules = steward.rules
    quieter = _quieter(replace(steward, looking=False, failures=steward.failures + 1), now, unit_random)
    least = now + delay(steward.failures, rules.retry, rules.retry_cap, unit_random)
    return replace(quieter, next_ask=max(least, quieter.next_ask))


def _quieter(steward: Steward, since: float, unit_random: float) -> Steward:
    """Nothing is to be had: the queue is left alone for a while, longer each time where the rules let it."""
    rules = steward.rules
    pause = max(rules.poll, min(rules.poll_cap, rules.poll * 2.0 ** min(steward.quiet, 30)))
    return replace(steward, quiet=steward.quiet + 1, next_ask=since + rest(pause, unit_random))


def _settled(steward: Steward, claim_id: str) -> Steward:
    left = tuple(each for each in steward.broken if each != claim_id)
    return replace(steward, broken=left, failures=0)
