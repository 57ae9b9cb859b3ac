"""The producer of a ``MemoryLog``: what ``mailstream.kafka.producer.Publisher`` is to a real one."""

import asyncio
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

from confluent_kafka import Message

from mailstream.domain.errors import NotPublished
from mailstream.domain.recipient import murmur2
from mailstream.kafka.producer import MAX_RECORD_BYTES, ROOM_SECONDS, Position
from tests.support.memory_log import Headers, MemoryLog, Told, Write


class MemoryPublisher:
    """Make it inside the running loop. Nobody is told of a record in the turn in which it is handed over."""

    def __init__(
        self,
        log: MemoryLog,
        *,
        failed: Callable[[Exception], None] | None = None,
        in_flight: int = 10_000,
        message_seconds: float = 10.0,
        **_: Any,
    ) -> None:
        self._log, self._failed = log, failed
        self._in_flight, self._message_seconds = in_flight, message_seconds
        self._loop = asyncio.get_running_loop()
        self._pending: dict[Write, float] = {}  #: monotonic time of each record that nobody was told of, oldest first
        self._reports: deque[tuple[Told, Write, NotPublished | None, Message | None]] = deque()
        self.is_closing = self._is_dead = False
        self.stamped: Callable[[float, float, float], None] | None = None

    def send(
        self, topic: str, value: bytes | None, *, key: bytes | None, partition: int = -1, headers: Headers = ()
    ) -> "asyncio.Future[Position]":
        """Hand one record over."""
        done: asyncio.Future[Position] = self._loop.create_future()
        if (error := self._hand_over(topic, value, key, partition, headers, partial(_end, done))) is not None:
            done.set_exception(error)
        return done

    def post(
        self,
        topic: str,
        value: bytes | None,
        then: Callable[[NotPublished | None], None],
        *,
        key: bytes | None,
        partition: int,
        headers: Headers = (),
    ) -> None:
        """Hand one record over and be called, later."""
        if (error := self._hand_over(topic, value, key, partition, headers, lambda why, _: then(why))) is not None:
            self._loop.call_soon(then, error)

    async def publish(
        self, topic: str, value: bytes | None, *, key: bytes | None, partition: int = -1, headers: Headers = ()
    ) -> Position:
        """Append one record."""
        await self.room()
        return await self.send(topic, value, key=key, partition=partition, headers=headers)

    async def room(self) -> None:
        """Wait until fewer than ``in_flight`` records are under way."""
        while len(self._pending) >= self._in_flight:
            await asyncio.sleep(ROOM_SECONDS)

    def oldest_seconds(self) -> float:
        """How long the oldest record has waited."""
        return next((self._log.clock.monotonic() - since for since in self._pending.values()), 0.0)

    def pending(self) -> int:
        """How many records are under way."""
        return len(self._pending)

    async def close(self, seconds: float = 10.0) -> int:
        """Take no more records, wait for the reports, then fail what is left."""
        self.is_closing = True
        deadline = self._loop.time() + seconds
        while self._pending and self._loop.time() < deadline:
            await asyncio.sleep(0.001)
        left = list(self._pending)
        for write in left:
            self._log.give_up(write)
        self._drain()
        return len(left)

    def die(self) -> None:
        """Hand nothing over any more, and tell nobody of anything. What is in the log stays there."""
        self._is_dead = True
        for write in self._pending:
            self._log.forget(write)

    def _hand_over(
        self, topic: str, value: bytes | None, key: bytes | None, partition: int, headers: Headers, told: Told
    ) -> NotPublished | None:
        if self.is_closing:
            return NotPublished("the publisher is closing")
        if len(value or b"") > MAX_RECORD_BYTES:
            return NotPublished("the record is too large")
        if partition < 0:
            partition = (murmur2(key) & 0x7FFFFFFF) % self._log.partitions if key is not None else 0
        write = Write(topic, partition, key, value, headers, lambda *_: None)
        write.told = partial(self._report, told, write)
        self._pending[write] = self._log.clock.monotonic()
        self._loop.call_later(self._message_seconds, self._log.give_up, write)
        if not self._is_dead:
            self._log.write(write)
        return None

    def _report(self, told: Told, write: Write, error: NotPublished | None, message: Message | None) -> None:
        if not self._reports:
            self._loop.call_soon(self._drain)
        self._reports.append((told, write, error, message))

    def _drain(self) -> None:
        if self._is_dead:
            return
        if self._reports and self.stamped is not None:
            _, write, _, message = self._reports[-1]
            if message is not None:
                self.stamped(message.timestamp()[1] / 1000, self._pending[write], self._log.clock.monotonic())
        while self._reports:
            told, write, error, message = self._reports.popleft()
            del self._pending[write]
            try:
                told(error, message)
            except Exception as bug:  # of the one who is told: the others are told all the same
                self._loop.call_exception_handler({"message": "who sent a record failed", "exception": bug})
                self._fail(bug)

    def _fail(self, bug: Exception) -> None:
        failed, self._failed = self._failed, None
        if failed is not None and not self.is_closing:
            failed(NotPublished(f"what became of a record could not be taken ({type(bug).__name__})"))


def _end(done: "asyncio.Future[Position]", error: NotPublished | None, message: Message | None) -> None:
    if done.done():
        return
    if error is not None or message is None:
        done.set_exception(error or NotPublished("no word of it"))
    else:
        done.set_result(Position(message.partition() or 0, message.offset() or 0))
