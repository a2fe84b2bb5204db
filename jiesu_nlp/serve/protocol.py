"""How requests are read from a connection: uvicorn's protocol over a parser in C, with limits that it lacks."""

import asyncio

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MOST_UNREAD = 64 * 1024
"""Bytes that may come in without becoming a request or a piece of a body: heads, trailers, words beside chunks."""
HEAD_SECONDS = 10
"""How long a head may take to come in, and a new connection to say anything."""


class LimitedProtocol(HttpToolsProtocol):
    """Refuses heads and trailers without end before they fill the memory, and does not wait for a head for ever."""

    _unread = 0
    _in_head = True
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for the first head."""
        super().connection_made(transport)
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no more."""
        self._wait_no_more()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse what came in, unless too much of it has led nowhere."""
        self._unread += len(data)
        super().data_received(data)
        if self._unread > MOST_UNREAD and not self.transport.is_closing():
            self.send_400_response("Request header too large.")
        elif self._unread and self._in_head:  # a request that comes in one piece needs no timer
            self._wait()

    def on_headers_complete(self) -> None:
        """A head has become a request."""
        self._unread, self._in_head = 0, False
        self._wait_no_more()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Bytes have become a piece of a body, which the guard counts."""
        self._unread = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The next request begins; until its first byte comes, uvicorn's own patience counts."""
        self._unread, self._in_head = 0, True
        super().on_message_complete()

    def _wait(self) -> None:
        self._timer = self._timer or self.loop.call_later(HEAD_SECONDS, self.transport.close)

    def _wait_no_more(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None
