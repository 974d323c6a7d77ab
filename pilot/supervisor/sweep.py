"""Ends everything below a process, whatever session or group it fled to."""

from __future__ import annotations

import os
import select
import time

from pilot.supervisor import procs
from pilot.supervisor.lean import signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

# A process that a KILL has not ended by then hangs in the kernel (state D) or belongs to another user.
UNKILLABLE_AFTER_S = 10.0
# A payload whose pilot is gone has nobody to save for: with the adopt window before it, all is over within ten seconds.
ORPHAN_GRACE_S = 4.0
# What forks in new groups faster than it can be stopped is left to the next round, and to the limit above.
_STOP_PASSES = 20
_FIRST_PAUSE_S = 0.002
_LONGEST_PAUSE_S = 0.2


def kill_below(root: int, spare: frozenset[int] = frozenset()) -> int:
    """Sends KILL to all that lives below `root` and returns how many there were.

    All are stopped first, until a look finds none that runs: a stopped process forks no successor.
    """
    stopped: set[tuple[int, int]] = set()
    living: list[procs.Process] = []
    for _ in range(_STOP_PASSES):
        living = [p for p in procs.descendants(root, procs.table(), spare) if p.state not in "ZX"]
        fresh = [p for p in living if (p.pid, p.started) not in stopped]
        if not fresh:
            break
        _send_all(fresh, signal.SIGSTOP)
        stopped.update((p.pid, p.started) for p in fresh)
    _send_all(living, signal.SIGKILL)
    return len(living)


def _send_all(processes: list[procs.Process], number: int) -> None:
    for process in {p.group: p for p in processes}.values():
        procs.send_group(process, number)
    for process in processes:
        procs.send(process, number)


def until_gone(pause: Callable[[float], None], reap: Callable[[], bool], limit_s: float = UNKILLABLE_AFTER_S) -> bool:
    """Kills and reaps all below this process; True when nothing is left, False when something cannot be ended.

    `reap` takes the children that have ended, and says whether there is no child any more.

    As every orphan becomes a child of this process (`kernel.adopt_orphans`), no child means no descendant.
    """
    deadline = time.monotonic() + limit_s
    pause_s = _FIRST_PAUSE_S
    while not reap():
        if time.monotonic() > deadline:
            return False
        kill_below(os.getpid())
        pause(pause_s)
        pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
    return True


def wait_on(fd: int) -> Callable[[float], None]:
    """A pause that ends early when `fd`, a signal's wake-up pipe, has news; it drains the pipe."""

    def pause(seconds: float) -> None:
        if select.select([fd], [], [], seconds)[0]:
            os.read(fd, 4096)

    return pause
