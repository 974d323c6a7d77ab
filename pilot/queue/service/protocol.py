"""The HTTP protocol with limits that hold before anybody has said who they are: on headers, in size and time."""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEADER_BYTES = 64 << 10  # a token of 16 KiB fits; headers without end do not
PARTING_SECONDS = 0.3  # for the last octets; a client that does not answer TLS's good-bye must not hold up our end
READING_SECONDS = 120.0  # without an octet taken: who does not read what was asked for must not hold our memory
HEADER_SECONDS = 15.0  # from the first octet of a request, or from the connection, to the end of its headers


class LimitedProtocol(HttpToolsProtocol):
    """Closes connections that send headers without end, or too slowly."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._header_bytes = 0
        self._patience: asyncio.TimerHandle | None = None
        self._unread: asyncio.TimerHandle | None = None
        self._ending = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """The client has so long to ask something."""
        super().connection_made(transport)
        self._wait_for_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing more to wait for."""
        self._headers_are_here()
        self._is_read()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Counts what comes while headers are still awaited."""
        if self._patience is not None:
            self._header_bytes += len(data)
        super().data_received(data)
        if self._patience is not None and self._header_bytes > HEADER_BYTES:
            self.transport.abort()

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        if self._patience is None:
            self._wait_for_headers()

    def on_headers_complete(self) -> None:
        """The headers are here in time."""
        self._headers_are_here()
        super().on_headers_complete()

    def pause_writing(self) -> None:
        """The client reads more slowly than we write."""
        super().pause_writing()
        if self._unread is None:
            self._unread = self.loop.call_later(READING_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        """It has read on."""
        self._is_read()
        super().resume_writing()

    def _is_read(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    def shutdown(self) -> None:
        """The service ends: what is answered is parted from."""
        self._ending = True
        super().shutdown()
        if self.transport.is_closing():
            self._part()

    def on_response_complete(self) -> None:
        """An answer is out."""
        super().on_response_complete()
        if self._ending:
            self._part()

    def _part(self) -> None:
        """Leaves once everything is sent."""
        if self.transport.get_write_buffer_size():
            self.loop.call_later(PARTING_SECONDS, self._part)
        else:
            self.loop.call_later(PARTING_SECONDS, self.transport.abort)

    def _wait_for_headers(self) -> None:
        self._header_bytes = 0
        self._patience = self.loop.call_later(HEADER_SECONDS, self.transport.abort)

    def _headers_are_here(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None
