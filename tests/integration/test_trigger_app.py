"""Domain events on a real Kafka become records of email.requested, once, whatever happens to the reader."""

import asyncio
import json
import os
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cloudevents.core.bindings.kafka import to_binary_event, to_structured_event
from cloudevents.core.v1.event import CloudEvent
from confluent_kafka import Consumer, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from mailstream import codec, topics
from mailstream.clock import SystemClock
from mailstream.email_id import partition_in
from mailstream.log import check
from mailstream.log.client import admin, connection
from mailstream.log.publish import Publisher
from mailstream.recipient import partition_of, recipient_hash
from mailstream.request import Control, EmailRequest
from mailstream.settings import Settings
from mailstream.templates import Templates
from mailstream.topics import GROUP_TRIGGERS
from streams import trigger_files
from streams.core import rules as rule_file
from streams.core.rules import Rules
from streams.trigger_app import Triggers, create_trigger_app
from tests.support.domain_events import TEMPLATES, as_bytes, cloud_event, example_rules, rules_with, shipped

BOOTSTRAP = os.environ.get("MAILSTREAM_KAFKA_BOOTSTRAP", "127.0.0.1:9092")
PARTITIONS = 4


@pytest.fixture(scope="module")
def broker() -> AdminClient:
    client = admin(Settings(kafka_bootstrap=BOOTSTRAP))
    try:
        client.list_topics(timeout=5)
    except Exception:
        pytest.skip(f"No Kafka at {BOOTSTRAP}: run `mailstream dev kafka`, or set MAILSTREAM_KAFKA_BOOTSTRAP")
    return client


class HurriedClock(SystemClock):
    """Waits between looks and tries are cut short; time itself is the machine's."""

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(min(seconds, 0.1))


class Bench:
    """Topics of its own on a real broker, and what came into ours."""

    def __init__(self, client: AdminClient) -> None:
        self.settings = Settings(
            kafka_bootstrap=BOOTSTRAP, topic_prefix=f"triggers-{uuid.uuid4().hex[:8]}.", partitions=PARTITIONS,
            session_timeout=6,
        )  # fmt: skip
        self.admin = client
        check.apply(client, self.settings)
        self.make_topic("shop.orders", 3)
        self.producer = Producer({"bootstrap.servers": BOOTSTRAP})

    def name(self, topic: str) -> str:
        return self.settings.topic_prefix + topic

    def make_topic(self, topic: str, partitions: int) -> None:
        for created in self.admin.create_topics([NewTopic(self.name(topic), partitions, 1)]).values():
            created.result(10)

    def say(self, value: bytes | None, *, topic: str = "shop.orders", key: bytes | None = None,
            headers: dict[str, bytes] | None = None) -> None:  # fmt: skip
        self.producer.produce(self.name(topic), value, key, headers=list((headers or {}).items()))
        assert self.producer.flush(10) == 0

    @asynccontextmanager
    async def reading(self, rules: Rules | None = None, *, settings: Settings | None = None) -> AsyncIterator[Triggers]:
        settings = settings or self.settings
        publisher = Publisher(settings, message_seconds=1.0)
        service = create_trigger_app(
            settings, publisher, rules or example_rules(), Templates(TEMPLATES), HurriedClock()
        )
        await service.start()
        try:
            yield service
        finally:
            await service.stop()
            await publisher.close()

    def records(self, topic: topics.Topic) -> list[Message]:
        """All that stands in one of our topics now."""
        reader = Consumer({**connection(self.settings), "group.id": "unused", "enable.auto.commit": False})
        name, found = self.name(topic.name), []
        try:
            for partition in range(PARTITIONS):
                low, high = reader.get_watermark_offsets(TopicPartition(name, partition), timeout=10)
                reader.assign([TopicPartition(name, partition, low)])
                while high > low and (not found or found[-1].partition() != partition or found[-1].offset() < high - 1):
                    message = reader.poll(5)
                    assert message is not None
                    assert message.error() is None
                    found.append(message)
        finally:
            reader.close()
        return found

    async def eventually(self, topic: topics.Topic, count: int) -> list[Message]:
        """The records of a topic, once it holds that many."""
        found: list[Message] = []
        async with asyncio.timeout(20):
            while len(found) < count:
                found = await asyncio.to_thread(self.records, topic)
                await asyncio.sleep(0.05)
        assert len(found) == count
        return found

    async def eventually_true(self, fact: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not fact():
                await asyncio.sleep(0.02)

    async def until_begun(self) -> None:
        """Until the group stands somewhere in every partition."""
        group, name = self.name(GROUP_TRIGGERS), self.name("shop.orders")
        parts = [TopicPartition(name, partition) for partition in range(3)]
        reader = Consumer({**connection(self.settings), "group.id": group})
        async with asyncio.timeout(20):
            while any(part.offset < 0 for part in await asyncio.to_thread(reader.committed, parts, 5)):
                await asyncio.sleep(0.05)
        reader.close()

    def drop(self, topic: topics.Topic) -> None:
        for deleted in self.admin.delete_topics([self.name(topic.name)]).values():
            deleted.result(10)

    def close(self) -> None:
        mine = [
            name for name in self.admin.list_topics(timeout=10).topics if name.startswith(self.settings.topic_prefix)
        ]
        for deleted in self.admin.delete_topics(mine).values():
            deleted.result(10)


@pytest.fixture
def bench(broker: AdminClient) -> Any:
    bench = Bench(broker)
    yield bench
    bench.close()


def requests_in(records: list[Message]) -> list[EmailRequest]:
    found = [codec.decode_requested(message.value() or b"") for message in records]
    return [request for request in found if isinstance(request, EmailRequest)]


async def test_the_same_event_twice_asks_for_one_email_in_the_partition_of_its_recipient(bench: Bench) -> None:
    bench.say(as_bytes(cloud_event()))
    bench.say(as_bytes(cloud_event()), key=b"another partition, the same event")

    async with bench.reading():
        records = await bench.eventually(topics.REQUESTED, 2)

    first, second = requests_in(records)
    assert first.id == second.id
    assert first.subject == "Your order 1042 is on its way"
    for record in records:
        assert record.key() == b"ada@example.com"
        assert record.partition() == partition_of(recipient_hash("ada@example.com"), PARTITIONS)
        assert record.partition() == partition_in(first.id or "", PARTITIONS)
        assert dict(record.headers() or [])["mailstream-record"] == b"email.requested.v1"


async def test_what_the_cloudevents_library_writes_in_either_mode_is_understood(bench: Bench) -> None:
    attributes = {"id": "7-shipped", "source": "/shop", "type": "order.shipped"}
    for write in (to_binary_event, to_structured_event):
        message = write(CloudEvent(dict(attributes), shipped()))
        bench.say(message.value, headers=message.headers)

    async with bench.reading():
        first, second = requests_in(await bench.eventually(topics.REQUESTED, 2))

    assert first.id == second.id


async def test_a_bad_event_is_a_dead_letter_with_its_bytes_and_the_next_one_is_mailed(bench: Bench) -> None:
    bench.say(b"\xff no json", key=b"k", headers={"x-trace": b"1"})
    bench.say(as_bytes(cloud_event(shipped(email="not an address"))), key=b"k")
    bench.say(as_bytes(cloud_event()), key=b"k")

    async with bench.reading():
        await bench.eventually(topics.REQUESTED, 1)
        letters = await bench.eventually(topics.REJECTED, 2)

    by_reason = {dict(letter.headers() or [])["mailstream-reason"]: letter for letter in letters}
    bad = by_reason[b"BAD_EVENT"]
    assert bad.value() == b"\xff no json"
    assert bad.key() == b"k"
    assert dict(bad.headers() or [])["x-trace"] == b"1"
    assert dict(bad.headers() or [])["dlt-original-topic"] == bench.name("shop.orders").encode()
    assert b"BAD_ADDRESS" in by_reason


async def test_a_reader_that_comes_back_goes_on_where_it_stood(bench: Bench) -> None:
    async with bench.reading():
        bench.say(as_bytes(cloud_event(id="1")))
        await bench.eventually(topics.REQUESTED, 1)
    bench.say(as_bytes(cloud_event(id="2")))

    async with bench.reading():
        found = requests_in(await bench.eventually(topics.REQUESTED, 2))

    assert {request.idempotency_key for request in found} == {"1/order-shipped", "2/order-shipped"}


async def test_a_missing_topic_is_reported_and_the_others_go_on(bench: Bench) -> None:
    text = "\n".join(
        f"  - {{name: {name}, topic: {topic}, type: order.shipped, to: data.customer, template: order-shipped,"
        " data: {order: data.order, name: data.customer.name, parcel: data.parcel}}"
        for name, topic in (("here", "shop.orders"), ("nowhere", "shop.returns"))
    )
    bench.say(as_bytes(cloud_event()))

    async with bench.reading(rule_file.parse(f"rules:\n{text}")) as service:
        await bench.eventually(topics.REQUESTED, 1)
        async with asyncio.timeout(20):
            while bench.name("shop.returns") not in service.unreadable:
                await asyncio.sleep(0.05)
        assert bench.name("shop.orders") not in service.unreadable


REMINDER: dict[str, Any] = {
    "name": "reminder", "topic": "shop.orders", "type": "order.placed", "to": "data.customer", "identity": "data.order",
    "template": "order-shipped", "delay": "3d",
    "data": {"order": "data.order", "name": "data.customer.name", "parcel": "data.parcel"},
}  # fmt: skip
STOP: dict[str, Any] = {"name": "stop", "topic": "shop.orders", "type": "order.cancelled", "to": "data.customer",
                        "cancels": "reminder", "identity": "data.order"}  # fmt: skip


async def test_a_cancel_follows_what_it_cancels_in_the_same_partition(bench: Bench) -> None:
    bench.say(as_bytes(cloud_event(type="order.placed", id="1")), key=b"1042")
    bench.say(as_bytes(cloud_event(type="order.cancelled", id="2")), key=b"1042")

    async with bench.reading(rule_file.parse(json.dumps({"rules": [REMINDER, STOP]}))):
        placed, cancelled = await bench.eventually(topics.REQUESTED, 2)

    request, control = codec.decode_requested(placed.value() or b""), codec.decode_requested(cancelled.value() or b"")
    assert isinstance(request, EmailRequest)
    assert isinstance(control, Control)
    assert control.id == request.id
    assert cancelled.key() == control.id.encode()
    assert cancelled.partition() == placed.partition()


@pytest.mark.parametrize(
    ("start", "asked"), [("earliest", {"old", "new"}), ("recent", {"old", "new"}), ("latest", {"new"})]
)
async def test_a_topic_that_was_never_read_is_begun_where_the_rules_say(
    bench: Bench, start: str, asked: set[str]
) -> None:
    rules = rules_with(topics={"shop.orders": {"start": start}}, reference="data.order")
    for _ in range(3):
        bench.say(as_bytes(cloud_event(shipped("old"), id="old")))
    async with bench.reading(rules):
        await bench.until_begun()

    # while nobody reads: the reader that comes back must not begin at the end again
    bench.say(as_bytes(cloud_event(shipped("new"), id="new")))
    async with bench.reading(rules):
        await bench.eventually(topics.REQUESTED, 1 if start == "latest" else 4)

    found = requests_in(bench.records(topics.REQUESTED))
    assert {request.reference for request in found} == asked


async def test_a_topic_can_be_begun_at_a_time(bench: Bench) -> None:
    bench.say(as_bytes(cloud_event(shipped("before"), id="before")), key=b"k")
    await asyncio.sleep(0.05)
    at = datetime.now(UTC).isoformat()
    await asyncio.sleep(0.05)
    bench.say(as_bytes(cloud_event(shipped("after"), id="after")), key=b"k")

    async with bench.reading(rules_with(topics={"shop.orders": {"start": at}}, reference="data.order")):
        (request,) = requests_in(await bench.eventually(topics.REQUESTED, 1))

    assert request.reference == "after"


async def test_events_wait_for_kafka_and_none_is_lost(bench: Bench) -> None:
    bench.drop(topics.REQUESTED)
    for order in ("1", "2", "3"):
        bench.say(as_bytes(cloud_event(shipped(order), id=order)))

    async with bench.reading() as service:
        await bench.eventually_true(lambda: service.waits_for_kafka)
        check.apply(bench.admin, bench.settings)
        await bench.eventually_true(lambda: not service.waits_for_kafka)
        found = requests_in(await asyncio.to_thread(bench.records, topics.REQUESTED))

    assert {request.reference for request in found} == {"1", "2", "3"}


async def test_changed_rules_are_taken_and_bad_ones_are_not(bench: Bench, tmp_path: Path) -> None:
    file = tmp_path / "triggers.yaml"
    file.write_text(json.dumps({"rules": [REMINDER]}))
    settings = bench.settings.model_copy(update={"triggers_file": str(file), "templates_dir": str(TEMPLATES)})
    loaded = trigger_files.load(settings)
    assert loaded is not None
    bench.make_topic("shop.returns", 1)

    async with bench.reading(loaded[0], settings=settings) as service:
        file.write_text("rules: [")
        await bench.eventually_true(lambda: service.rules_mistake is not None)
        file.write_text(json.dumps({"rules": [REMINDER, REMINDER | {"name": "returned", "topic": "shop.returns"}]}))
        await bench.eventually_true(lambda: service.rules_mistake is None)
        bench.say(as_bytes(cloud_event(type="order.placed")), topic="shop.returns")
        (request,) = requests_in(await bench.eventually(topics.REQUESTED, 1))

    assert request.idempotency_key == "1042/returned"


async def test_an_event_that_its_producer_rolled_back_sends_nothing(bench: Bench) -> None:
    producer = Producer({"bootstrap.servers": BOOTSTRAP, "transactional.id": bench.name("outbox")})
    producer.init_transactions(20)
    for order, end in (("1", producer.commit_transaction), ("2", producer.abort_transaction),
                       ("3", producer.commit_transaction)):  # fmt: skip
        producer.begin_transaction()
        producer.produce(bench.name("shop.orders"), as_bytes(cloud_event(shipped(order), id=order)), b"k")
        producer.flush(10)
        end()

    async with bench.reading():
        found = requests_in(await bench.eventually(topics.REQUESTED, 2))

    assert {request.reference for request in found} == {"1", "3"}
