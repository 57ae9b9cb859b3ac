"""Server-sent events. A stream holds no queue: when a client has read, it is sent what is new by then.

So a client that never reads costs one buffer of the socket, and is cut off after a while. The events are written by
FastAPI's own words for them; its streams themselves have two tasks and two queues for each listener.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import AbstractContextManager, aclosing, contextmanager
from typing import Protocol

from fastapi.sse import KEEPALIVE_COMMENT, format_sse_event
from starlette.responses import StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from api import responses
from api.keys import Key
from api.problems import Code, Problem
from api.view.lookup import Lookup
from api.view.queue import QueueView
from mailstream.domain.errors import NotCaughtUp
from mailstream.domain.status import is_final

PING_SECONDS, STALL_SECONDS = 15.0, 10.0
#: The queue is told at most so often: the next turn moves with every look.
QUEUE_SECONDS = 1.0


class Source(Protocol):
    """Where a stream's events come from."""

    def take(self) -> bytes | None:
        """What is new since the last call, ready to send; empty: nothing; None: the stream is over."""

    def watched(self, wake: Callable[[], None]) -> AbstractContextManager[None]:
        """Call ``wake`` when there may be something new."""


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


class EventStream(StreamingResponse):
    """The answer that goes on: what there is, then what comes, until the client or the process goes."""

    media_type = "text/event-stream"

    def __init__(self, source: Source, streams: Streams, caller: Key) -> None:
        """Raises Problem 429 when the key has as many streams as it may."""
        streams.require_room(caller)
        self._source, self._streams, self._caller = source, streams, caller
        self._events = self._all()
        super().__init__(self._events, headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it. A client that reads nothing for STALL_SECONDS is cut off."""

        async def send_in_time(message: Message) -> None:
            async with asyncio.timeout(STALL_SECONDS):
                await send(message)

        try:
            async with aclosing(self._events):
                await super().__call__(scope, receive, send_in_time)
        except TimeoutError:
            if (abort := scope.get("mailstream.abort")) is not None:  # closing would wait for the client to read
                abort()

    async def _all(self) -> AsyncGenerator[bytes, None]:
        wake = asyncio.Event()
        with self._source.watched(wake.set), self._streams.open(self._caller, wake.set):
            while not self._streams.is_closing and (chunk := self._source.take()) is not None:
                if chunk:
                    yield chunk
                    continue
                try:
                    async with asyncio.timeout(PING_SECONDS):
                        await wake.wait()
                    wake.clear()
                except TimeoutError:
                    yield KEEPALIVE_COMMENT


class EmailEvents:
    """The timeline of one email. Facts are numbered from 1 in its order, those that it no longer shows included.

    ``after``: the number of the last one that the client has; 0: none.
    """

    def __init__(self, lookup: Lookup, key: bytes, after: int) -> None:
        self._lookup, self._key, self._sent = lookup, key, after

    def take(self) -> bytes | None:
        """The facts that are new. None: the email is not kept any more."""
        try:
            status = self._lookup.known(self._key)
        except NotCaughtUp:
            return b""
        if status is None:
            return None
        count = len(status.timeline) + status.timeline_dropped
        fresh = max(0, min(count - self._sent, len(status.timeline)))
        self._sent = max(self._sent, count)
        return b"".join(
            format_sse_event(
                data_str=responses.entry(fact, is_final=bool(fact.status and is_final(fact.status))).model_dump_json(),
                event="status" if fact.status else "fact",
                id=str(number),
            )
            for number, fact in enumerate(status.timeline[len(status.timeline) - fresh :], start=count - fresh + 1)
        )

    def watched(self, wake: Callable[[], None]) -> AbstractContextManager[None]:
        """Wake for each change of the email."""
        return self._lookup.watched(self._key, wake)


class QueueEvents:
    """The queue, told again when it has changed."""

    def __init__(self, view: QueueView) -> None:
        self._view = view
        self._sent: str | None = None
        self._is_due = True

    def take(self) -> bytes:
        """The queue as it is, unless it is as it was, or was told within this second."""
        if not self._is_due:
            return b""
        self._is_due = False
        now = self._view.state()
        seen = now.model_dump_json(exclude={"lanes": {"__all__": {"oldest_age_seconds"}}})
        if seen == self._sent:
            return b""
        self._sent = seen
        return format_sse_event(data_str=now.model_dump_json(), event="queue")

    @contextmanager
    def watched(self, wake: Callable[[], None]) -> Iterator[None]:
        """Wake once a second."""
        loop = asyncio.get_running_loop()

        def tick() -> None:
            self._is_due = True
            wake()
            self._timer = loop.call_later(QUEUE_SECONDS, tick)

        self._timer = loop.call_later(QUEUE_SECONDS, tick)
        try:
            yield
        finally:
            self._timer.cancel()
