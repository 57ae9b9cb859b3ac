"""Domain events of other services in, ``email.requested`` out: a consumer group of its own beside the Faust app.

Not a second Faust app, though two run well in one process (ADR: triggers). These topics are not ours: one whose read
right is taken away ends Faust's fetcher, and with it the worker and all mail, for ever, as the restart meets it again.
A transactional producer or a compacted topic leaves holes in the offsets, which under Faust must be told from records
that it lost. librdkafka reports the one topic and reads on, loses nothing at a rebalance, and reads committed records.

A thread polls; the loop decides and publishes; an offset is stored only when all that its record asked for is in the
log. So a crash repeats events and skips none, and a repeated event has the same ids.
"""

import asyncio
import threading
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import structlog
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition
from mode import Service

from mailstream.clock import Clock, moment
from mailstream.errors import NotPublished, WrongRules
from mailstream.log.client import connection
from mailstream.log.publish import Publisher
from mailstream.settings import Settings
from mailstream.templates import Templates
from mailstream.topics import GROUP_TRIGGERS, Naming
from streams import trigger_metrics
from streams.core import rules as rule_file
from streams.core import trigger, trigger_records
from streams.core.rules import Rules
from streams.core.trigger_event import Received
from streams.core.trigger_records import Outgoing

log = structlog.get_logger(__name__)

BATCH = 200  #: records that are settled together, then stored
RETRY_SECONDS = 1.0  #: between two tries to publish what a batch asks for
STOP_SECONDS = 20.0  #: for the batch in work; what is not stored then is read again
ASK_SECONDS = 10.0  #: for a question to the brokers at an assignment
#: What a topic of ours that cannot be read says; librdkafka goes on with the others and asks again.
_UNREADABLE = frozenset(
    {KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError._UNKNOWN_TOPIC}
)
SETTINGS: dict[str, Any] = {
    "enable.auto.offset.store": False,  # stored by us when durable; committed by librdkafka each second and at a revoke
    "auto.commit.interval.ms": 1000,
    "auto.offset.reset": "earliest",  # what is too old sends nothing anyway
    "isolation.level": "read_committed",  # an event that was rolled back must not send mail (amendment 18)
    "partition.assignment.strategy": "cooperative-sticky",
    "topic.metadata.refresh.interval.ms": 30_000,  # how soon a topic that was missing is found
    "enable.partition.eof": True,  # tells that a topic can be read, though nothing new stands in it
    "fetch.queue.backoff.ms": 2,
    "queued.max.messages.kbytes": 16_384,
}


class Triggers(Service):  # type: ignore[misc]
    """Reads the topics that the rules name, as long as it runs. Hand it to the worker beside the app."""

    def __init__(
        self, settings: Settings, publisher: Publisher, rules: Rules, templates: Templates, clock: Clock, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.unreadable: dict[str, str] = {}  #: topic to reason, for readiness and logs
        self._settings, self._publisher, self._clock = settings, publisher, clock
        self._rules, self._templates = rules, templates
        self._naming = Naming(settings.topic_prefix)
        self._max_age = timedelta(seconds=settings.max_event_age)
        self._topics = {rules.full_name(topic, settings.topic_prefix): topic for topic in rules.topics}
        self._is_ending = False
        self._thread: threading.Thread | None = None

    async def on_start(self) -> None:
        """Start to read."""
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._run, name="triggers", daemon=True)
        self._thread.start()

    async def on_stop(self) -> None:
        """Finish the batch in work, commit it and leave the group."""
        self._is_ending = True
        if self._thread:
            await asyncio.to_thread(self._thread.join, STOP_SECONDS)

    # -- on the thread: it alone touches the consumer

    def _run(self) -> None:
        try:
            consumer = Consumer(self._config())
            try:
                consumer.subscribe(list(self._topics), on_assign=self._on_assign)
                while not self._is_ending:
                    self._read(consumer)
            finally:
                consumer.close()  # commits what is stored
        except _Ending:
            pass
        except BaseException as error:
            log.error("triggers ended", error=repr(error), exc_info=error)
            self._loop.call_soon_threadsafe(self._fail, error)

    def _fail(self, error: BaseException) -> None:
        self.add_future(self.crash(error))  # ends the worker: its restart begins at the stored offsets

    def _config(self) -> dict[str, Any]:
        seconds = self._settings.session_timeout
        config = {
            **SETTINGS,
            "group.id": self._naming.of(GROUP_TRIGGERS),
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
        for message in consumer.consume(BATCH, 0.2):
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
        """Start where the group stands; where it never stood, at MAX_EVENT_AGE (amendment 4)."""
        try:
            committed = consumer.committed(assigned, ASK_SECONDS)
            new = [
                TopicPartition(part.topic, part.partition) for part in committed if part.offset < 0 and not part.error
            ]
            since_ms = int((self._clock.now() - self._max_age.total_seconds()) * 1000)
            asked = [TopicPartition(part.topic, part.partition, since_ms) for part in new]
            starts = {
                (part.topic, part.partition): part.offset
                for part in (consumer.offsets_for_times(asked, ASK_SECONDS) if asked else [])
                if not part.error and part.offset >= 0
            }
        except KafkaException as error:  # then all of it is read, and what is too old sends nothing
            log.warning("start of new partitions unknown, reading all", error=error.args[0].name())
            starts = {}
        consumer.incremental_assign(
            [
                TopicPartition(part.topic, part.partition, starts[place])
                if (place := (part.topic, part.partition)) in starts
                else TopicPartition(*place)
                for part in assigned
            ]
        )

    def _on_error(self, error: KafkaError) -> None:
        log.warning("kafka", error=error.name())

    def _note_unreadable(self, topic: str, error: KafkaError) -> None:
        if topic not in self.unreadable:
            log.error("a topic of the trigger rules cannot be read; the others go on", topic=topic, error=error.name())
            trigger_metrics.UNREADABLE.labels(topic).set(1)
        self.unreadable[topic] = error.name()

    def _note_readable(self, topic: str) -> None:
        if self.unreadable.pop(topic, None):
            log.info("topic can be read again", topic=topic)
            trigger_metrics.UNREADABLE.labels(topic).set(0)

    # -- on the loop

    async def _settle(self, records: Sequence[Message]) -> None:
        """Return when all that these records ask for is in the log."""
        outgoing: list[Outgoing] = []
        for message in records:
            outgoing += self._answer(message)
            await asyncio.sleep(0)  # the gate of a call that is due must not wait for a whole batch
        while not await self._is_published(outgoing):
            if self._is_ending:
                raise _Ending
            await self._clock.sleep(RETRY_SECONDS)

    async def _is_published(self, outgoing: Sequence[Outgoing]) -> bool:
        """False: ask for all again, in order. A known id is only counted, and a cancel never overtakes its email."""
        futures = []
        for topic, value, key, partition, headers in outgoing:
            await self._publisher.room()
            name = self._naming.of(topic)
            futures.append(self._publisher.send(name, value, key=key, partition=partition, headers=headers))
        try:
            await asyncio.gather(*futures)
        except NotPublished as error:
            log.warning("domain events wait: Kafka takes no records", error=str(error))
            await asyncio.gather(*futures, return_exceptions=True)
            return False
        return True

    def _answer(self, message: Message) -> Sequence[Outgoing]:
        name = message.topic() or ""
        received = Received(
            topic=self._topics[name],
            full_topic=name,
            partition=message.partition() or 0,
            offset=message.offset() or 0,
            timestamp_ms=message.timestamp()[1],
            headers=_headers(message),
            key=message.key(),
            value=message.value(),
        )
        now = moment(self._clock.now())
        ruling = trigger.judge(received, self._rules, self._templates, now=now, max_age=self._max_age)
        result, outgoing, dead_letter = trigger_records.answer(received, ruling, self._settings.partitions)
        trigger_metrics.EVENTS.labels(result.value).inc()
        if dead_letter:
            log.warning("domain event rejected", reason=dead_letter.reason.value, detail=dead_letter.detail,
                        topic=name, partition=received.partition, offset=received.offset)  # fmt: skip
        return outgoing


def _headers(message: Message) -> dict[str, bytes]:
    """Names in lower case, as a client of HTTP habits may have written them otherwise."""
    found: dict[str, bytes] = {}
    for name, value in cast("list[tuple[str, bytes | None]]", message.headers() or []):
        found[name.lower()] = value or b""
    return found


class _Ending(Exception):
    """The worker stops while a batch waits for Kafka: nothing of it is stored, all of it is read again."""


def create_trigger_app(
    settings: Settings, publisher: Publisher, rules: Rules, templates: Templates, clock: Clock
) -> Triggers:
    """The service that turns domain events into requests. Give it to the worker beside the Faust app."""
    return Triggers(settings, publisher, rules, templates, clock)


def load(settings: Settings) -> tuple[Rules, Templates] | None:
    """Rules and templates from the files that the settings name; None when no rules are named.

    Raises WrongRules or TemplateError, with one line per mistake.
    """
    if settings.triggers_file is None:
        return None
    if settings.templates_dir is None:
        raise WrongRules("MAILSTREAM_TRIGGERS_FILE is set, but not MAILSTREAM_TEMPLATES_DIR: the rules name templates")
    path = Path(settings.triggers_file)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise WrongRules(f"{path}: cannot be read ({type(error).__name__})") from None
    rules, templates = rule_file.parse(text, path.name), Templates(settings.templates_dir)
    rule_file.require_usable(rules, templates, settings)
    return rules, templates
