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

_FOREVER = float("inf")
# Short payloads follow one another within milliseconds; a shim that waits longer only costs memory.
_IDLE_S = 1.0


class Worker:
    """One living shim, with the payload that it holds, or since when it has held none."""

    __slots__ = ("entry", "idle_since_s", "link", "pid")

    def __init__(self, pid: int, link: Link) -> None:
        self.pid = pid
        self.link = link
        self.entry: Entry | None = None
        self.idle_since_s = _FOREVER

    def take(self, entry: Entry, message: Message) -> None:
        """Gives it a payload to start."""
        self.entry = entry
        self.idle_since_s = _FOREVER
        self.link.send(message)

    def rest(self) -> None:
        """It waits for another payload."""
        self.entry = None
        self.idle_since_s = time.monotonic()


class Fleet:
    """Every payload from its start until it is forgotten; `tell` hears of each event."""

    __slots__ = ("boot_id", "entries", "reactor", "tell", "workers")

    def __init__(self, reactor: Reactor, tell: Callable[[Message], None]) -> None:
        self.boot_id = procs.boot_id()
        self.entries: dict[str, Entry] = {}
        self.workers: dict[int, Worker] = {}
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

    def start(self, order: Order, message: Message) -> None:
        """Has a shim start the payload: the one that came free last, else a new one."""
        worker = max(self._idle(), key=lambda each: each.idle_since_s, default=None) or self._fork()
        entry = Entry(order, worker.link)
        self.entries[order.payload] = entry
        worker.take(entry, message)

    def _idle(self) -> list[Worker]:
        return [worker for worker in self.workers.values() if worker.idle_since_s != _FOREVER]

    def _fork(self) -> Worker:
        ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_STREAM)
        try:
            pid = os.fork()
        except OSError:
            ours.close()
            theirs.close()
            raise
        if pid == 0:
            shim.serve(Link(theirs), self.boot_id)
        theirs.close()
        worker = self.workers[pid] = Worker(pid, Link(ours))
        self.reactor.watch_link(worker.link, lambda: self._hear(worker))
        return worker

    def patience_s(self) -> float | None:
        """How long no shim needs to be dismissed; None where none waits for a payload."""
        since_s = min((worker.idle_since_s for worker in self.workers.values()), default=_FOREVER)
        return None if since_s == _FOREVER else max(0.0, since_s + _IDLE_S - time.monotonic())

    def dismiss(self) -> None:
        """Lets the shims go for which there has been no payload for a while; their connection's end tells them."""
        limit_s = time.monotonic() - _IDLE_S
        for worker in self._idle():
            if worker.idle_since_s <= limit_s:
                self._drop(worker)

    def _drop(self, worker: Worker) -> None:
        self.reactor.drop_link(worker.link)
        del self.workers[worker.pid]

    def stop_all(self, why: str, longest_grace_s: float = float("inf")) -> None:
        """Asks every shim to stop its payload, each with its own grace, none with more than this."""
        for entry in self.entries.values():
            if entry.running and not entry.stopped_by:
                entry.stopped_by = why
                entry.stop(min(entry.order.grace, longest_grace_s), why)

    def _hear(self, worker: Worker) -> None:
        for event in worker.link.receive():
            free = event.pop("free", None)
            self._note(worker, event)
            if free:
                worker.rest()
            self.tell(event)
        if worker.link.closed:
            self._drop(worker)
            if worker.entry is not None and worker.entry.running:
                worker.entry.orphan()

    def _note(self, worker: Worker, event: Message) -> None:
        entry = worker.entry
        if entry is None:
            return  # a shim that holds no payload has nothing to tell
        if event["event"] == "started":
            entry.started = event
        elif event["event"] == "exited":
            entry.result = _table(event["record"])
        else:
            entry.result = event  # it did not start: nothing is left to keep
            del self.entries[entry.order.payload]

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
        spare = frozenset(self.workers)
        # Looked twice: a process whose parent is reaped by another during one look may be missed by it.
        gone = all(sweep.kill_below(os.getpid(), spare) == 0 for _ in range(2))
        self._reap()  # a main process that died during the look has left its status
        for entry in orphaned:
            if gone or time.monotonic() > entry.orphaned_until_s:
                self.tell(entry.close_without_shim(gone))


def _table(value: object) -> Message:
    return value if isinstance(value, dict) else {}
