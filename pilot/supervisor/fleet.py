"""The supervisor's payloads: one shim each, and what remains of those whose shim was killed."""

from __future__ import annotations

import _socket
import os
import time

from pilot.supervisor import procs, shim, sweep
from pilot.supervisor.entry import Entry
from pilot.supervisor.lean import Quietly
from pilot.supervisor.link import Link

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pilot.supervisor.link import Message
    from pilot.supervisor.order import Order
    from pilot.supervisor.reactor import Reactor


class Fleet:
    """Every payload from its start until it is forgotten; `tell` hears of each event."""

    __slots__ = ("boot_id", "entries", "reactor", "tell")

    def __init__(self, reactor: Reactor, tell: Callable[[Message], None]) -> None:
        self.boot_id = procs.boot_id()
        self.entries: dict[str, Entry] = {}
        self.reactor = reactor
        self.tell = tell
        reactor.watch_children(self._reap)

    @property
    def running(self) -> bool:
        """Whether anything of any payload may still be alive."""
        return any(entry.running for entry in self.entries.values())

    @property
    def orphaned(self) -> list[Entry]:
        """The payloads whose shim died and whose processes are not yet gone."""
        return [entry for entry in self.entries.values() if entry.orphaned]

    def start(self, order: Order) -> None:
        """Forks the shim that starts the payload."""
        ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_STREAM)
        try:
            pid = os.fork()
        except OSError:
            ours.close()
            theirs.close()
            raise
        if pid == 0:
            shim.serve(order, Link(theirs), self.boot_id)
        theirs.close()
        entry = Entry(order, pid, Link(ours))
        self.entries[order.payload] = entry
        self.reactor.watch_link(entry.link, lambda: self._hear(entry))

    def stop_all(self, why: str, longest_grace_s: float = float("inf")) -> None:
        """Asks every shim to stop its payload, each with its own grace, none with more than this."""
        for entry in self.entries.values():
            if entry.running and not entry.stopped_by:
                entry.stopped_by = why
                entry.stop(min(entry.order.grace, longest_grace_s), why)

    def _hear(self, entry: Entry) -> None:
        for event in entry.link.receive():
            if event["event"] == "started":
                entry.started = event
            elif event["event"] == "exited":
                entry.result = _table(event["record"])
            else:
                entry.result = event  # it did not start: nothing is left to keep
                del self.entries[entry.order.payload]
            self.tell(event)
        if entry.link.closed:
            self.reactor.drop_link(entry.link)
            if entry.running:
                entry.orphan()

    def _reap(self) -> None:
        with Quietly(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    return
                self._ended(pid, status)

    def _ended(self, pid: int, status: int) -> None:
        """A child has ended; where it is the main process of a dead shim's payload, that is its exit."""
        for entry in self.entries.values():
            if entry.running and entry.started.get("pid") == pid:
                entry.status = status

    def end_orphans(self) -> None:
        """Ends what dead shims left: all that is below this process and below no living shim."""
        orphaned = self.orphaned
        if not orphaned:
            return
        self._reap()
        spare = frozenset(entry.shim for entry in self.entries.values() if not entry.orphaned)
        # Looked twice: a process whose parent is reaped by another during one look may be missed by it.
        gone = all(sweep.kill_below(os.getpid(), spare) == 0 for _ in range(2))
        for entry in orphaned:
            if gone or time.monotonic() > entry.orphaned_until_s:
                self.tell(entry.close_without_shim(gone))


def _table(value: object) -> Message:
    return value if isinstance(value, dict) else {}
