"""Server-sent events. A stream holds no queue: when a client has read, it is sent what is new by then.

So a client that never reads costs one buffer of the socket, and is cut off after a while.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from api.keys import Key
from api.problems import Code, Problem

MEDIA_TYPE = "text/event-stream"
PING_SECONDS, STALL_SECONDS = 15.0, 10.0
_PING = b": ping\n\n"
_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


class Source(Protocol):
    """Where a stream's events come from."""

    def take(self) -> bytes | None:
        """What is new since the last call, ready to send; empty: nothing; None: the stream is over."""

    def watch(self, wake: Callable[[], None]) -> Callable[[], None]:
        """Call ``wake`` when there may be something new; returns what ends that."""


class Streams:
    """The open streams: bounded for each key, and ended together when the process stops."""

    def __init__(self) -> None:
        self.is_closing = False
        self._open: Counter[str] = Counter()
        self._wakers: set[Callable[[], None]] = set()

    def count(self) -> int:
        """How many are open."""
        return self._open.total()

    def require_room(self, caller: Key) -> None:
        """Raises Problem 429 when the key has as many streams as it may."""
        if self._open[caller.sha256] >= caller.streams:
            raise Problem(
                Code.TOO_MANY_STREAMS,
                f"This key has {caller.streams} streams open. Close one first.",
                headers={"Retry-After": "5"},
            )

    @contextmanager
    def open(self, caller: Key, wake: Callable[[], None]) -> Iterator[None]:
        """Count a stream while it is open."""
        self._open[caller.sha256] += 1
        self._wakers.add(wake)
        try:
            yield
        finally:
            self._open[caller.sha256] -= 1
            self._wakers.discard(wake)

    def close(self) -> None:
        """End all of them, now and from now on."""
        self.is_closing = True
        for wake in tuple(self._wakers):
            wake()


class EventStream(Response):
    """The answer that goes on."""

    def __init__(self, source: Source, streams: Streams, caller: Key) -> None:
        """Raises Problem 429 when the key has as many streams as it may."""
        streams.require_room(caller)
        super().__init__(status_code=200, headers=_HEADERS, media_type=MEDIA_TYPE)
        del self.headers["content-length"]
        self._source, self._streams, self._caller = source, streams, caller
        self._wake = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send what there is, then what comes, until the client or the process goes."""
        unwatch = self._source.watch(self._wake.set)
        gone = asyncio.create_task(self._until_gone(receive))
        try:
            with self._streams.open(self._caller, self._wake.set):
                await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
                await self._send_all(send, gone)
                await send({"type": "http.response.body", "body": b"", "more_body": False})
        except TimeoutError:
            if (abort := scope.get("mailstream.abort")) is not None:  # closing would wait for the client to read
                abort()
        finally:
            gone.cancel()
            unwatch()

    async def _send_all(self, send: Send, gone: "asyncio.Task[None]") -> None:
        while not self._streams.is_closing and not gone.done():
            self._wake.clear()
            chunk = self._source.take()
            if chunk is None:
                return
            if not chunk:
                try:
                    async with asyncio.timeout(PING_SECONDS):
                        await self._wake.wait()
                    continue
                except TimeoutError:
                    chunk = _PING
            async with asyncio.timeout(STALL_SECONDS):
                await send({"type": "http.response.body", "body": chunk, "more_body": True})

    async def _until_gone(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self._wake.set()


def event(name: str, data: bytes, number: int | None = None) -> bytes:
    """One event; ``data`` is JSON, so it has no line breaks."""
    identity = b"" if number is None else b"id: %d\n" % number
    return b"%sevent: %s\ndata: %s\n\n" % (identity, name.encode(), data)
