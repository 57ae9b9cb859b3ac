"""Follow partitions without a group: a thread reads, the loop gets batches in log order.

Only the thread touches the consumer: in confluent-kafka a call from a second thread waits until the first stops polling.
"""

import asyncio
import queue
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, NamedTuple

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from mailstream.domain.errors import NotCaughtUp
from mailstream.kafka.config import connection
from mailstream.settings import Settings

SETTINGS: Mapping[str, Any] = {
    "group.id": "unused",  # the client wants a name, though nothing joins and nothing is committed
    "enable.auto.commit": False,
    "auto.offset.reset": "error",  # a hole could hide a record that decides: never skip in silence
    "isolation.level": "read_committed",
    "enable.partition.eof": True,  # says how far we are even where the last records were compacted away
    "fetch.wait.max.ms": 50,  # also how long a newly followed partition waits for its first fetch
    "fetch.queue.backoff.ms": 2,  # the default, 1,000, stops reading for a second whenever the local queue is full
    "queued.max.messages.kbytes": 16_384,
}
#: For a worker: what is read ahead of the loop is memory, twice over in the client, and the loop is what is slow.
LITTLE_AHEAD: Mapping[str, Any] = {"queued.max.messages.kbytes": 2048, "fetch.message.max.bytes": 262_144}
#: Batches that the loop may be behind before the thread waits for it: bounds memory.
BATCHES_AHEAD = 4
#: A partition is without a leader for a moment, or has another one than we knew.
LEADER_MOVES = frozenset({KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.LEADER_NOT_AVAILABLE})
#: Errors after which librdkafka goes on by itself.
PASSING = LEADER_MOVES | frozenset(
    {
        KafkaError._TRANSPORT,
        KafkaError._ALL_BROKERS_DOWN,
        KafkaError._TIMED_OUT,
        KafkaError._RESOLVE,
        KafkaError.REQUEST_TIMED_OUT,
        KafkaError.UNKNOWN_TOPIC_OR_PART,
    }
)


class End(NamedTuple):
    """The tail has delivered everything below this offset, and it was the end of the partition just then."""

    topic: str
    partition: int
    offset: int


class Tail:
    """Make it inside the running loop. ``on_batch`` is called on the loop with records and ends, in log order.

    ``patience`` is asked on the thread, after a first record, for how many seconds to wait for more of them: waking the
    loop costs more than a record does.

    ``prepare`` is given each batch on the thread, and ``on_batch`` what it returns: for work that leaves the loop free.

    ``failed`` is called on the loop, once, with NotCaughtUp, when nothing more will be delivered: the log cannot be read,
    or ``on_batch`` or ``prepare`` has raised. The process must end: it would decide by an old view.
    """

    def __init__(
        self,
        settings: Settings,
        on_batch: Callable[[Any], None],
        *,
        name: str,
        failed: Callable[[Exception], None],
        batch: int = 1000,
        patience: Callable[[], float] | None = None,
        prepare: Callable[[Sequence[Message | End]], Any] | None = None,
        **extra: Any,
    ) -> None:
        self._on_batch, self._failed = on_batch, failed
        self._batch, self._patience, self._prepare = batch, patience, prepare
        self._config = {**SETTINGS, **extra, **connection(settings)}
        self._commands: queue.SimpleQueue[tuple[Callable[[Consumer], None], Future[None]]] = queue.SimpleQueue()
        self._ahead = threading.Semaphore(BATCHES_AHEAD)
        self._is_stopped = False
        self._topics: set[str] = set()  #: whose leaders are known
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    async def follow(self, positions: Iterable[tuple[str, int, int]]) -> None:
        """Also deliver these (topic, partition, first offset). ``OFFSET_BEGINNING`` (-2) reads all that is kept.

        Raises NotCaughtUp when the tail has ended.
        """
        parts = [TopicPartition(*position) for position in positions]
        await self._do(lambda consumer: self._assign(consumer, parts))

    async def leave(self, partitions: Iterable[tuple[str, int]]) -> None:
        """Stop delivering these. A batch that is on its way may still come. Raises NotCaughtUp when the tail has ended."""
        parts = [TopicPartition(*partition) for partition in partitions]
        await self._do(lambda consumer: consumer.incremental_unassign(parts))

    async def close(self) -> None:
        """Stop reading and wait for the thread."""
        self._is_stopped = True
        self._ahead.release()
        await asyncio.to_thread(self._thread.join)
        self._refuse_commands()

    async def _do(self, command: Callable[[Consumer], None]) -> None:
        done: Future[None] = Future()
        done.set_running_or_notify_cancel()  # it is done even when its caller is cancelled
        self._commands.put((command, done))
        if self._is_stopped:
            self._refuse_commands()
        await asyncio.wrap_future(done)

    def _refuse_commands(self) -> None:
        with suppress(queue.Empty):
            while True:
                _, done = self._commands.get_nowait()
                done.set_exception(NotCaughtUp("the tail has ended: it follows nothing any more"))

    def _assign(self, consumer: Consumer, parts: list[TopicPartition]) -> None:
        for topic in {part.topic for part in parts} - self._topics:
            # librdkafka looks for the leaders of a new topic once a second only; asked for, it knows them at once
            with suppress(KafkaException):
                consumer.list_topics(topic, timeout=5.0)
            self._topics.add(topic)
        consumer.incremental_assign(parts)

    def _run(self) -> None:
        try:
            consumer = Consumer(self._config)
            try:
                self._read(consumer)
            finally:
                consumer.close()
        except Exception as error:  # of librdkafka or of ``prepare``: without this thread nothing is delivered
            self._on_loop(self._end, error)

    def _read(self, consumer: Consumer) -> None:
        while not self._is_stopped:
            self._obey(consumer)
            if (first := consumer.poll(0.05)) is None:
                continue
            if self._patience is not None and (seconds := self._patience()) > 0:
                time.sleep(seconds)
            batch = self._sorted_out([first, *consumer.consume(self._batch, 0)])
            if batch:
                prepared = batch if self._prepare is None else self._prepare(batch)
                self._ahead.acquire()
                self._on_loop(self._deliver, prepared)

    def _obey(self, consumer: Consumer) -> None:
        with suppress(queue.Empty):
            while True:
                command, done = self._commands.get_nowait()
                try:
                    done.set_result(command(consumer))
                except Exception as error:  # the caller gets it
                    done.set_exception(error)

    def _sorted_out(self, messages: list[Message]) -> list[Message | End]:
        batch: list[Message | End] = []
        for message in messages:
            if (error := message.error()) is None:
                batch.append(message)
            elif error.code() == KafkaError._PARTITION_EOF:
                batch.append(End(message.topic() or "", message.partition() or 0, message.offset() or 0))
            elif error.code() not in PASSING:
                raise _Unreadable(f"{message.topic()}/{message.partition()} can be followed no more ({error.name()})")
        return batch

    def _deliver(self, batch: Any) -> None:
        self._ahead.release()
        if self._is_stopped:
            return
        try:
            self._on_batch(batch)
        except Exception as error:
            self._end(error)

    def _end(self, error: Exception) -> None:
        """Deliver nothing any more, and say so. On the loop."""
        if self._is_stopped:
            return  # it was closed, or has said so
        self._is_stopped = True
        self._ahead.release()
        self._refuse_commands()
        if isinstance(error, _Unreadable):
            what = f"{error}. Look whether the topic was made anew, and at what this user may read"
        else:
            topics = " and ".join(sorted(self._topics)) or "a log"
            what = f"What was read of {topics} could not be taken ({type(error).__name__}). This is a bug"
        why = NotCaughtUp(
            f"{what}. The process ends, and nothing is lost: the brokers have all of it, and the next start reads it again."
        )
        why.__cause__ = error
        self._failed(why)

    def _on_loop(self, call: Callable[..., None], *arguments: Any) -> None:
        try:
            self._loop.call_soon_threadsafe(call, *arguments)
        except RuntimeError:  # the loop has closed, and with it all who listened
            self._is_stopped = True


class _Unreadable(Exception):
    """Which log, and what the client says of it."""
