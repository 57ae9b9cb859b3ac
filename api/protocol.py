"""HTTP/1.1 on one connection: uvicorn's, and what it leaves open: slow heads, large heads, clients that never read."""

import asyncio

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

#: A whole head must have come by then, counted from the connection or from the head's first byte.
HEAD_SECONDS = 10.0
HEAD_BYTES = 16 * 1024
#: A body that was refused is read on, and thrown away, for so long: a client that still writes does not read the answer.
LINGER_SECONDS = 10.0
_TOO_SLOW = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
_TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"


class Protocol(HttpToolsProtocol):
    """Closes a connection whose head is slow or large; lets the application break one off."""

    _head_timer: asyncio.TimerHandle | None = None
    _is_in_head = False
    _linger_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Begin to count the time of the first head."""
        super().connection_made(transport)
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        if self._linger_timer is not None:
            self._linger_timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take what came. As good as always a head comes whole, then its time need not be measured."""
        super().data_received(data)
        if self._is_in_head and not self.transport.is_closing():
            if self._is_head_too_large():
                self.send_400_response("")
            else:
                self._expect_head()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._is_in_head = True
        self.scope["mailstream.abort"] = self.transport.abort  # type: ignore[typeddict-unknown-key]

    def on_headers_complete(self) -> None:
        if self._is_head_too_large():
            raise ValueError("head too large")  # the parser hands it on as an error of its own
        self._is_in_head = False
        self._stop_timer()
        super().on_headers_complete()
        cycle = self.cycle
        cycle.scope["mailstream.is_whole"] = lambda: not cycle.more_body  # type: ignore[typeddict-unknown-key]

    def on_message_complete(self) -> None:
        if self._linger_timer is not None:
            self._linger_timer.cancel()
            self._linger_timer = None
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """The answer is out, maybe before the body was in."""
        super().on_response_complete()
        if self.cycle.more_body and not self.transport.is_closing() and self._linger_timer is None:
            self._linger_timer = self.loop.call_later(LINGER_SECONDS, self.transport.abort)

    def send_400_response(self, msg: str) -> None:
        """Refuse what cannot be parsed, or is too large to be."""
        if self._is_head_too_large():
            self.transport.write(_TOO_LARGE)
            self.transport.close()
        else:
            super().send_400_response(msg)

    def _expect_head(self) -> None:
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(HEAD_SECONDS, self._head_is_late)

    def _stop_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _head_is_late(self) -> None:
        self._head_timer = None
        if not self.transport.is_closing():
            self.transport.write(_TOO_SLOW)
            self.transport.close()

    def _is_head_too_large(self) -> bool:
        size = sum(len(name) + len(value) + 4 for name, value in self.headers) if self._is_in_head else 0
        return size + len(self.url or b"") > HEAD_BYTES
