"""A reader of domain events on a real broker, the shop that writes them, and what comes into our topics."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from confluent_kafka import Consumer, Message, Producer, TopicPartition
from confluent_kafka.cimpl import NewTopic

from mailstream.clock import SystemClock
from mailstream.domain import codec
from mailstream.domain.request import EmailRequest
from mailstream.domain.topics import GROUP_TRIGGERS, Topic
from mailstream.kafka.config import admin, connection
from mailstream.kafka.producer import Publisher
from mailstream.settings import Settings
from mailstream.templates.render_process import RenderProcess
from streams.triggers import rules as rule_file
from streams.triggers.rules import Rules
from streams.triggers.service import Triggers
from tests.support.domain_events import TEMPLATES, example_rules
from tests.support.eventually import eventually
from tests.support.records import records_in

SHOP = "shop.orders"
SHOP_PARTITIONS = 3

#: A mail in three days, and what withdraws it.
REMINDER: dict[str, Any] = {
    "name": "reminder", "topic": SHOP, "type": "order.placed", "to": "data.customer", "identity": "data.order",
    "template": "order-shipped", "delay": "3d",
    "data": {"order": "data.order", "name": "data.customer.name", "parcel": "data.parcel"},
}  # fmt: skip
STOP: dict[str, Any] = {"name": "stop", "topic": SHOP, "type": "order.cancelled", "to": "data.customer",
                        "cancels": "reminder", "identity": "data.order"}  # fmt: skip


class HurriedClock(SystemClock):
    """Waits between looks and tries are cut short; time itself is the machine's."""

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(min(seconds, 0.1))


class Bench:
    """One shop topic beside the topics of a system."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.admin = admin(settings)
        self.make_topic(SHOP, SHOP_PARTITIONS)
        self.producer = Producer(connection(settings))

    def name(self, topic: str) -> str:
        return self.settings.topic_prefix + topic

    def make_topic(self, topic: str, partitions: int) -> None:
        for created in self.admin.create_topics([NewTopic(self.name(topic), partitions, 1)]).values():
            created.result(10)

    def drop(self, topic: Topic) -> None:
        for deleted in self.admin.delete_topics([self.name(topic.name)]).values():
            deleted.result(10)

    def say(self, value: bytes | None, *, topic: str = SHOP, key: bytes | None = None,
            headers: dict[str, bytes] | None = None) -> None:  # fmt: skip
        """Write one event, durably."""
        self.producer.produce(self.name(topic), value, key, headers=list((headers or {}).items()))
        assert self.producer.flush(10) == 0

    @asynccontextmanager
    async def reading(self, rules: Rules | None = None, *, settings: Settings | None = None) -> AsyncIterator[Triggers]:
        """The service, running."""
        settings = settings or self.settings
        publisher, failures = Publisher(settings, message_seconds=1.0), list[BaseException]()
        renderer = RenderProcess(TEMPLATES)
        service = Triggers(settings, publisher, rules or example_rules(), renderer, HurriedClock(), failures.append)
        await service.start()
        try:
            yield service
        finally:
            await service.stop()
            await renderer.close()
            await publisher.close()
        assert not failures

    async def records(self, topic: Topic, count: int) -> list[Message]:
        """The records of one of our topics, once it holds that many; it must not hold more."""

        async def enough() -> list[Message] | None:
            found = await asyncio.to_thread(records_in, self.settings, self.name(topic.name))
            assert len(found) <= count
            return found if len(found) == count else None

        found = await eventually(enough, within_seconds=20, waiting_for=f"{count} records of {topic.name}")
        assert found is not None
        return found

    async def until_begun(self) -> None:
        """Until the group stands somewhere in every partition of the shop."""
        parts = [TopicPartition(self.name(SHOP), partition) for partition in range(SHOP_PARTITIONS)]
        reader = Consumer({**connection(self.settings), "group.id": self.name(GROUP_TRIGGERS)})

        async def stands() -> bool:
            return all(part.offset >= 0 for part in await asyncio.to_thread(reader.committed, parts, 5))

        await eventually(stands, within_seconds=20, waiting_for="the first commit")
        reader.close()


def rules_of(*rules: dict[str, Any], **topics: dict[str, Any]) -> Rules:
    """Rules as a file would hold them."""
    return rule_file.parse(json.dumps({"rules": list(rules), "topics": topics}))


def requests_in(records: list[Message]) -> list[EmailRequest]:
    """The emails that were asked for."""
    found = [codec.decode_requested(message.value() or b"") for message in records]
    return [request for request in found if isinstance(request, EmailRequest)]
