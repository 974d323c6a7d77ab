"""A pilot's stay at a queue: by which rules, as settings and registration give them, and whether it may begin."""

import secrets
import time

from pilot.assemble.server import is_remote
from pilot.config.settings import Settings
from pilot.core.steward import Rules
from pilot.core.timing import LAST_REPORT
from pilot.model.capability import Capabilities
from pilot.model.faults import Code
from pilot.model.queue import QueueState
from pilot.ports import Final, Passing, PortError, Registration

RETRY_AT_HAND = 0.5  # seconds
RETRY_AT_A_DISTANCE = 2.0  # seconds; a server that restarts is not to meet a thousand pilots within its first one
# Where a queue at a distance names no cap for its pauses: on a busy one, whose every change wakes whom nothing fits.
POLL_CAP_AT_A_DISTANCE = 10.0
_UNASKED = Registration(lease_seconds=60.0, poll_seconds=1.0)


def rules_of(settings: Settings, told: Registration) -> Rules:
    """The rules of one pilot; a time floor of the site's own goes before the queue's, of two lifetimes the shorter."""
    now = time.clock_gettime(time.CLOCK_BOOTTIME)
    floor = settings.timefloor or told.timefloor_seconds
    lifetime = min((each for each in (settings.lifetime, told.lifetime_seconds) if each), default=0.0)
    far = is_remote(settings.queue)
    cap = told.poll_cap_seconds or (POLL_CAP_AT_A_DISTANCE if far else 0.0)
    return Rules(
        prefix=secrets.token_hex(6),
        max_jobs=settings.max_jobs or None,
        idle_exit=settings.idle_exit or None,
        deadline=now + lifetime if lifetime else None,
        floor=now + floor if floor else None,
        closing=settings.grace + LAST_REPORT,
        prefetch=settings.prefetch,
        retry=RETRY_AT_A_DISTANCE if far else RETRY_AT_HAND,
        poll=told.poll_seconds,
        poll_cap=max(told.poll_seconds, cap),
        phase_pause=told.phase_pause_seconds,
    )


def seconds_left(rules: Rules) -> float:
    """How long this pilot will be here, for its offers; 0 = no end is known."""
    if rules.deadline is None:
        return 0.0
    return max(1.0, float(int(rules.deadline - time.clock_gettime(time.CLOCK_BOOTTIME))))


def least_lifetime(settings: Settings) -> float:
    """Seconds below which a lifetime leaves no time for any job: one that is short, its stop, and the last report."""
    rules = rules_of(settings, _UNASKED)
    return rules.closing + rules.shortest_job


def is_offline(told: Registration) -> bool:
    """Whether the queue gives nothing out, and waiting is no use."""
    return told.queue_state == QueueState.OFFLINE


def refusal(settings: Settings, node: Capabilities, told: Registration) -> PortError | None:
    """Why a pilot with no jobs in hand has no business here, if it has none."""
    if is_offline(told):
        where = f"queue {settings.queue_name} of {settings.queue}"
        more = "it gives no jobs out; come back later, or ask its operator to set it online"
        return Passing(Code.SERVER_REFUSED, f"{where} is offline: {more}")
    if not node.runtime.works:
        why = node.runtime.detail or "no runtime works"
        return Final(Code.RUNTIME_FAILED, f"no job can run here: {why}; `pilot doctor` says more")
    return None
