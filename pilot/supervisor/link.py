"""One connection that carries one JSON object per line, both ways, without ever blocking."""

from __future__ import annotations

from pilot.supervisor.lean import dumps, loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket

# A start carries argv and environment, which the kernel itself caps at 2 MiB; JSON may double that.
LINE_LIMIT_BYTES = 4 << 20
# A peer that lets this much pile up does not read any more: it is treated as dead.
BACKLOG_LIMIT_BYTES = 32 << 20
READ_BYTES = 256 << 10

Message = dict[str, object]


class Lines:
    """Cuts a byte stream into messages."""

    __slots__ = ("limit", "rest")

    def __init__(self, limit: int = LINE_LIMIT_BYTES) -> None:
        self.limit = limit
        self.rest = b""

    def feed(self, data: bytes) -> list[Message]:
        """The messages that `data` completes; ValueError for what is no message."""
        *whole, self.rest = (self.rest + data).split(b"\n")
        if len(self.rest) > self.limit or any(len(line) > self.limit for line in whole):
            raise ValueError(f"a line longer than {self.limit} bytes")
        return [_message(line) for line in whole if line]


def _message(line: bytes) -> Message:
    value = loads(line.decode("utf-8"))
    if not isinstance(value, dict):
        raise ValueError("a message must be a JSON object")
    return value


def line(message: Message) -> bytes:
    """A message as it goes over the wire."""
    return dumps(message).encode("ascii") + b"\n"


class Link:
    """A non-blocking socket with a line buffer each way; `closed` once the peer is gone."""

    __slots__ = ("closed", "lines", "pending", "sock", "writing")

    def __init__(self, sock: _socket.socket) -> None:
        sock.setblocking(False)
        self.sock = sock
        self.lines = Lines()
        self.pending = b""
        self.closed = False
        self.writing = False  # whether the owner's poll waits for room

    def fileno(self) -> int:
        """The descriptor to wait on."""
        return self.sock.fileno()

    def receive(self) -> list[Message]:
        """The messages that are there now; what a peer said before it went is still given."""
        try:
            data = self.sock.recv(READ_BYTES)
        except BlockingIOError:
            return []
        except OSError:
            data = b""
        self.closed = self.closed or not data
        return self._parse(data)

    def _parse(self, data: bytes) -> list[Message]:
        try:
            return self.lines.feed(data)
        except ValueError as error:
            self.send({"event": "refused", "message": f"{error}; the connection is closed"})
            self.closed = True
            return []

    def send(self, message: Message) -> None:
        """Sends, or keeps for `flush` what the peer does not take now."""
        self.pending += line(message)
        self.flush()

    def flush(self) -> None:
        """Sends what was kept."""
        try:
            while self.pending and not self.closed:
                self.pending = self.pending[self.sock.send(self.pending) :]
        except BlockingIOError:
            self.closed = self.closed or len(self.pending) > BACKLOG_LIMIT_BYTES
        except OSError:
            # Not `closed`: what the peer had sent before it went must still be read; the read finds the end.
            self.pending = b""

    def close(self) -> None:
        """Ends the connection."""
        self.closed = True
        self.sock.close()
