"""What callers of the one producer rely on: a record that was awaited is in the log, once, where it belongs."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
from confluent_kafka import Producer

from mailstream import topics
from mailstream.errors import NotPublished
from mailstream.log.client import connection
from mailstream.log.publish import MANY, MAX_RECORD_BYTES, Position, Publisher
from mailstream.recipient import partition_of, recipient_hash
from mailstream.settings import Settings
from mailstream.topics import MAX_REQUEST_BYTES, Naming
from tests.support.broker import Kafka
from tests.support.eventually import eventually
from tests.support.proxy import Proxy, Way
from tests.support.records import records_in
from tests.support.system import some_settings, topics_of

#: The topic of these tests: any of ours would do.
TOPIC = topics.REQUESTED


@asynccontextmanager
async def a_publisher(settings: Settings, **options: Any) -> AsyncIterator[Publisher]:
    publisher = Publisher(settings, **options)
    try:
        yield publisher
    finally:
        await publisher.close()


@pytest.fixture
def behind(proxied_kafka: Kafka, kafka_proxy: Proxy) -> Any:
    """Settings of a system whose clients reach the broker through the proxy only."""
    direct = some_settings(proxied_kafka.bootstrap)
    with topics_of(direct):
        yield direct.model_copy(update={"kafka_bootstrap": f"127.0.0.1:{kafka_proxy.port}"})


def name_in(settings: Settings) -> str:
    return Naming(settings.topic_prefix).of(TOPIC)


def values_in(settings: Settings) -> list[bytes | None]:
    return [message.value() for message in records_in(settings, name_in(settings))]


async def test_an_awaited_record_is_in_the_log_at_the_place_that_was_told(settings: Settings) -> None:
    async with a_publisher(settings) as publisher:
        place = await publisher.publish(name_in(settings), b"v", key=b"k", partition=2, headers=[("h", b"1")])

    (record,) = records_in(settings, name_in(settings))
    assert (record.partition(), record.offset()) == place == Position(2, 0)
    assert (record.key(), record.value(), record.headers()) == (b"k", b"v", [("h", b"1")])


async def test_a_record_without_a_partition_goes_where_every_kafka_client_puts_its_key(settings: Settings) -> None:
    keys = [f"user{number}@example.com" for number in range(200)]
    async with a_publisher(settings) as publisher:
        places = await asyncio.gather(*(publisher.publish(name_in(settings), b"v", key=key.encode()) for key in keys))

    assert [place.partition for place in places] == [
        partition_of(recipient_hash(key), settings.partitions) for key in keys
    ]


async def test_records_of_a_partition_keep_the_order_of_their_sending(settings: Settings) -> None:
    values = [str(number).encode() for number in range(2000)]
    async with a_publisher(settings) as publisher:
        sent = [publisher.send(name_in(settings), value, key=None, partition=1) for value in values]
        places = await asyncio.gather(*sent)

    assert [place.offset for place in places] == list(range(2000))
    assert values_in(settings) == values


async def test_whoever_does_not_wait_is_told_all_the_same_with_few_records_under_way_and_with_many(
    settings: Settings,
) -> None:
    told: list[NotPublished | None] = []
    async with a_publisher(settings) as publisher:
        for count in (1, 10 * MANY, 1):
            for number in range(count):
                publisher.post(name_in(settings), b"%d" % number, told.append, key=b"k", partition=0)
            assert told == [], "nobody is told before the broker answers"
            await eventually_told(told, count)

        publisher.post(name_in(settings), b"x" * (MAX_RECORD_BYTES + 1), told.append, key=b"k", partition=0)
        await eventually_told(told, 1, is_taken=False)

    assert len(values_in(settings)) == 10 * MANY + 2


async def eventually_told(told: list[NotPublished | None], count: int, *, is_taken: bool = True) -> None:
    """Wait until that many were told the same, then forget them."""
    async with asyncio.timeout(10):
        while len(told) < count:
            await asyncio.sleep(0.001)
    assert len(told) == count
    assert all((error is None) is is_taken for error in told)
    told.clear()


class SlowThread(Publisher):
    """A publisher whose thread loses the processor just when it has a report in its hands."""

    def _on_report(self, *report: Any) -> None:
        if threading.current_thread() is not threading.main_thread():
            time.sleep(0.03)
        super()._on_report(*report)


async def test_they_are_told_in_the_order_of_the_log_when_few_become_many(settings: Settings) -> None:
    publisher, told = SlowThread(settings), []
    await publisher.publish(name_in(settings), b"v", key=b"k", partition=0)  # it is connected

    for number in range(10 * MANY):
        publisher.post(name_in(settings), b"v", partial(lambda at, _: told.append(at), number), key=b"k", partition=0)
        if number < 3 * MANY:  # acknowledged sooner than the thread hands them on
            await asyncio.sleep(0.005)
    await publisher.close()

    assert told == list(range(10 * MANY))


async def test_no_more_records_are_under_way_than_allowed(settings: Settings) -> None:
    most = 0
    async with a_publisher(settings, in_flight=50) as publisher:

        async def one() -> None:
            nonlocal most
            await publisher.room()
            sent = publisher.send(name_in(settings), b"v", key=None, partition=0)
            most = max(most, publisher.pending())
            await sent

        await asyncio.gather(*(one() for _ in range(1000)))

    assert 0 < most <= 50
    assert len(values_in(settings)) == 1000


async def test_the_largest_request_fits_and_what_is_larger_is_refused_alone(settings: Settings) -> None:
    async with a_publisher(settings) as publisher:
        await publisher.publish(name_in(settings), b"x" * MAX_REQUEST_BYTES, key=b"k", partition=0)
        with pytest.raises(NotPublished):
            await publisher.publish(name_in(settings), b"x" * (MAX_RECORD_BYTES + 1), key=b"k", partition=0)
        await publisher.publish(name_in(settings), b"after it", key=b"k", partition=0)

    assert [len(value or b"") for value in values_in(settings)] == [MAX_REQUEST_BYTES, len(b"after it")]


async def test_a_caller_that_gives_up_takes_nobody_with_it(settings: Settings) -> None:
    async with a_publisher(settings) as publisher:
        impatient = asyncio.create_task(publisher.publish(name_in(settings), b"left", key=None, partition=0))
        patient = asyncio.create_task(publisher.publish(name_in(settings), b"stayed", key=None, partition=0))
        await asyncio.sleep(0)
        impatient.cancel()
        await patient

    assert values_in(settings) == [b"left", b"stayed"]


async def test_without_the_broker_a_record_is_refused_in_time_and_later_ones_go_on(
    behind: Settings, kafka_proxy: Proxy
) -> None:
    async with a_publisher(behind, message_seconds=4) as publisher:
        await publisher.publish(name_in(behind), b"before", key=None, partition=0)
        kafka_proxy.cut()
        lost = asyncio.create_task(publisher.publish(name_in(behind), b"into the cut", key=None, partition=0))
        await eventually(lambda: publisher.oldest_seconds() > 0.5, waiting_for="a record that waits")
        with pytest.raises(NotPublished):
            await asyncio.wait_for(lost, 10)
        assert publisher.oldest_seconds() == 0

        kafka_proxy.mend()
        await publisher.publish(name_in(behind), b"after", key=None, partition=0)

    assert values_in(behind) == [b"before", b"after"]


async def test_a_record_whose_answer_was_lost_is_in_the_log_once(behind: Settings, kafka_proxy: Proxy) -> None:
    async with a_publisher(behind, **{"socket.timeout.ms": 1000, "message_seconds": 20}) as publisher:
        await publisher.publish(name_in(behind), b"before", key=None, partition=0)
        kafka_proxy.drop(Way.ANSWERS)
        unheard = asyncio.create_task(publisher.publish(name_in(behind), b"unheard", key=None, partition=0))
        await eventually(lambda: kafka_proxy.lost[Way.ANSWERS] > 0, waiting_for="an answer that is lost")
        kafka_proxy.mend()
        place = await unheard

    assert place == Position(0, 1)
    assert values_in(behind) == [b"before", b"unheard"]


async def test_closing_waits_for_what_is_under_way_and_takes_no_more(settings: Settings) -> None:
    publisher = Publisher(settings)
    under_way = [publisher.send(name_in(settings), b"v", key=None, partition=0) for _ in range(500)]

    assert await publisher.close() == 0

    assert len([await place for place in under_way]) == 500
    with pytest.raises(NotPublished):
        await publisher.publish(name_in(settings), b"late", key=None, partition=0)


async def test_closing_without_the_broker_fails_what_is_left_instead_of_waiting_for_ever(
    behind: Settings, kafka_proxy: Proxy
) -> None:
    publisher = Publisher(behind, message_seconds=60)
    await publisher.publish(name_in(behind), b"before", key=None, partition=0)
    kafka_proxy.cut()
    left = publisher.send(name_in(behind), b"left", key=None, partition=0)

    assert await publisher.close(seconds=0.5) == 1

    with pytest.raises(NotPublished):
        await left


@pytest.mark.parametrize("count", [1, 5 * MANY], ids=["reports on the thread", "reports on the loop"])
async def test_a_producer_that_takes_no_more_says_so_once_while_nothing_waits(settings: Settings, count: int) -> None:
    failures: list[Exception] = []
    as_one = {"transactional.id": settings.topic_prefix + "one"}  # the second one of a name ends the first for good
    async with a_publisher(settings, failed=failures.append, **as_one) as publisher:
        client_of_it = publisher._producer
        await asyncio.to_thread(client_of_it.init_transactions, 20)
        client_of_it.begin_transaction()
        await publisher.publish(name_in(settings), b"before", key=None, partition=0)
        other = Producer({**connection(settings), **as_one})
        await asyncio.to_thread(other.init_transactions, 20)
        refused = [publisher.send(name_in(settings), b"refused", key=None, partition=0) for _ in range(count)]

        await eventually(lambda: failures, waiting_for="a producer that says so")
        with pytest.raises(NotPublished):
            await asyncio.wait_for(publisher.publish(name_in(settings), b"later", key=None, partition=0), 10)
        await asyncio.sleep(0.5)

    (failure,) = failures
    assert isinstance(failure, NotPublished)
    assert "_FENCED" in str(failure)
    assert all(isinstance(each.exception(), NotPublished) for each in refused)


async def test_one_who_is_told_of_a_record_and_raises_ends_the_process_and_the_others_are_told(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    failures: list[Exception] = []
    told: list[NotPublished | None] = []

    def clumsy(_: NotPublished | None) -> None:
        raise KeyError("of the one who is told")

    async with a_publisher(settings, failed=failures.append) as publisher:
        publisher.post(name_in(settings), b"1", clumsy, key=None, partition=0)
        publisher.post(name_in(settings), b"2", clumsy, key=None, partition=0)
        publisher.post(name_in(settings), b"3", told.append, key=None, partition=0)
        await eventually(lambda: told, waiting_for="the last report")

    assert told == [None]
    (failure,) = failures
    assert "KeyError" in str(failure)
    assert "who sent a record failed" in caplog.text
