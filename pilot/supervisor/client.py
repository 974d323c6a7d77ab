"""The pilot's end: starts or finds the supervisor, orders payloads, hears of their ends."""

from __future__ import annotations

import os
import select
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from pilot.supervisor.link import Lines, Message, line
from pilot.supervisor.place import LOG, Place
from pilot.supervisor.spawn import find, spawn

_READ_BYTES = 256 << 10
_RETRY_S = 0.02
_LEAST_PATIENCE_S = 1.0


class SupervisorLost(ConnectionError):
    """There is no supervisor at the other end (any more)."""


class SupervisorLeaving(SupervisorLost):
    """An earlier one was just leaving: it accepts no more, or still holds the lock. Trying again helps."""


@dataclass(frozen=True, slots=True)
class Payload:
    """What is to be started; `id` is its idempotency key, `env` its complete environment.

    An `env` entry PILOT_MARK (any unlikely text) lets a later sweep find processes that left the session, or whose
    number was not noted yet.
    With `group` false TERM and notices go to the main process alone (Apptainer passes them on itself).
    """

    id: str
    argv: Sequence[str]
    env: Mapping[str, str]
    cwd: str
    directory: str
    stdout: str
    stderr: str
    head_bytes: int = 4 << 20
    tail_bytes: int = 1 << 20
    grace: float = 10.0
    group: bool = True


@dataclass(frozen=True, slots=True)
class Event:
    """What the supervisor tells: welcome, payloads, started, exited, failed, refused, unknown; or lost."""

    kind: str
    id: str = ""
    body: Message = field(default_factory=dict)


class Client:
    """One connection: any thread may order, one thread reads."""

    def __init__(self, sock: socket.socket, child: int = 0) -> None:
        self._sock = sock
        self._child = child
        self._sending = threading.Lock()
        self._lines = Lines()
        self._events: deque[Event] = deque()
        self._lost = False
        self.pid = child
        self.payloads: tuple[Message, ...] = ()

    @classmethod
    def launch(cls, state: str, adopt_window: float, patience_s: float = 10.0) -> Client:
        """Connects to the supervisor alive in `state`, else starts one; `payloads` then lists what it holds."""
        deadline = time.monotonic() + patience_s
        while True:
            client = cls.begin(state, adopt_window)
            try:
                client.greet(max(_LEAST_PATIENCE_S, deadline - time.monotonic()))
            except SupervisorLeaving:
                client.close()
                if time.monotonic() + _RETRY_S > deadline:
                    raise
                select.select([], [], [], _RETRY_S)
            except SupervisorLost:
                client.close()
                raise
            else:
                return client

    @classmethod
    def begin(cls, state: str, adopt_window: float) -> Client:
        """The first half of `launch`, which waits for nothing: an early call hides the supervisor's start."""
        place = Place(state)
        try:
            sock, child = find(place), 0
            if sock is None:
                sock, child = spawn(place, adopt_window)
        finally:
            os.close(place.directory)
        client = cls(sock, child)
        client._order({"verb": "hello", "adopt_window": adopt_window})
        return client

    def greet(self, patience_s: float) -> None:
        """The second half: waits for the welcome."""
        event = self.next(patience_s)
        if event.kind == "welcome":
            held = event.body["payloads"]
            self.payloads = tuple(held) if isinstance(held, list) else ()
            self.pid = int(str(event.body["pid"]))
            return
        while self.next(_LEAST_PATIENCE_S).kind not in ("lost", "none"):
            pass  # to its end, so that `close` can reap it
        if event.body.get("taken") or (event.kind == "lost" and not self._child):
            raise SupervisorLeaving(f"supervisor: {event.body.get('message', 'it was just leaving')}")
        reason = event.body.get("message", f"no answer; its last words may be in {LOG} of the state directory")
        raise SupervisorLost(f"supervisor: {reason}")

    def fileno(self) -> int:
        """The descriptor that has news."""
        return self._sock.fileno()

    # ---- orders

    def start(self, payload: Payload) -> None:
        """Answered by `started` and later `exited`, or by `failed`."""
        self._order(
            {
                "verb": "start",
                "id": payload.id,
                "argv": list(payload.argv),
                "env": dict(payload.env),
                "cwd": payload.cwd,
                "directory": payload.directory,
                "stdout": payload.stdout,
                "stderr": payload.stderr,
                "head_bytes": payload.head_bytes,
                "tail_bytes": payload.tail_bytes,
                "grace": payload.grace,
                "group": payload.group,
            }
        )

    def stop(self, payload: str, grace: float) -> None:
        """TERM, after `grace` seconds KILL, and the sweep; answered by `exited` (again, if it has ended already)."""
        self._order({"verb": "stop", "id": payload, "grace": grace})

    def signal(self, payload: str, number: int) -> None:
        """Sends a notice to the payload."""
        self._order({"verb": "signal", "id": payload, "number": int(number)})

    def list(self) -> None:
        """Answered by `payloads`."""
        self._order({"verb": "list"})

    def forget(self, payload: str) -> None:
        """Drops an exit that has been taken care of."""
        self._order({"verb": "forget", "id": payload})

    def leave(self, grace: float | None = None) -> None:
        """The orderly end: the supervisor stops what runs, with at most this grace, and exits; then comes `lost`."""
        self._order({"verb": "leave"} | ({} if grace is None else {"grace": grace}))

    def close(self) -> None:
        """Ends the connection without leave: to the supervisor this is the pilot's death."""
        self._sock.close()
        if self._child and os.waitpid(self._child, 0 if self._lost else os.WNOHANG)[0]:
            self._child = 0

    def _order(self, message: Message) -> None:
        try:
            with self._sending:
                self._sock.sendall(line(message))
        except OSError as error:
            if message["verb"] == "hello":
                return  # what it said before it went, perhaps why, is read by `greet`
            raise SupervisorLost(f"supervisor: cannot {message['verb']}: {error.strerror or error}") from error

    # ---- news

    def next(self, timeout_s: float | None = None) -> Event:
        """The next event; `none` if the time passed without one, `lost` for ever after the end."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while not self._events:
            if self._lost:
                return Event("lost")
            pause_s = None if deadline is None else max(0.0, deadline - time.monotonic())
            if not select.select([self._sock], [], [], pause_s)[0]:
                return Event("none")
            self._receive()
        return self._events.popleft()

    def _receive(self) -> None:
        try:
            data = self._sock.recv(_READ_BYTES)
        except OSError:
            data = b""
        self._lost = self._lost or not data
        for message in self._lines.feed(data):
            self._events.append(Event(str(message.pop("event")), str(message.pop("id", "")), message))

    def pump(self, on_event: Callable[[Event], None]) -> None:
        """Gives every event to `on_event`, the last being `lost`; for the reader thread."""
        while True:
            event = self.next()
            on_event(event)
            if event.kind == "lost":
                return
