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
import time
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, cast

import structlog
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition
from mode import Service

from mailstream.clock import Clock, moment
from mailstream.errors import MailstreamError, NotPublished, TemplateError
from mailstream.log.client import connection
from mailstream.log.publish import Publisher
from mailstream.render_process import RenderProcess
from mailstream.settings import Settings
from mailstream.templates import Rendered, Templates
from mailstream.topics import GROUP_TRIGGERS, Naming
from streams import trigger_files, trigger_metrics, trigger_start
from streams.core import trigger, trigger_records
from streams.core.rules import Rules, Start
from streams.core.trigger import Wish
from streams.core.trigger_event import Received
from streams.core.trigger_records import Outgoing

log = structlog.get_logger(__name__)

BATCH = 200  #: records that are settled together, then stored
RETRY_SECONDS = 1.0  #: between two tries to publish what a batch asks for
STOP_SECONDS = 20.0  #: for the batch in work; what is not stored then is read again
RELOAD_SECONDS = 5.0  #: between two looks at the files of rules and templates
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
        self.waits_for_kafka = False  #: events are read that our own topics do not take
        self.rules_mistake: str | None = None  #: why changed rules or templates were not taken
        self._settings, self._publisher, self._clock = settings, publisher, clock
        self._naming = Naming(settings.topic_prefix)
        self._max_age = timedelta(seconds=settings.max_event_age)
        self._renderer = RenderProcess(templates.folder)
        self._use(rules)
        self._is_ending = False
        self._thread: threading.Thread | None = None

    async def on_start(self) -> None:
        """Start to read."""
        if self._settings.triggers_file:
            self.add_future(self._reload_on_change())
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._run, name="triggers", daemon=True)
        self._thread.start()

    async def on_stop(self) -> None:
        """Finish the batch in work, commit it and leave the group."""
        self._is_ending = True
        if self._thread:
            await asyncio.to_thread(self._thread.join, STOP_SECONDS)
        await self._renderer.close()

    def _use(self, rules: Rules) -> None:
        self._rules = rules
        self._topics = {rules.full_name(topic, self._settings.topic_prefix): topic for topic in rules.topics}

    async def _reload_on_change(self) -> None:
        """Take changed rules and templates without a restart; what cannot be used is reported, the old ones stay."""
        seen: trigger_files.Signature = frozenset()  # the first look reads again: the files may have changed meanwhile
        while True:
            await self._clock.sleep(RELOAD_SECONDS)
            if (found := await asyncio.to_thread(trigger_files.signature, self._settings)) == seen:
                continue
            seen = found
            try:
                loaded = await asyncio.to_thread(trigger_files.load, self._settings)
            except MailstreamError as error:
                log.error("changed rules or templates cannot be used, the old ones stay", error=str(error))
                self._note_rules(str(error))
                continue
            if loaded is not None:
                self._use(loaded[0])
                await self._renderer.reload()
                self._note_rules(None)
                log.info("rules and templates reloaded", rules=len(self._rules.rules))

    def _note_rules(self, mistake: str | None) -> None:
        self.rules_mistake = mistake
        trigger_metrics.RULES_UNUSABLE.set(0 if mistake is None else 1)

    # -- on the thread: it alone touches the consumer

    def _run(self) -> None:
        try:
            consumer = Consumer(self._config())
            try:
                subscribed: set[str] = set()
                while not self._is_ending:
                    if (wanted := set(self._topics)) != subscribed:  # at the start, and after a reload
                        consumer.subscribe(sorted(wanted), on_assign=self._on_assign)
                        subscribed = wanted
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
        new = {(part.topic, part.partition): part for part in self._starts(consumer, assigned)}
        consumer.incremental_assign([new.get((part.topic, part.partition), part) for part in assigned])
        if new:
            consumer.store_offsets(offsets=list(new.values()))

    def _starts(self, consumer: Consumer, assigned: list[TopicPartition]) -> list[TopicPartition]:
        rules, prefix = self._rules, self._naming.prefix
        starts = {rules.full_name(topic, prefix): rules.start(topic) for topic in rules.topics}
        recent_at = self._clock.now() - self._max_age.total_seconds()
        while True:
            try:
                return trigger_start.positions(
                    consumer, assigned, lambda topic: starts.get(topic, Start.RECENT), recent_at=recent_at
                )
            except KafkaException as error:  # guessing could mail a year of history
                log.warning("start of new partitions unknown, asking again", error=error.args[0].name())
            if self._is_ending:
                raise _Ending
            time.sleep(RETRY_SECONDS)

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
            if (topic := self._topics.get(message.topic() or "")) is not None:  # else: no rule names it any more
                outgoing += await self._answer(_received(message, topic))
                await asyncio.sleep(0)  # the gate of a call that is due must not wait for a whole batch
        while not await self._is_published(outgoing):
            self.waits_for_kafka = True
            if self._is_ending:
                raise _Ending
            await self._clock.sleep(RETRY_SECONDS)
        self.waits_for_kafka = False

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

    async def _answer(self, received: Received) -> Sequence[Outgoing]:
        now = moment(self._clock.now())
        ruling = trigger.judge(received, self._rules, now=now, max_age=self._max_age)
        mails = {id(wish): await self._rendered(wish) for wish in trigger.wishes(ruling)}
        ruling = trigger.fulfil(ruling, lambda wish: mails[id(wish)])
        result, outgoing, dead_letter = trigger_records.answer(received, ruling, self._settings.partitions)
        trigger_metrics.EVENTS.labels(result.value).inc()
        if dead_letter:
            log.warning("domain event rejected", reason=dead_letter.reason.value, detail=dead_letter.detail,
                        topic=dead_letter.topic, partition=received.partition, offset=received.offset)  # fmt: skip
        return outgoing

    async def _rendered(self, wish: Wish) -> Rendered | TemplateError:
        try:
            return await self._renderer.render(wish.template, wish.data, locale=wish.locale)
        except TemplateError as error:
            return error


def _received(message: Message, topic: str) -> Received:
    headers: dict[str, bytes] = {}
    for name, value in cast("list[tuple[str, bytes | None]]", message.headers() or []):
        headers[name.lower()] = value or b""  # in lower case: a client of HTTP habits may have written them otherwise
    return Received(
        topic=topic,
        full_topic=message.topic() or "",
        partition=message.partition() or 0,
        offset=message.offset() or 0,
        timestamp_ms=message.timestamp()[1],
        headers=headers,
        key=message.key(),
        value=message.value(),
    )


class _Ending(Exception):
    """The worker stops while a batch waits for Kafka: nothing of it is stored, all of it is read again."""


def create_trigger_app(
    settings: Settings, publisher: Publisher, rules: Rules, templates: Templates, clock: Clock
) -> Triggers:
    """The service that turns domain events into requests. Give it to the worker beside the Faust app."""
    return Triggers(settings, publisher, rules, templates, clock)
