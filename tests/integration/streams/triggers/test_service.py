"""Domain events on a real Kafka become records of email.requested, once, whatever happens to the reader."""

import asyncio
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cloudevents.core.bindings.kafka import to_binary_event, to_structured_event
from cloudevents.core.v1.event import CloudEvent
from confluent_kafka import Producer

from mailstream.domain import codec, topics
from mailstream.domain.email_id import partition_in
from mailstream.domain.recipient import partition_of, recipient_hash
from mailstream.domain.request import Control, EmailRequest
from mailstream.kafka import admin
from mailstream.kafka.config import connection
from mailstream.settings import Settings
from streams.triggers import files
from tests.support.domain_events import TEMPLATES, as_bytes, cloud_event, rules_with, shipped
from tests.support.eventually import eventually
from tests.support.records import records_in
from tests.support.trigger_bench import REMINDER, STOP, Bench, requests_in, rules_of


@pytest.fixture
def bench(settings: Settings) -> Bench:
    return Bench(settings)


async def test_the_same_event_twice_asks_for_one_email_in_the_partition_of_its_recipient(bench: Bench) -> None:
    bench.say(as_bytes(cloud_event()))
    bench.say(as_bytes(cloud_event()), key=b"another partition, the same event")

    async with bench.reading():
        records = await bench.records(topics.REQUESTED, 2)

    first, second = requests_in(records)
    assert first.id == second.id
    assert first.subject == "Your order 1042 is on its way"
    for record in records:
        assert record.key() == b"ada@example.com"
        assert record.partition() == partition_of(recipient_hash("ada@example.com"), bench.settings.partitions)
        assert record.partition() == partition_in(first.id or "", bench.settings.partitions)
        assert dict(record.headers() or [])["mailstream-record"] == b"email.requested.v1"


async def test_what_the_cloudevents_library_writes_in_either_mode_is_understood(bench: Bench) -> None:
    attributes = {"id": "7-shipped", "source": "/shop", "type": "order.shipped"}
    for write in (to_binary_event, to_structured_event):
        message = write(CloudEvent(dict(attributes), shipped()))
        bench.say(message.value, headers=message.headers)

    async with bench.reading():
        first, second = requests_in(await bench.records(topics.REQUESTED, 2))

    assert first.id == second.id


async def test_a_bad_event_is_a_dead_letter_with_its_bytes_and_the_next_one_is_mailed(bench: Bench) -> None:
    bench.say(b"\xff no json", key=b"k", headers={"x-trace": b"1"})
    bench.say(as_bytes(cloud_event(shipped(email="not an address"))), key=b"k")
    bench.say(as_bytes(cloud_event()), key=b"k")

    async with bench.reading():
        await bench.records(topics.REQUESTED, 1)
        letters = await bench.records(topics.REJECTED, 2)

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
        await bench.records(topics.REQUESTED, 1)
    bench.say(as_bytes(cloud_event(id="2")))

    async with bench.reading():
        found = requests_in(await bench.records(topics.REQUESTED, 2))

    assert {request.idempotency_key for request in found} == {"1/order-shipped", "2/order-shipped"}


async def test_a_missing_topic_is_reported_and_the_others_go_on(bench: Bench) -> None:
    here, nowhere = REMINDER | {"type": "order.shipped"}, REMINDER | {"name": "returned", "topic": "shop.returns"}
    bench.say(as_bytes(cloud_event()))

    async with bench.reading(rules_of(here, nowhere)) as service:
        await bench.records(topics.REQUESTED, 1)
        await eventually(lambda: bench.name("shop.returns") in service.unreadable, waiting_for="the report")
        assert bench.name("shop.orders") not in service.unreadable


async def test_a_cancel_follows_what_it_cancels_in_the_same_partition(bench: Bench) -> None:
    bench.say(as_bytes(cloud_event(type="order.placed", id="1")), key=b"1042")
    bench.say(as_bytes(cloud_event(type="order.cancelled", id="2")), key=b"1042")

    async with bench.reading(rules_of(REMINDER, STOP)):
        placed, cancelled = await bench.records(topics.REQUESTED, 2)

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
        records = await bench.records(topics.REQUESTED, 1 if start == "latest" else 4)

    assert {request.reference for request in requests_in(records)} == asked


async def test_a_topic_can_be_begun_at_a_time(bench: Bench) -> None:
    bench.say(as_bytes(cloud_event(shipped("before"), id="before")), key=b"k")
    await asyncio.sleep(0.05)  # Kafka's times have milliseconds
    at = datetime.now(UTC).isoformat()
    await asyncio.sleep(0.05)
    bench.say(as_bytes(cloud_event(shipped("after"), id="after")), key=b"k")

    async with bench.reading(rules_with(topics={"shop.orders": {"start": at}}, reference="data.order")):
        (request,) = requests_in(await bench.records(topics.REQUESTED, 1))

    assert request.reference == "after"


async def test_events_wait_for_kafka_and_none_is_lost(bench: Bench) -> None:
    bench.drop(topics.REQUESTED)
    for order in ("1", "2", "3"):
        bench.say(as_bytes(cloud_event(shipped(order), id=order)))

    async with bench.reading() as service:
        await eventually(lambda: service.is_waiting, waiting_for="a refused record")
        admin.apply(bench.admin, bench.settings)
        found = requests_in(await bench.records(topics.REQUESTED, 3))
        await eventually(lambda: not service.is_waiting, waiting_for="the end of the wait")

    assert {request.reference for request in found} == {"1", "2", "3"}


async def test_a_reader_that_is_stopped_while_it_waits_reads_the_events_again(bench: Bench) -> None:
    bench.drop(topics.REQUESTED)
    bench.say(as_bytes(cloud_event()))
    async with bench.reading() as service:
        await eventually(lambda: service.is_waiting, waiting_for="a refused record")

    admin.apply(bench.admin, bench.settings)
    async with bench.reading():
        assert len(await bench.records(topics.REQUESTED, 1)) == 1


async def test_changed_rules_are_taken_and_bad_ones_are_not(bench: Bench, tmp_path: Path) -> None:
    file = tmp_path / "triggers.yaml"
    file.write_text(json.dumps({"rules": [REMINDER]}))
    settings = bench.settings.model_copy(update={"triggers_file": str(file), "templates_dir": str(TEMPLATES)})
    loaded = files.load(settings)
    assert loaded is not None
    bench.make_topic("shop.returns", 1)

    async with bench.reading(loaded, settings=settings) as service:
        file.write_text("rules: [")
        await eventually(lambda: service.rules_mistake is not None, waiting_for="the report of a mistake")
        file.write_text(json.dumps({"rules": [REMINDER, REMINDER | {"name": "returned", "topic": "shop.returns"}]}))
        await eventually(lambda: service.rules_mistake is None, waiting_for="the new rules")
        bench.say(as_bytes(cloud_event(type="order.placed")), topic="shop.returns")
        (request,) = requests_in(await bench.records(topics.REQUESTED, 1))

    assert request.idempotency_key == "1042/returned"


async def test_an_event_that_its_producer_rolled_back_sends_nothing(bench: Bench) -> None:
    producer = Producer({**connection(bench.settings), "transactional.id": bench.name("outbox")})
    producer.init_transactions(20)
    for order, end in (("1", producer.commit_transaction), ("2", producer.abort_transaction),
                       ("3", producer.commit_transaction)):  # fmt: skip
        producer.begin_transaction()
        producer.produce(bench.name("shop.orders"), as_bytes(cloud_event(shipped(order), id=order)), b"k")
        producer.flush(10)
        end()

    async with bench.reading():
        found = requests_in(await bench.records(topics.REQUESTED, 2))

    assert {request.reference for request in found} == {"1", "3"}


async def test_readers_that_come_and_go_skip_no_event(bench: Bench) -> None:
    wanted = {str(number) for number in range(300)}
    for number in sorted(wanted):
        bench.producer.produce(
            bench.name("shop.orders"), as_bytes(cloud_event(shipped(number), id=number)), number.encode()
        )
    assert bench.producer.flush(10) == 0

    async def asked() -> bool:
        found = await asyncio.to_thread(records_in, bench.settings, bench.name("email.requested"))
        return {request.reference for request in requests_in(found)} >= wanted

    async with bench.reading():
        for _ in range(3):
            async with bench.reading():
                await asyncio.sleep(0.3)  # while partitions move
        await eventually(asked, within_seconds=20, waiting_for="every event")
