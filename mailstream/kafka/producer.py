"""The one producer of a process: await each record, or be told of it; wake the loop once per batch of delivery reports.

With few records under way, reports arrive on a thread that only polls, and go into a deque; the first of a batch schedules
one drain on the loop. With many, the loop hands over what was sent and polls by itself every few milliseconds, and the
thread waits: it would take the interpreter from the loop once for each report, and a request to the broker, which is for
one partition, would hold one record.
``confluent_kafka.aio`` is not used: its producer refuses headers, and a report that is awaited alone takes it 2 s.
"""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import structlog
from confluent_kafka import TIMESTAMP_LOG_APPEND_TIME, KafkaError, KafkaException, Message, Producer

from mailstream.domain.errors import NotPublished
from mailstream.kafka.config import connection
from mailstream.settings import Settings

#: Longer than any request that we take, with its headers, and than a truncated dead letter.
MAX_RECORD_BYTES = 2 * 1024 * 1024
SETTINGS: Mapping[str, Any] = {
    "acks": "all",
    "enable.idempotence": True,
    "partitioner": "murmur2_random",  # as Java, aiokafka and Faust; the default differs for three keys of four
    "linger.ms": 0,  # the default, 5, is added to every record that is awaited alone
    "message.max.bytes": MAX_RECORD_BYTES,
    "queue.buffering.max.kbytes": 262_144,
}
#: From so many unacknowledged records on they go in batches, until there are none.
MANY = 16
BATCH_SECONDS = 0.005
AGAIN_SECONDS = 1.0  #: between two tries to append what has to be recorded
#: Between two looks whether there is room for one more record. Only a few callers wait for that, each for one record.
ROOM_SECONDS = 0.005

log = structlog.get_logger(__name__)

Headers = Sequence[tuple[str, bytes]]
#: Called with an error, or with the record as it was acknowledged.
_Told = Callable[[NotPublished | None, Message | None], None]


class Position(NamedTuple):
    """Where a record landed."""

    partition: int
    offset: int


class Publisher:
    """Make it inside the running loop. A record is published when all in-sync replicas have it.

    ``message_seconds`` bounds how long a record may wait for that: it must be well below the session timeout, so that
    a worker that lost its partitions cannot write a status long after.

    ``failed`` is called on the loop, once, with NotPublished, when no record will be taken any more, or when one who was
    to be told of a record has raised: end the process. A command, which awaits each of its records, needs none.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        failed: Callable[[Exception], None] | None = None,
        in_flight: int = 10_000,
        message_seconds: float = 10.0,
        **extra: Any,
    ) -> None:
        self._failed = failed
        self._loop = asyncio.get_running_loop()
        self._reports: deque[tuple[_Told, int, KafkaError | None, Message]] = deque()
        self._pending: dict[int, float] = {}  #: monotonic time of each unacknowledged record, oldest first
        self._serial = 0
        self._in_flight = in_flight
        self._is_scheduled = self._is_stopped = self._is_busy = False
        self._batch: list[tuple[Any, ...]] = []  #: taken, and not handed to the client yet
        self._thread_polls = threading.Event()
        self._thread_polls.set()
        self._polling = threading.Lock()  #: one at a time, else a later report overtakes an earlier one
        self.is_closing = False  #: takes no more records
        #: Told the brokers' time of a record, in seconds since 1970, and our monotonic times before and after it.
        self.stamped: Callable[[float, float, float], None] | None = None
        config = {**SETTINGS, "message.timeout.ms": int(message_seconds * 1000), **extra, **connection(settings)}
        self._producer = Producer({**config, "error_cb": self._on_error})
        self._poller = threading.Thread(target=self._poll, name="delivery-reports", daemon=True)
        self._poller.start()

    def send(
        self, topic: str, value: bytes | None, *, key: bytes | None, partition: int = -1, headers: Headers = ()
    ) -> "asyncio.Future[Position]":
        """Hand one record to the producer; the future ends when it is in the log, or with NotPublished.

        For callers that bound their own number of records; others await ``publish``.
        """
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
        """The same for callers that do not wait: ``then`` is called on the loop, later, with None or the error."""
        if (error := self._hand_over(topic, value, key, partition, headers, lambda error, _: then(error))) is not None:
            self._loop.call_soon(then, error)

    def _hand_over(
        self, topic: str, value: bytes | None, key: bytes | None, partition: int, headers: Headers, told: _Told
    ) -> NotPublished | None:
        if self.is_closing:
            return NotPublished("the publisher is closing")
        self._serial = serial = self._serial + 1
        report = partial(self._on_report, told, serial)
        if self._is_busy:
            self._batch.append((serial, told, topic, value, key, partition, report, list(headers)))
        elif (error := self._produce(topic, value, key, partition, report, list(headers))) is not None:
            return error
        self._pending[serial] = time.monotonic()
        if not self._is_busy and len(self._pending) >= MANY:
            self._is_busy = True
            self._thread_polls.clear()
            self._loop.call_later(BATCH_SECONDS, self._turn)
        return None

    def _produce(
        self,
        topic: str,
        value: bytes | None,
        key: bytes | None,
        partition: int,
        report: Callable[[KafkaError | None, Message], None],
        headers: list[Any],
    ) -> NotPublished | None:
        try:
            self._producer.produce(topic, value, key, partition, on_delivery=report, headers=headers)
        except BufferError:  # full by bytes or by count: let the caller slow down or answer 503
            return NotPublished("the local queue to Kafka is full")
        except KafkaException as error:
            return NotPublished(str(error.args[0]))
        return None

    def _hand_over_batch(self) -> None:
        batch, self._batch = self._batch, []
        for serial, told, *record in batch:
            if (error := self._produce(*record)) is not None:
                self._pending.pop(serial, None)
                self._say(told, error, None)

    async def publish(
        self, topic: str, value: bytes | None, *, key: bytes | None, partition: int = -1, headers: Headers = ()
    ) -> Position:
        """Append one record. Raises NotPublished: too large, not acknowledged in time, queue full, or closing."""
        await self.room()
        return await self.send(topic, value, key=key, partition=partition, headers=headers)

    async def room(self) -> None:
        """Wait until fewer than ``in_flight`` records are unacknowledged."""
        while len(self._pending) >= self._in_flight:
            await asyncio.sleep(ROOM_SECONDS)

    def oldest_seconds(self) -> float:
        """How long the oldest unacknowledged record has waited; 0 when there is none."""
        for since in self._pending.values():
            return time.monotonic() - since
        return 0.0

    def pending(self) -> int:
        """How many records are not acknowledged yet."""
        return len(self._pending)

    async def close(self, seconds: float = 10.0) -> int:
        """Take no more records, wait for the reports, then fail what is left. Returns how many were left."""
        self.is_closing = True
        self._hand_over_batch()
        if left := await asyncio.to_thread(self._flush, seconds):
            self._producer.purge()  # their callers get an error instead of waiting for ever
            await asyncio.to_thread(self._flush, 1.0)
        self._is_stopped = True
        self._thread_polls.set()
        await asyncio.to_thread(self._poller.join)
        self._drain()
        return left

    def _poll(self) -> None:
        try:
            while not self._is_stopped:
                self._thread_polls.wait()
                with self._polling:
                    if self._thread_polls.is_set():
                        self._producer.poll(0.1)
        except Exception as error:  # a client that has given up raises here; without this thread no report comes
            self._on_loop(self._fail, _told_by(error), error)

    def _flush(self, seconds: float) -> int:
        with self._polling:
            return int(self._producer.flush(seconds))

    def _turn(self) -> None:
        self._hand_over_batch()
        if self._polling.acquire(blocking=False):  # else the thread is about to end its last poll
            try:
                self._is_scheduled = True  # what comes now is drained here
                self._producer.poll(0)
            except KafkaException as error:
                self._fail(_told_by(error), error)
            finally:
                self._polling.release()
            self._drain()
        if self._pending and not self._is_stopped:
            self._loop.call_later(BATCH_SECONDS, self._turn)
        else:
            self._is_busy = False
            self._thread_polls.set()

    def _on_error(self, error: KafkaError) -> None:
        if error.fatal():  # told on the thread that polls
            self._on_loop(self._fail, _told_by(KafkaException(error)), None)

    def _fail(self, what: str, cause: Exception | None) -> None:
        if (failed := self._failed) is None or self.is_closing:
            return
        self._failed = None
        why = NotPublished(
            f"Nothing can be written to Kafka any more: {what}. The process ends, and nothing is lost: what was not "
            "acknowledged is done again after the next start."
        )
        why.__cause__ = cause
        failed(why)

    def _on_loop(self, call: Callable[..., None], *arguments: Any) -> None:
        try:
            self._loop.call_soon_threadsafe(call, *arguments)
        except RuntimeError:  # the loop has closed, and with it all who waited
            self._is_stopped = True

    def _on_report(self, told: _Told, serial: int, error: KafkaError | None, message: Message) -> None:
        self._reports.append((told, serial, error, message))  # append first, read the flag second: none is forgotten
        if not self._is_scheduled:
            self._is_scheduled = True
            self._on_loop(self._drain)

    def _drain(self) -> None:
        self._is_scheduled = False
        if self._reports and self.stamped is not None:
            _, serial, error, message = self._reports[-1]  # the newest of a batch: they were sent together
            kind, milliseconds = message.timestamp()
            if error is None and kind == TIMESTAMP_LOG_APPEND_TIME and (sent := self._pending.get(serial)) is not None:
                self.stamped(milliseconds / 1000, sent, time.monotonic())
        while self._reports:
            told, serial, error, message = self._reports.popleft()
            self._pending.pop(serial, None)
            self._say(told, None if error is None else NotPublished(str(error)), message)

    def _say(self, told: _Told, error: NotPublished | None, message: Message | None) -> None:
        try:
            told(error, message)
        except Exception as bug:  # of the one who is told: the others are told all the same
            self._loop.call_exception_handler({"message": "who sent a record failed", "exception": bug})
            self._fail(f"what became of a record could not be taken ({type(bug).__name__}): a bug", bug)


def _told_by(error: Exception) -> str:
    if isinstance(error, KafkaException):
        return f"the client has given up ({error.args[0].name()}: {error.args[0].str()})"
    return f"the thread that hears Kafka's reports has ended ({type(error).__name__}): a bug"


async def publish_surely(
    publisher: Publisher, topic: str, value: bytes | None, *, key: bytes | None, partition: int, headers: Headers
) -> Position:
    """Append one record, however long that takes: it may stand in the log twice. Raises NotPublished at the close only."""
    while True:
        try:
            return await publisher.publish(topic, value, key=key, partition=partition, headers=headers)
        except NotPublished as error:
            if publisher.is_closing:
                raise
            log.warning("not acknowledged, appended again", topic=topic, partition=partition, error=str(error))
            await asyncio.sleep(AGAIN_SECONDS)


def _end(done: "asyncio.Future[Position]", error: NotPublished | None, message: Message | None) -> None:
    if done.done():  # its caller was cancelled; the record went out all the same
        return
    if error is not None:
        done.set_exception(error)
    elif message is not None:
        done.set_result(Position(message.partition() or 0, message.offset() or 0))
