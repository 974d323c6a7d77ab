"""The payload's output pipes, held and drained by the shim."""

from __future__ import annotations

import os

from pilot.supervisor.sink import BLOCK_BYTES, Sink

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pilot.supervisor.link import Message
    from pilot.supervisor.order import Order

# What may still lie in a pipe at the end, were it as large (1 MiB) as an ordinary user can make it.
_LAST_READS = 16


class Streams:
    """One pipe and one log per stream, or one for both where the paths are the same."""

    __slots__ = ("err", "far_ends", "out", "sinks", "unwatch")

    def __init__(
        self, order: Order, watch: Callable[[int, Callable[[], None]], None], unwatch: Callable[[int], None]
    ) -> None:
        self.unwatch = unwatch
        self.sinks: dict[int, Sink] = {}
        self.out = Sink(order.stdout, order.head_bytes, order.tail_bytes)
        self.err = self.out
        far_out = far_err = self._pipe(self.out, watch)
        if order.stderr != order.stdout:
            self.err = Sink(order.stderr, order.head_bytes, order.tail_bytes)
            far_err = self._pipe(self.err, watch)
        self.far_ends = (far_out, far_err)

    def _pipe(self, sink: Sink, watch: Callable[[int, Callable[[], None]], None]) -> int:
        near, far = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(near, False)
        self.sinks[near] = sink
        watch(near, lambda: self._drain(near, 1))
        return far

    def close_far_ends(self) -> None:
        """Leaves the writing ends to the payload."""
        for fd in set(self.far_ends):
            os.close(fd)

    def _drain(self, fd: int, reads: int) -> None:
        """At most so many blocks: a writer that never pauses must not keep the shim from its other duties."""
        for _ in range(reads):
            try:
                data = os.read(fd, BLOCK_BYTES)
            except BlockingIOError:
                return
            if not data:
                del self.sinks[fd]
                self.unwatch(fd)
                return
            self.sinks[fd].take(data)

    def finish(self) -> None:
        """Takes what lies in the pipes and closes them and the logs."""
        for fd in list(self.sinks):
            self._drain(fd, _LAST_READS)
        for fd in list(self.sinks):
            del self.sinks[fd]
            self.unwatch(fd)
        for sink in {self.out, self.err}:
            sink.close()

    def record(self) -> Message:
        """How much each stream wrote, and how much of it is not in its log (both in `stdout` where they share one)."""
        shared = self.err is self.out
        return {
            "stdout_bytes": self.out.total,
            "stdout_dropped_bytes": self.out.dropped,
            "stderr_bytes": 0 if shared else self.err.total,
            "stderr_dropped_bytes": 0 if shared else self.err.dropped,
        }
