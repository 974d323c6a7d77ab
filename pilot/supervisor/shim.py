"""The process between supervisor and payload: it starts, drains, stops, sweeps and records one payload at a time.

A shim whose payload is proven gone may be given another: a fresh fork would copy page after page just to get there.
"""

from __future__ import annotations

import gc
import os
import resource
import select
import time

from pilot.supervisor import kernel, launch, record, sweep
from pilot.supervisor.account import Account
from pilot.supervisor.guard import Guard
from pilot.supervisor.lean import Quietly, signal
from pilot.supervisor.order import Order
from pilot.supervisor.procs import look
from pilot.supervisor.streams import Streams

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pilot.supervisor.link import Link, Message

_FOREVER = float("inf")
# Then a fresh one takes its place, so that nothing that grows, or that payloads do to their parent, goes on for ever.
_MOST_PAYLOADS = 1000


def serve(link: Link, boot_id: str) -> None:
    """Runs in the forked child of the supervisor and never returns."""
    code = 1
    try:
        gc.disable()
        supervisor = os.getppid()
        os.setsid()
        _close_all_but(link.fileno())
        kernel.adopt_orphans()
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # for the payloads, which inherit it
        _serve_all(link, launch.Origin(boot_id, supervisor))
        code = 0
    finally:
        launch.report_bug()
        os._exit(code)


def _close_all_but(keep: int) -> None:
    """Other shims' and clients' connections must end with their owners, not with this process."""
    for name in os.listdir("/proc/self/fd"):
        fd = int(name)
        if fd > 2 and fd != keep:
            with Quietly(OSError):  # the listing's own descriptor
                os.close(fd)


def _serve_all(link: Link, origin: launch.Origin) -> None:
    """One payload after another, until the supervisor lets it go, or a payload left something behind."""
    wake, wake_end = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(wake_end, warn_on_full_buffer=False)
    for left in range(_MOST_PAYLOADS, 0, -1):
        message, *early = _next(link)
        if not message or not _run(Order(message), link, origin, (wake, left > 1), early):
            return


def _next(link: Link) -> list[Message]:
    """Waits for a start, and gives it with what was said after it; what is said of the last payload comes too late."""
    poll = select.poll()
    poll.register(link.fileno(), select.POLLIN)
    while not link.closed:
        poll.poll()
        said = link.receive()
        for at, message in enumerate(said):
            if message["verb"] == "start":
                return said[at:]
    return [{}]


def _run(order: Order, link: Link, origin: launch.Origin, stay: tuple[int, bool], early: list[Message]) -> bool:
    """One payload, to its end; whether this shim can be given another."""
    wake, wanted = stay
    directory = -1
    try:
        directory = os.open(order.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        shim = Shim(order, link, origin.at(directory), wake, wanted)
    except OSError as error:
        with Quietly(OSError):
            os.unlink(record.STARTED, dir_fd=directory)
        text = f"cannot start {error.filename or order.argv[0]}: {error.strerror}"
        link.send(failed(order.payload, error.errno or 0, text))
        return False
    shim.run(early)
    os.close(directory)
    return shim.free


def failed(payload: str, number: int, message: str) -> Message:
    """The event that says that a payload did not start."""
    return {"event": "failed", "id": payload, "errno": number, "message": message}


class Shim:
    """One payload, from start to record."""

    __slots__ = (
        "account",
        "deadline",
        "directory",
        "ended",
        "free",
        "guard",
        "handlers",
        "killed",
        "link",
        "main",
        "order",
        "poll",
        "stopped_by",
        "streams",
        "wake",
        "wanted",
    )

    def __init__(self, order: Order, link: Link, origin: launch.Origin, wake: int, wanted: bool) -> None:
        self.order = order
        self.link = link
        self.directory = origin.directory
        self.handlers: dict[int, Callable[[], None]] = {}
        self.poll = select.poll()
        self.streams = Streams(order, self.watch, self.unwatch)
        self.killed = self.ended = self.free = False
        self.wanted = wanted  # whether this shim stays for another payload
        self.stopped_by = ""
        self.deadline = _FOREVER
        self.wake = wake
        self.watch(wake, self._child_news)
        self.watch(link.fileno(), self._heed)
        self.account = Account()
        self.main = self._start(origin)
        self.guard = Guard()

    def watch(self, fd: int, handler: Callable[[], None]) -> None:
        """Has `handler` called whenever `fd` can be read."""
        self.handlers[fd] = handler
        self.poll.register(fd, select.POLLIN)

    def unwatch(self, fd: int) -> None:
        """Ends the watch of `fd` and closes it."""
        del self.handlers[fd]
        self.poll.unregister(fd)
        os.close(fd)

    def _start(self, origin: launch.Origin) -> int:
        announced = record.announce(self.directory, launch.announcement(self.order, origin))
        pid = launch.payload(self.order, origin, self.streams.far_ends)
        since = look(pid).started
        record.fill_in(announced, pid, since)
        self.streams.close_far_ends()
        self.link.send({"event": "started", "id": self.order.payload, "pid": pid, "session": pid, "start_time": since})
        return pid

    def run(self, early: list[Message]) -> None:
        """Serves the payload until it has ended and nothing of it is left; `early` was said before it began."""
        self._obey(early)
        while not self.ended:
            pause_s = min(self.deadline, self.guard.due_s) - time.monotonic()
            if pause_s <= 0:
                self._time_is_up()
                continue
            for fd, _ in self.poll.poll(None if pause_s == _FOREVER else pause_s * 1000 + 1):
                if fd in self.handlers and not self.ended:
                    self.handlers[fd]()

    def _child_news(self) -> None:
        with Quietly(BlockingIOError):
            os.read(self.wake, 4096)
        while not self.ended:
            # Looked at without reaping: as long as the main process stays a zombie, its number, which is also that
            # of its group and session, cannot pass to a stranger.
            news = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if news is None:
                return
            if news.si_pid == self.main:
                self._finish()
            else:
                self.account.reap(news.si_pid)

    def _heed(self) -> None:
        """The supervisor's orders; the end of the connection is its death."""
        self._obey(self.link.receive())
        if self.link.closed:
            del self.handlers[self.link.fileno()]
            self.poll.unregister(self.link.fileno())
            self._stop(min(self.order.grace, sweep.ORPHAN_GRACE_S), "supervisor-death")

    def _obey(self, said: list[Message]) -> None:
        for message in said:
            if message["verb"] == "signal":
                self._signal(int(str(message["number"])))
            else:
                self._stop(float(str(message["grace"])), str(message["why"]))

    def _stop(self, grace_s: float, why: str) -> None:
        """TERM now and KILL after the grace; asked again, it can only come sooner."""
        if not self.stopped_by:
            self.stopped_by = why
            self._signal(signal.SIGTERM)
            self._signal(signal.SIGCONT)  # a stopped process hears a TERM only when it goes on
        if not self.killed:
            self.deadline = min(self.deadline, time.monotonic() + grace_s)

    def _signal(self, number: int) -> None:
        """To the payload's group or main process, which has not been reaped: the number is still its own."""
        with Quietly(PermissionError):  # it runs as another user now; the sweep will tell
            (os.killpg if self.order.group or number == signal.SIGKILL else os.kill)(self.main, number)

    def _time_is_up(self) -> None:
        if self.guard.due_s <= self.deadline:
            self.guard.post(self.main)
            return
        if self.killed:
            self._finish(reaped=False)
            return
        self.killed = True
        self._signal(signal.SIGKILL)
        self.deadline = time.monotonic() + sweep.UNKILLABLE_AFTER_S

    def _finish(self, reaped: bool = True) -> None:
        """Sweeps, drains what is there, records; a daemon that still holds a pipe delays nothing."""
        self.ended = True
        self.guard.relieve()
        self._signal(signal.SIGKILL)
        if reaped:
            self.account.close(self.main)
        gone = reaped and sweep.until_gone(sweep.wait_on(self.wake), self.account.reap_ended)
        self.streams.finish()
        self.free = gone and self.wanted and not self.link.closed
        outcome = {"gone": gone, "stopped_by": self.stopped_by}
        result = self.account.record() | self.streams.record() | outcome
        with Quietly(OSError):  # a full disk: the supervisor still gets the record
            record.write(self.directory, record.EXIT, result)
        self.link.send({"event": "exited", "id": self.order.payload, "record": result, "free": self.free})
