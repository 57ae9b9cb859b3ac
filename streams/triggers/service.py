"""Domain events of other services in, ``email.requested`` out: a consumer group of its own beside the Faust app.

Not a second Faust app, though two run well in one process. These topics are not ours: one whose read right is taken away
ends Faust's fetcher, and with it the worker and all mail, for ever, as the restart meets it again. A transactional
producer or a compacted topic leaves holes in the offsets, which under Faust must be told from records that it lost.
librdkafka reports the one topic and reads on, loses nothing at a rebalance, and reads committed records.
"""

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog
from confluent_kafka import Message
from mode import Service

from mailstream.clock import Clock, moment
from mailstream.domain.errors import MailstreamError, NotPublished, RegistryAway, WrongSettings
from mailstream.domain.start import Start
from mailstream.domain.topics import GROUP_TRIGGERS, Naming
from mailstream.follow_file import follow_file
from mailstream.kafka.consumer_group import Ending, GroupReader
from mailstream.kafka.producer import Publisher
from mailstream.kafka.record import record_of
from mailstream.settings import Settings
from mailstream.templates.render_process import RenderProcess
from streams.metrics import DEAD_LETTERS, DOMAIN_EVENTS, RULES_UNUSABLE, UNREADABLE
from streams.triggers import decide
from streams.triggers import files as trigger_files
from streams.triggers import records as trigger_records
from streams.triggers.decide import Ruling
from streams.triggers.event import BadEvent, Received, as_event
from streams.triggers.records import Outgoing
from streams.triggers.rules import Rules

if TYPE_CHECKING:
    from streams.triggers.schema_registry import Schemas

log = structlog.get_logger(__name__)

RETRY_SECONDS = 1.0  #: between two tries to publish what a batch asks for, or to ask the schema registry


class Triggers(Service):  # type: ignore[misc]
    """Turns records of the topics that the rules name into records of ours, as long as it runs."""

    def __init__(
        self,
        settings: Settings,
        publisher: Publisher,
        rules: Rules,
        renderer: RenderProcess,
        clock: Clock,
        failed: Callable[[BaseException], None],
        **kwargs: Any,
    ) -> None:
        """``failed`` is called on the loop when nothing more will be read."""
        super().__init__(**kwargs)
        self.rules_mistake: str | None = None  #: why changed rules or templates were not taken
        self.is_waiting = False  #: events are read that cannot be settled: our topics or the registry do not answer
        self._settings, self._publisher, self._renderer = settings, publisher, renderer
        self._clock, self._failed = clock, failed
        self._naming = Naming(settings.topic_prefix)
        self._max_age = timedelta(seconds=settings.max_event_age)
        self._schemas = _schemas(settings)
        self._reader: GroupReader | None = None
        self._is_ending = False
        self._use(rules)

    @property
    def unreadable(self) -> dict[str, str]:
        """Topics of the rules that cannot be read now, and why."""
        return self._reader.unreadable if self._reader else {}

    async def on_start(self) -> None:
        """Start to read."""
        if self._settings.triggers_file:
            self.add_future(self._reload_on_change())
        self._reader = GroupReader(
            self._settings,
            self._clock,
            group=GROUP_TRIGGERS,
            topics=lambda: self._topics,
            handle=self._settle,
            start_of=self._start_of,
            failed=self._failed,
            gauge=UNREADABLE,
        )

    async def on_stop(self) -> None:
        """Finish the batch in work, commit it and leave the group."""
        self._is_ending = True
        if self._reader:
            await self._reader.close()
        if self._schemas is not None:
            self._schemas.close()

    # -- rules --------------------------------------------------------------------------------------------

    def _use(self, rules: Rules) -> None:
        """Decide by these rules from the next event on."""
        self._rules = rules
        #: full name of each topic that is read, to its name in the rules
        self._topics = {rules.full_name(topic, self._naming.prefix): topic for topic in rules.topics}

    def _start_of(self, topic: str) -> Start | datetime:
        """Where a topic (full name) is begun that was never read."""
        return self._rules.form(self._topics.get(topic, "")).start

    async def _reload_on_change(self) -> None:
        """Take changed rules and templates without a restart; what cannot be used is reported, the old ones stay."""
        files = [Path(name) for name in (self._settings.triggers_file, self._settings.templates_dir) if name]
        await follow_file(files, self._loaded, self._take, what="rules and templates")

    def _loaded(self) -> Rules | None:
        try:
            return trigger_files.load(self._settings)
        except MailstreamError as error:
            self._note_rules(str(error))
            raise

    async def _take(self, rules: Rules | None) -> None:
        if rules is not None:
            self._use(rules)
            await self._renderer.reload()
            self._note_rules(None)
            log.info("rules and templates reloaded", rules=len(rules.rules))

    def _note_rules(self, mistake: str | None) -> None:
        self.rules_mistake = mistake
        RULES_UNUSABLE.set(0 if mistake is None else 1)

    # -- events -------------------------------------------------------------------------------------------

    async def _settle(self, records: Sequence[Message]) -> None:
        """Return when all that these records ask for is in the log. Raises Ending."""
        outgoing: list[Outgoing] = []
        for message in records:
            if (topic := self._topics.get(message.topic() or "")) is not None:  # else: no rule names it any more
                outgoing += await self._outgoing(as_event(record_of(message), topic))
                await asyncio.sleep(0)  # the gate of a call that is due must not wait for a whole batch
        while not await self._is_published(outgoing):
            await self._wait()
        self.is_waiting = False

    async def _wait(self) -> None:
        self.is_waiting = True
        if self._is_ending:
            raise Ending
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

    async def _outgoing(self, received: Received) -> list[Outgoing]:
        ruling = await self._decided(received)
        DOMAIN_EVENTS.labels(ruling.result.value).inc()
        if ruling.failures:
            reason = ruling.failures[0].reason.value
            DEAD_LETTERS.labels(reason).inc()
            log.warning("domain event rejected", reason=reason, detail=ruling.detail(),
                        topic=received.topic, partition=received.partition, offset=received.offset)  # fmt: skip
        return trigger_records.outgoing(received, ruling, self._settings.partitions)

    async def _decided(self, received: Received) -> Ruling:
        if self._schemas is not None and not decide.is_foreign(received, self._rules):
            try:
                received = await self._with_content(received, self._schemas)
            except BadEvent as error:
                return decide.unreadable(str(error))
        now = moment(self._clock.now())
        return await decide.decide(received, self._rules, self._renderer.render, now=now, max_age=self._max_age)

    async def _with_content(self, received: Received, schemas: "Schemas") -> Received:
        while True:
            try:
                return await schemas.read(received)
            except RegistryAway as error:
                log.warning("domain events wait", error=str(error))
            await self._wait()


def _schemas(settings: Settings) -> "Schemas | None":
    if settings.schema_registry_url is None:
        return None
    try:
        from streams.triggers import schema_registry
    except ImportError:
        raise WrongSettings("MAILSTREAM_SCHEMA_REGISTRY_URL needs more: pip install 'mailstream[registry]'") from None
    return schema_registry.connected(settings)
