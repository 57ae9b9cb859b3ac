"""The one producer of a process: await each record, wake the loop once per batch of delivery reports.

Reports arrive on a thread that only polls, and go into a deque; the first of a batch schedules one drain on the loop.
``confluent_kafka.aio`` is not used: its producer refuses headers, and a report that is awaited alone takes it 2 s.
"""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from confluent_kafka import TIMESTAMP_LOG_APPEND_TIME, KafkaError, KafkaException, Message, Producer

from mailstream.errors import NotPublished
from mailstream.log.client import connection
from mailstream.settings import Settings

#: Longer than any request that we take, with its headers, and than a truncated dead letter (amendment 11).
MAX_RECORD_BYTES = 2 * 1024 * 1024
SETTINGS: Mapping[str, Any] = {
    "acks": "all",
    "enable.idempotence": True,
    "partitioner": "murmur2_random",  # as Java, aiokafka and Faust; the default differs for three keys of four
    "linger.ms": 0,  # the default, 5, is added to every record that is awaited alone
    "message.max.bytes": MAX_RECORD_BYTES,
    "queue.buffering.max.kbytes": 262_144,
}


class Position(NamedTuple):
    """Where a record landed."""

    partition: int
    offset: int


class Publisher:
    """Make it inside the running loop. A record is published when all in-sync replicas have it.

    ``message_seconds`` bounds how long a record may wait for that: it must be well below the session timeout, so that
    a worker that lost its partitions cannot write a status long after (guarantees K7).
    """

    def __init__(
        self, settings: Settings, *, in_flight: int = 10_000, message_seconds: float = 10.0, **extra: Any
    ) -> None:
        self.fatal: KafkaError | None = None  #: once set, no record will be taken any more: end the process
        self._loop = asyncio.get_running_loop()
        self._reports: deque[tuple[asyncio.Future[Position], int, KafkaError | None, Message]] = deque()
        self._pending: dict[int, float] = {}  #: monotonic time of each unacknowledged record, oldest first
        self._serial = 0
        self._in_flight = in_flight
        self._room: deque[asyncio.Future[None]] = deque()
        self._is_scheduled = self._is_stopped = False
        self.is_closing = False  #: takes no more records
        #: Told the brokers' time of a record, in seconds since 1970, and our monotonic times before and after it.
        self.stamped: Callable[[float, float, float], None] | None = None
        config = {**SETTINGS, "message.timeout.ms": int(message_seconds * 1000), **extra, **connection(settings)}
        self._producer = Producer({**config, "error_cb": self._on_error})
        self._poller = threading.Thread(target=self._poll, name="delivery-reports", daemon=True)
        self._poller.start()

    def send(
        self,
        topic: str,
        value: bytes | None,
        *,
        key: bytes | None,
        partition: int = -1,
        headers: Sequence[tuple[str, bytes]] = (),
    ) -> "asyncio.Future[Position]":
        """Hand one record to the producer; the future ends when it is in the log, or with NotPublished.

        For callers that bound their own number of records; others await ``publish``.
        """
        done: asyncio.Future[Position] = self._loop.create_future()
        if self.is_closing:
            done.set_exception(NotPublished("the publisher is closing"))
            return done
        self._serial = serial = self._serial + 1
        report = partial(self._on_report, done, serial)
        try:
            self._producer.produce(topic, value, key, partition, on_delivery=report, headers=list(headers))
        except BufferError:  # full by bytes or by count: let the caller slow down or answer 503
            done.set_exception(NotPublished("the local queue to Kafka is full"))
        except KafkaException as error:
            done.set_exception(NotPublished(str(error.args[0])))
        else:
            self._pending[serial] = time.monotonic()
        return done

    async def publish(
        self,
        topic: str,
        value: bytes | None,
        *,
        key: bytes | None,
        partition: int = -1,
        headers: Sequence[tuple[str, bytes]] = (),
    ) -> Position:
        """Append one record. Raises NotPublished: too large, not acknowledged in time, queue full, or closing."""
        await self.room()
        return await self.send(topic, value, key=key, partition=partition, headers=headers)

    async def room(self) -> None:
        """Wait, in line, until fewer than ``in_flight`` records are unacknowledged."""
        while len(self._pending) >= self._in_flight:
            place: asyncio.Future[None] = self._loop.create_future()
            self._room.append(place)
            await place

    def oldest_seconds(self) -> float:
        """How long the oldest unacknowledged record has waited; 0 when there is none (guard G2)."""
        for since in self._pending.values():
            return time.monotonic() - since
        return 0.0

    def pending(self) -> int:
        """How many records are not acknowledged yet."""
        return len(self._pending)

    async def close(self, seconds: float = 10.0) -> int:
        """Take no more records, wait for the reports, then fail what is left. Returns how many were left."""
        self.is_closing = True
        if left := int(await asyncio.to_thread(self._producer.flush, seconds)):
            self._producer.purge()  # their callers get an error instead of waiting for ever
            await asyncio.to_thread(self._producer.flush, 1.0)
        self._is_stopped = True
        await asyncio.to_thread(self._poller.join)
        self._drain()
        return left

    def _poll(self) -> None:
        while not self._is_stopped:
            self._producer.poll(0.1)

    def _on_error(self, error: KafkaError) -> None:
        self.fatal = error if error.fatal() else self.fatal

    def _on_report(
        self, done: "asyncio.Future[Position]", serial: int, error: KafkaError | None, message: Message
    ) -> None:
        self._reports.append((done, serial, error, message))  # append first, read the flag second: none is forgotten
        if not self._is_scheduled:
            self._is_scheduled = True
            try:
                self._loop.call_soon_threadsafe(self._drain)
            except RuntimeError:  # the loop has closed: nobody waits any more
                self._is_stopped = True

    def _drain(self) -> None:
        self._is_scheduled = False
        if self._reports and self.stamped is not None:
            self._read_stamp(self._reports[-1], self.stamped)  # the newest of a batch: they were sent together
        while self._reports:
            done, serial, error, message = self._reports.popleft()
            self._pending.pop(serial, None)
            if done.done():  # its caller was cancelled; the record went out all the same
                continue
            if error:
                done.set_exception(NotPublished(str(error)))
            else:
                done.set_result(Position(message.partition() or 0, message.offset() or 0))
        free = self._in_flight - len(self._pending)
        while self._room and free > 0:  # as many as there are places: waking all measured eight times slower
            place = self._room.popleft()
            if not place.done():
                place.set_result(None)
                free -= 1

    def _read_stamp(
        self,
        report: "tuple[asyncio.Future[Position], int, KafkaError | None, Message]",
        stamped: Callable[[float, float, float], None],
    ) -> None:
        _, serial, error, message = report
        kind, milliseconds = message.timestamp()
        if error is None and kind == TIMESTAMP_LOG_APPEND_TIME and (sent := self._pending.get(serial)) is not None:
            stamped(milliseconds / 1000, sent, time.monotonic())
