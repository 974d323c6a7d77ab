"""The supervisor as the pilot sees it: connections, verbs, and what follows from the pilot's death."""

from __future__ import annotations

import _socket
import errno
import gc
import os
import sys
import time

from pilot.supervisor.fleet import Fleet
from pilot.supervisor.lean import signal
from pilot.supervisor.link import Link
from pilot.supervisor.order import Order
from pilot.supervisor.reactor import Reactor
from pilot.supervisor.shim import failed
from pilot.supervisor.sweep import ORPHAN_GRACE_S

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pilot.supervisor.entry import Entry
    from pilot.supervisor.link import Message

_FOREVER = float("inf")
# A pilot that has just started its supervisor says hello at once; one that never does has died.
_FIRST_HELLO_S = 30.0
# Between two looks at the processes of a dead shim.
_ORPHAN_LOOK_S = 0.02


class Supervisor:
    """All payloads of one pilot; lives until the pilot takes its leave, or is gone for longer than the window."""

    __slots__ = ("clients", "fleet", "leaving", "owners", "reactor", "verbs", "waits_until_s", "window_s")

    def __init__(self, listener: _socket.socket, window_s: float) -> None:
        self.window_s = window_s
        self.clients: set[Link] = set()
        self.owners: set[Link] = set()  # those that have said hello; the pilot is dead when the last has gone
        self.leaving = False
        self.waits_until_s = time.monotonic() + max(window_s, _FIRST_HELLO_S)
        self.reactor = Reactor()
        self.fleet = Fleet(self.reactor, self._tell)
        self.reactor.watch(listener.fileno(), lambda: self._admit(listener))
        self.verbs: dict[object, Callable[[Link, Message], None]] = {
            "hello": self._hello,
            "start": self._start,
            "stop": self._stop,
            "signal": self._signal,
            "list": self._list,
            "forget": self._forget,
            "leave": self._leave,
        }

    def run(self) -> None:
        """Serves until there is nothing more to do."""
        gc.freeze()  # a forked shim must not copy every page just to count references
        while not self._done():
            self.reactor.turn(self._pause_s())
            if self._pilot_is_dead():
                self.fleet.stop_all("pilot-death", ORPHAN_GRACE_S)
            self.fleet.end_orphans()
            self.fleet.dismiss()

    def _done(self) -> bool:
        return (self.leaving or self._pilot_is_dead()) and not self.fleet.running

    def _pilot_is_dead(self) -> bool:
        return not self.owners and time.monotonic() >= self.waits_until_s

    def _pause_s(self) -> float | None:
        if self.fleet.orphaned:
            return _ORPHAN_LOOK_S
        patience_s = self.fleet.patience_s()
        if self.owners or self._pilot_is_dead():
            return patience_s
        left_s = self.waits_until_s - time.monotonic()
        return left_s if patience_s is None else min(left_s, patience_s)

    # ---- connections

    def _admit(self, listener: _socket.socket) -> None:
        try:
            fd, _ = listener._accept()  # type: ignore[attr-defined]
        except OSError:
            return  # it went again, or there is no descriptor left for it
        sock = _socket.socket(fileno=fd)
        credentials = sock.getsockopt(_socket.SOL_SOCKET, _socket.SO_PEERCRED, 12)
        if int.from_bytes(credentials[4:8], sys.byteorder) == os.getuid():
            self.attend(sock)
        else:
            sock.close()

    def attend(self, sock: _socket.socket, owner: bool = False) -> None:
        """Serves one more connection."""
        link = Link(sock)
        self.clients.add(link)
        if owner:
            self.owners.add(link)
        self.reactor.watch_link(link, lambda: self._hear(link))

    def _hear(self, link: Link) -> None:
        for message in link.receive():
            self._obey(link, message)
        if link.closed:
            self.reactor.drop_link(link)
            self.clients.discard(link)
            self._lose(link)

    def _lose(self, link: Link) -> None:
        if link in self.owners:
            self.owners.discard(link)
            self.waits_until_s = time.monotonic() + self.window_s

    def _tell(self, event: Message) -> None:
        for link in self.clients:
            link.send(event)

    # ---- verbs

    def _obey(self, link: Link, message: Message) -> None:
        verb = message.get("verb")
        try:
            if verb not in self.verbs:
                raise ValueError(f"verb: there is no {verb!r}")
            self.verbs[verb](link, message)
        except (TypeError, ValueError) as error:
            link.send({"event": "refused", "id": message.get("id"), "verb": verb, "message": str(error)})

    def _hello(self, link: Link, message: Message) -> None:
        self.window_s = _number(message, "adopt_window")
        self.owners.add(link)
        link.send({"event": "welcome", "pid": os.getpid(), "payloads": self._described()})

    def _list(self, link: Link, message: Message) -> None:
        del message
        link.send({"event": "payloads", "payloads": self._described()})

    def _described(self) -> list[Message]:
        return [entry.described() for entry in self.fleet.entries.values()]

    def _leave(self, link: Link, message: Message) -> None:
        del link
        longest_grace_s = _number(message, "grace") if "grace" in message else _FOREVER
        self.leaving = True
        self.fleet.stop_all("stop", longest_grace_s)

    def _start(self, link: Link, message: Message) -> None:
        identity = str(message.get("id"))
        if identity in self.fleet.entries:
            refusal = failed(identity, errno.EEXIST, "this id has been started already")
            link.send(refusal | {"duplicate": True})
            return
        try:
            if self.leaving:
                raise ValueError("the pilot has taken its leave")
            self.fleet.start(Order(message), message)
        except OSError as error:
            self._tell(failed(identity, error.errno or 0, f"cannot start a shim: {error.strerror}"))
        except ValueError as error:
            self._tell(failed(identity, errno.EINVAL, str(error)))

    def _stop(self, link: Link, message: Message) -> None:
        entry = self._entry(link, message)
        if entry is not None and entry.running:
            entry.stop(_number(message, "grace"), "stop")
        elif entry is not None:
            link.send(entry.exited())

    def _signal(self, link: Link, message: Message) -> None:
        number = int(_number(message, "number"))
        if number not in signal.valid_signals():
            raise ValueError(f"number: {number} is no signal")
        entry = self._entry(link, message)
        if entry is not None and entry.running:
            entry.link.send({"verb": "signal", "number": number})

    def _forget(self, link: Link, message: Message) -> None:
        entry = self._entry(link, message)
        if entry is not None and entry.running:
            raise ValueError("it still runs")
        if entry is not None:
            del self.fleet.entries[entry.order.payload]

    def _entry(self, link: Link, message: Message) -> Entry | None:
        entry = self.fleet.entries.get(str(message.get("id")))
        if entry is None:
            link.send({"event": "unknown", "id": message.get("id"), "verb": message.get("verb")})
        return entry


def _number(message: Message, key: str) -> float:
    value = message.get(key)
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < 1e9:
        raise ValueError(f"{key}: a number, zero or more, is needed")
    return value
