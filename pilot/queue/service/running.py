"""The served queue as a process: it listens, drains on TERM, reads its keys again on HUP."""

import logging
import resource
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from ssl import SSLContext
from types import FrameType

import uvicorn
from starlette.applications import Starlette

from pilot.ports import PortError
from pilot.queue.service.protocol import LimitedProtocol

log = logging.getLogger("pilot.serve")

KEEP_ALIVE_SECONDS = 90  # longer than the pause between a pilot's heartbeats: its connection is used again
DRAIN_SECONDS = 5
TURN_SECONDS = (
    0.0005  # Python gives a busy thread 5 ms before another one has its turn: a quarter of the time of a request
)
ENDS = (signal.SIGTERM, signal.SIGINT)


@dataclass(frozen=True, slots=True)
class Wiring:
    """What the process does beside answering: `drain` answers long looks, `reload` reads keys and certificate anew."""

    drain: Callable[[], None]
    reload: Callable[[], None]
    ready: Callable[[], None] = lambda: None


class Running(uvicorn.Server):
    """The server, told to end by `should_exit` or a signal."""

    def __init__(self, app: Starlette, tls: SSLContext | None, wiring: Wiring) -> None:
        config = uvicorn.Config(
            app,
            http=LimitedProtocol,
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=DRAIN_SECONDS,
        )
        config.load()
        config.ssl = tls
        super().__init__(config)
        self.ended_by = 0
        self._wiring = wiring
        self._reload = False

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Says so once it can be reached."""
        await super().startup(sockets)
        self._wiring.ready()

    async def on_tick(self, counter: int) -> bool:
        """Ten times a second; also does what a signal asked for."""
        if self._reload:
            self._reload = False
            self._read_anew()
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """No new connections; who waits is answered, what runs is finished."""
        self._wiring.drain()
        await super().shutdown(sockets)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Ours, while it runs in a process of its own; in a test's thread there are none."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {each: signal.signal(each, self._end) for each in ENDS}
        before[signal.SIGHUP] = signal.signal(signal.SIGHUP, self._hang_up)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _end(self, number: int, _frame: FrameType | None) -> None:
        self.force_exit = self.should_exit
        self.should_exit = True
        self.ended_by = number

    def _hang_up(self, _number: int, _frame: FrameType | None) -> None:
        self._reload = True

    def _read_anew(self) -> None:
        try:
            self._wiring.reload()
            log.info("keys and certificate read anew")
        except PortError as problem:
            log.error("keys and certificate stay as they were: %s", problem.fault.detail)


def make_room() -> None:
    """As many open connections as this process may have; and the database thread lets the event loop in soon."""
    sys.setswitchinterval(TURN_SECONDS)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
