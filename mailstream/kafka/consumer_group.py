"""Read topics in a consumer group, without Faust: a thread polls, the loop settles.

For readers that own nothing: domain events, outgoing webhooks. An offset is stored only when its record is settled, so a
crash repeats records and skips none. A topic that cannot be read is reported, and the others go on.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine, Iterable, Sequence
from datetime import datetime
from typing import Any

import structlog
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition
from prometheus_client import Gauge

from mailstream.clock import Clock
from mailstream.domain.start import Start
from mailstream.domain.topics import Naming
from mailstream.kafka import group_start
from mailstream.kafka.config import connection
from mailstream.settings import Settings

log = structlog.get_logger(__name__)

RETRY_SECONDS = 1.0  #: between two questions about where to start
BATCH = 200  #: records that are settled together, then stored
POLL_SECONDS = 0.2
STOP_SECONDS = 20.0  #: for the batch in work; what is not stored then is read again
#: What a topic that cannot be read says; librdkafka goes on with the others and asks again.
_UNREADABLE = frozenset(
    {KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError._UNKNOWN_TOPIC}
)
SETTINGS: dict[str, Any] = {
    "enable.auto.offset.store": False,  # stored by us when durable; committed by librdkafka each second and at a revoke
    "auto.commit.interval.ms": 1000,
    "auto.offset.reset": "earliest",  # what is too old sends nothing anyway
    "isolation.level": "read_committed",  # an event that was rolled back must not send mail
    "max.poll.interval.ms": 86_400_000,  # a day: a batch may wait for an outage, and a dead process has its session
    "partition.assignment.strategy": "cooperative-sticky",
    "topic.metadata.refresh.interval.ms": 30_000,  # how soon a topic that was missing is found
    "enable.partition.eof": True,  # tells that a topic can be read, though nothing new stands in it
    "fetch.queue.backoff.ms": 2,
    "queued.max.messages.kbytes": 16_384,
}


class Ending(Exception):
    """Raised by ``settle`` when it gives up for the stop: nothing of its batch is stored, all is read again."""


class GroupReader:
    """Make it inside the running loop; the thread alone touches the consumer."""

    def __init__(
        self,
        settings: Settings,
        clock: Clock,
        *,
        group: str,
        topics: Callable[[], Iterable[str]],
        handle: Callable[[Sequence[Message]], Coroutine[Any, Any, None]],
        start_of: Callable[[str], Start | datetime],
        failed: Callable[[BaseException], None],
        gauge: Gauge | None = None,
    ) -> None:
        """``topics`` are full names, asked before each poll. ``settle`` may raise Ending once ``close`` has been called.

        ``failed`` is called on the loop, once, when nothing more will be read: end the process. ``gauge`` has the label
        ``topic`` and is 1 while that one cannot be read.
        """
        self.unreadable: dict[str, str] = {}  #: topic to reason
        self._settings, self._clock = settings, clock
        self._group = Naming(settings.topic_prefix).of(group)
        self._topics, self._settle, self._start_of, self._failed, self._gauge = topics, handle, start_of, failed, gauge
        self._is_ending = False
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._run, name=group, daemon=True)
        self._thread.start()

    async def close(self) -> None:
        """Finish the batch in work, commit it and leave the group."""
        self._is_ending = True
        await asyncio.to_thread(self._thread.join, STOP_SECONDS)

    def _run(self) -> None:
        try:
            consumer = Consumer(self._config())
            try:
                subscribed: set[str] = set()
                while not self._is_ending:
                    if (wanted := set(self._topics())) != subscribed:  # at the start, and after a reload
                        consumer.subscribe(sorted(wanted), on_assign=self._on_assign)
                        subscribed = wanted
                    self._read(consumer)
            finally:
                consumer.close()  # commits what is stored
        except Ending:
            pass
        except BaseException as error:
            log.error("reading ended", group=self._group, error=repr(error), exc_info=error)
            self._loop.call_soon_threadsafe(self._failed, error)

    def _config(self) -> dict[str, Any]:
        seconds = self._settings.session_timeout
        config = {
            **SETTINGS,
            "group.id": self._group,
            "client.id": self._settings.worker_id,
            "session.timeout.ms": int(seconds * 1000),
            "heartbeat.interval.ms": int(seconds * 100),
            "error_cb": self._on_error,
        }
        if self._settings.static_membership:
            config["group.instance.id"] = self._settings.worker_id
        return config | connection(self._settings)

    def _read(self, consumer: Consumer) -> None:
        records = []
        for message in consumer.consume(BATCH, POLL_SECONDS):
            error, topic, partition = message.error(), message.topic() or "", message.partition() or 0
            if error is None:
                records.append(message)
            if error is None or error.code() == KafkaError._PARTITION_EOF:
                self._note_readable(topic)
            elif error.code() in _UNREADABLE:
                self._note_unreadable(topic, error)
                if partition >= 0:  # so that the end of a quiet partition is told again when it can be read again
                    parts = [TopicPartition(topic, partition)]
                    consumer.pause(parts)
                    consumer.resume(parts)
            elif error.fatal():
                raise KafkaException(error)
        if not records:
            return
        asyncio.run_coroutine_threadsafe(self._settle(records), self._loop).result()
        ends = {(message.topic() or "", message.partition() or 0): (message.offset() or 0) + 1 for message in records}
        try:
            consumer.store_offsets(offsets=[TopicPartition(*place, end) for place, end in ends.items()])
        except KafkaException as error:  # revoked meanwhile: its new owner reads again, and the ids are known
            log.info("offsets not stored, the records are read again", error=error.args[0].name())

    def _on_assign(self, consumer: Consumer, assigned: list[TopicPartition]) -> None:
        new = {(part.topic, part.partition): part for part in self._starts(consumer, assigned)}
        consumer.incremental_assign([new.get((part.topic, part.partition), part) for part in assigned])
        if new:
            consumer.store_offsets(offsets=list(new.values()))

    def _starts(self, consumer: Consumer, assigned: list[TopicPartition]) -> list[TopicPartition]:
        recent_at = self._clock.now() - self._settings.max_event_age
        while True:
            try:
                return group_start.positions(consumer, assigned, self._start_of, recent_at=recent_at)
            except KafkaException as error:  # guessing could mail a year of history
                log.warning("start of new partitions unknown, asking again", error=error.args[0].name())
            if self._is_ending:
                raise Ending
            time.sleep(RETRY_SECONDS)

    def _on_error(self, error: KafkaError) -> None:
        log.warning("kafka", error=error.name())

    def _note_unreadable(self, topic: str, error: KafkaError) -> None:
        if topic not in self.unreadable:
            log.error("a topic cannot be read; the others go on", topic=topic, error=error.name())
            self._show(topic, 1)
        self.unreadable[topic] = error.name()

    def _note_readable(self, topic: str) -> None:
        if self.unreadable.pop(topic, None):
            log.info("topic can be read again", topic=topic)
            self._show(topic, 0)

    def _show(self, topic: str, value: int) -> None:
        if self._gauge is not None:
            self._gauge.labels(topic).set(value)
