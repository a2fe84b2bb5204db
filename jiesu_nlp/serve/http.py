"""How requests are read from a connection: uvicorn's protocol over a parser in C, with a limit that it lacks."""

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MOST_UNREAD = 64 * 1024
"""Bytes that may come in without becoming a request or a piece of a body: heads, trailers, words beside chunks."""


class LimitedProtocol(HttpToolsProtocol):
    """Refuses whoever sends heads or trailers without end, before they fill the memory."""

    _unread = 0

    def data_received(self, data: bytes) -> None:
        """Parse what came in, unless too much of it has led nowhere."""
        self._unread += len(data)
        super().data_received(data)
        if self._unread > MOST_UNREAD and not self.transport.is_closing():
            self.send_400_response("Request header too large.")

    def on_headers_complete(self) -> None:
        """A head has become a request."""
        self._unread = 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Bytes have become a piece of a body, which the guard counts."""
        self._unread = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The next request begins."""
        self._unread = 0
        super().on_message_complete()
