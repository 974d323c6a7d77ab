"""Waits for news on descriptors and calls whoever watches them; one thread, no clock of its own."""

from __future__ import annotations

import os
import select

from pilot.supervisor.lean import Quietly, signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pilot.supervisor.link import Link

_ROOM = select.EPOLLIN | select.EPOLLOUT


class Reactor:
    """Descriptors, their handlers, and the connections among them that may have something waiting to be sent."""

    __slots__ = ("handlers", "links", "poll")

    def __init__(self) -> None:
        self.poll = select.epoll()
        self.handlers: dict[int, Callable[[], None]] = {}
        self.links: dict[int, Link] = {}

    def watch(self, fd: int, handler: Callable[[], None]) -> None:
        """Has `handler` called whenever `fd` can be read."""
        self.handlers[fd] = handler
        self.poll.register(fd, select.EPOLLIN)

    def watch_link(self, link: Link, handler: Callable[[], None]) -> None:
        """The same for a connection, whose backlog is sent as room comes."""
        self.links[link.fileno()] = link
        self.watch(link.fileno(), handler)

    def drop_link(self, link: Link) -> None:
        """Ends and closes a connection."""
        fd = link.fileno()
        # Unregistered before it is closed: a shim that is just being forked may hold a copy, which epoll would keep.
        self.poll.unregister(fd)
        del self.handlers[fd], self.links[fd]
        link.close()

    def watch_children(self, handler: Callable[[], None]) -> None:
        """Has `handler` called whenever a child has ended."""
        wake, wake_end = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
        signal.set_wakeup_fd(wake_end, warn_on_full_buffer=False)

        def drained() -> None:
            with Quietly(BlockingIOError):
                os.read(wake, 4096)
            handler()

        self.watch(wake, drained)

    def turn(self, pause_s: float | None) -> None:
        """Waits for news, at most so long, and passes it on."""
        for fd, events in self.poll.poll(pause_s):
            if fd in self.links and events & select.EPOLLOUT:
                self.links[fd].flush()
            if fd in self.handlers and events & ~select.EPOLLOUT:
                self.handlers[fd]()
        self._settle()

    def _settle(self) -> None:
        """Has the poll wait for room in a connection exactly while something waits to be sent."""
        for fd, link in self.links.items():
            if bool(link.pending) != link.writing:
                link.writing = not link.writing
                self.poll.modify(fd, _ROOM if link.writing else select.EPOLLIN)
