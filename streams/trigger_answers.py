"""Settle domain events: judge, render, publish what they ask for. Runs on the loop, beside pacing and sending."""

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import structlog
from confluent_kafka import Message

from mailstream.clock import Clock, moment
from mailstream.dead_letter import Reason
from mailstream.errors import NotPublished, RegistryAway, TemplateError, WrongSettings
from mailstream.log.publish import Publisher
from mailstream.log.record import record_of
from mailstream.render_process import RenderProcess
from mailstream.settings import Settings
from mailstream.templates import Rendered
from mailstream.topics import Naming
from streams import trigger_metrics
from streams.core import trigger, trigger_records
from streams.core.rules import Rules
from streams.core.rules_model import Start
from streams.core.trigger import Failure, Ruling, Unreadable, Wish
from streams.core.trigger_event import BadEvent, Received, as_event
from streams.core.trigger_records import Outgoing
from streams.group_reader import Ending
from streams.metrics import DEAD_LETTERS

if TYPE_CHECKING:
    from streams.trigger_schemas import Schemas

log = structlog.get_logger(__name__)

RETRY_SECONDS = 1.0  #: between two tries to publish what a batch asks for, or to ask the schema registry


class Answers:
    """Turns records of other services into records of ours."""

    def __init__(self, settings: Settings, publisher: Publisher, rules: Rules, templates: Path, clock: Clock) -> None:
        self.is_waiting = False  #: events are read that cannot be settled now
        self.is_ending = False
        self.rules = rules
        self._settings, self._publisher, self._clock = settings, publisher, clock
        self._naming = Naming(settings.topic_prefix)
        self._max_age = timedelta(seconds=settings.max_event_age)
        self._renderer = RenderProcess(templates)
        self._schemas = _schemas(settings)
        self.use(rules)

    def use(self, rules: Rules) -> None:
        """Judge by these rules from the next event on."""
        self.rules = rules
        #: full name of each topic that is read, to its name in the rules
        self.topics = {rules.full_name(topic, self._naming.prefix): topic for topic in rules.topics}

    def start_of(self, topic: str) -> Start | datetime:
        """Where a topic (full name) is begun that was never read."""
        return self.rules.start(self.topics.get(topic, ""))

    async def reload_templates(self) -> None:
        """Render from the folder as it is now."""
        await self._renderer.reload()

    async def close(self) -> None:
        """End the process that renders, and the connections to the registry."""
        await self._renderer.close()
        if self._schemas is not None:
            self._schemas.close()

    async def settle(self, records: Sequence[Message]) -> None:
        """Return when all that these records ask for is in the log. Raises Ending."""
        outgoing: list[Outgoing] = []
        for message in records:
            if (topic := self.topics.get(message.topic() or "")) is not None:  # else: no rule names it any more
                outgoing += await self._answer(as_event(record_of(message), topic))
                await asyncio.sleep(0)  # the gate of a call that is due must not wait for a whole batch
        while not await self._is_published(outgoing):
            await self._wait()
        self.is_waiting = False

    async def _wait(self) -> None:
        self.is_waiting = True
        if self.is_ending:
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

    async def _answer(self, received: Received) -> Sequence[Outgoing]:
        ruling = await self._judged(received)
        mails = {id(wish): await self._rendered(wish) for wish in trigger.wishes(ruling)}
        ruling = trigger.fulfil(ruling, lambda wish: mails[id(wish)])
        result, outgoing, dead_letter = trigger_records.answer(received, ruling, self._settings.partitions)
        trigger_metrics.EVENTS.labels(result.value).inc()
        if dead_letter:
            DEAD_LETTERS.labels(dead_letter.reason.value).inc()
            log.warning("domain event rejected", reason=dead_letter.reason.value, detail=dead_letter.detail,
                        topic=received.topic, partition=received.partition, offset=received.offset)  # fmt: skip
        return outgoing

    async def _judged(self, received: Received) -> Ruling:
        if self._schemas is not None and not trigger.is_foreign(received, self.rules):
            try:
                received = await self._with_content(received, self._schemas)
            except BadEvent as error:
                return Unreadable(Failure(Reason.BAD_EVENT, str(error)))
        return trigger.judge(received, self.rules, now=moment(self._clock.now()), max_age=self._max_age)

    async def _with_content(self, received: Received, schemas: "Schemas") -> Received:
        while True:
            try:
                return await schemas.read(received)
            except RegistryAway as error:
                log.warning("domain events wait", error=str(error))
            await self._wait()

    async def _rendered(self, wish: Wish) -> Rendered | TemplateError:
        try:
            return await self._renderer.render(wish.template, wish.data, locale=wish.locale)
        except TemplateError as error:
            return error


def _schemas(settings: Settings) -> "Schemas | None":
    if settings.schema_registry_url is None:
        return None
    try:
        from streams import trigger_schemas
    except ImportError:
        raise WrongSettings("MAILSTREAM_SCHEMA_REGISTRY_URL needs more: pip install 'mailstream[registry]'") from None
    return trigger_schemas.connected(settings)
