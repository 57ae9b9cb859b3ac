"""What callers of the one producer rely on: a record that was awaited is in the log, once, where it belongs.

Each claim is asked of the producer on real brokers and of the one in memory, with which unit tests are written. What is
true of librdkafka alone stands in ``test_publish_librdkafka.py``.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from mailstream.domain.errors import NotPublished
from mailstream.domain.recipient import partition_of, recipient_hash
from mailstream.domain.topics import MAX_REQUEST_BYTES
from mailstream.kafka.producer import MAX_RECORD_BYTES, Position
from tests.support.eventually import eventually
from tests.support.logs import PARTITIONS, Log

#: More than go to the brokers one by one.
MANY = 160


@asynccontextmanager
async def a_publisher(log: Log, **options: Any) -> AsyncIterator[Any]:
    publisher = log.publisher(**options)
    try:
        yield publisher
    finally:
        await publisher.close()


def values_in(log: Log) -> list[bytes | None]:
    return [message.value() for message in log.records()]


async def test_an_awaited_record_is_in_the_log_at_the_place_that_was_told(log: Log) -> None:
    async with a_publisher(log) as publisher:
        place = await publisher.publish(log.name, b"v", key=b"k", partition=2, headers=[("h", b"1")])

    (record,) = log.records()
    assert (record.partition(), record.offset()) == place == Position(2, 0)
    assert (record.key(), record.value(), record.headers()) == (b"k", b"v", [("h", b"1")])


async def test_a_record_without_a_partition_goes_where_every_kafka_client_puts_its_key(log: Log) -> None:
    keys = [f"user{number}@example.com" for number in range(200)]
    async with a_publisher(log) as publisher:
        places = await asyncio.gather(*(publisher.publish(log.name, b"v", key=key.encode()) for key in keys))

    assert [place.partition for place in places] == [partition_of(recipient_hash(key), PARTITIONS) for key in keys]


async def test_records_of_a_partition_keep_the_order_of_their_sending(log: Log) -> None:
    values = [str(number).encode() for number in range(2000)]
    async with a_publisher(log) as publisher:
        sent = [publisher.send(log.name, value, key=None, partition=1) for value in values]
        places = await asyncio.gather(*sent)

    assert [place.offset for place in places] == list(range(2000))
    assert values_in(log) == values


async def test_whoever_does_not_wait_is_told_all_the_same_with_few_records_under_way_and_with_many(
    log: Log,
) -> None:
    told: list[NotPublished | None] = []
    async with a_publisher(log) as publisher:
        for count in (1, MANY, 1):
            for number in range(count):
                publisher.post(log.name, b"%d" % number, told.append, key=b"k", partition=0)
            assert told == [], "nobody is told before the broker answers"
            await eventually_told(told, count)

        publisher.post(log.name, b"x" * (MAX_RECORD_BYTES + 1), told.append, key=b"k", partition=0)
        await eventually_told(told, 1, is_taken=False)

    assert len(values_in(log)) == MANY + 2


async def eventually_told(told: list[NotPublished | None], count: int, *, is_taken: bool = True) -> None:
    """Wait until that many were told the same, then forget them."""
    async with asyncio.timeout(10):
        while len(told) < count:
            await asyncio.sleep(0.001)
    assert len(told) == count
    assert all((error is None) is is_taken for error in told)
    told.clear()


async def test_no_more_records_are_under_way_than_allowed(log: Log) -> None:
    most = 0
    async with a_publisher(log, in_flight=50) as publisher:

        async def one() -> None:
            nonlocal most
            await publisher.room()
            sent = publisher.send(log.name, b"v", key=None, partition=0)
            most = max(most, publisher.pending())
            await sent

        await asyncio.gather(*(one() for _ in range(1000)))

    assert 0 < most <= 50
    assert len(values_in(log)) == 1000


async def test_the_largest_request_fits_and_what_is_larger_is_refused_alone(log: Log) -> None:
    async with a_publisher(log) as publisher:
        await publisher.publish(log.name, b"x" * MAX_REQUEST_BYTES, key=b"k", partition=0)
        with pytest.raises(NotPublished):
            await publisher.publish(log.name, b"x" * (MAX_RECORD_BYTES + 1), key=b"k", partition=0)
        await publisher.publish(log.name, b"after it", key=b"k", partition=0)

    assert [len(value or b"") for value in values_in(log)] == [MAX_REQUEST_BYTES, len(b"after it")]


async def test_a_caller_that_gives_up_takes_nobody_with_it(log: Log) -> None:
    async with a_publisher(log) as publisher:
        impatient = asyncio.create_task(publisher.publish(log.name, b"left", key=None, partition=0))
        patient = asyncio.create_task(publisher.publish(log.name, b"stayed", key=None, partition=0))
        await asyncio.sleep(0)
        impatient.cancel()
        await patient

    assert values_in(log) == [b"left", b"stayed"]


async def test_without_the_broker_a_record_is_refused_in_time_and_later_ones_go_on(
    log_that_can_be_cut: Log,
) -> None:
    log = log_that_can_be_cut
    async with a_publisher(log, message_seconds=4) as publisher:
        await publisher.publish(log.name, b"before", key=None, partition=0)
        log.cut()
        lost = asyncio.create_task(publisher.publish(log.name, b"into the cut", key=None, partition=0))
        await eventually(lambda: publisher.oldest_seconds() > 0.5, waiting_for="a record that waits")
        with pytest.raises(NotPublished):
            await asyncio.wait_for(lost, 10)
        assert publisher.oldest_seconds() == 0

        log.mend()
        await publisher.publish(log.name, b"after", key=None, partition=0)

    assert values_in(log) == [b"before", b"after"]


async def test_a_record_whose_answer_was_lost_is_in_the_log_once(log_that_can_be_cut: Log) -> None:
    log = log_that_can_be_cut
    async with a_publisher(log, message_seconds=20) as publisher:
        await publisher.publish(log.name, b"before", key=None, partition=0)
        log.swallow_acknowledgements()
        unheard = asyncio.create_task(publisher.publish(log.name, b"unheard", key=None, partition=0))
        await eventually(log.is_unheard, waiting_for="an answer that is lost")
        log.mend()
        place = await unheard

    assert place == Position(0, 1)
    assert values_in(log) == [b"before", b"unheard"]


async def test_closing_waits_for_what_is_under_way_and_takes_no_more(log: Log) -> None:
    publisher = log.publisher()
    under_way = [publisher.send(log.name, b"v", key=None, partition=0) for _ in range(500)]

    assert await publisher.close() == 0

    assert len([await place for place in under_way]) == 500
    with pytest.raises(NotPublished):
        await publisher.publish(log.name, b"late", key=None, partition=0)


async def test_closing_without_the_broker_fails_what_is_left_instead_of_waiting_for_ever(
    log_that_can_be_cut: Log,
) -> None:
    log = log_that_can_be_cut
    publisher = log.publisher(message_seconds=60)
    await publisher.publish(log.name, b"before", key=None, partition=0)
    log.cut()
    left = publisher.send(log.name, b"left", key=None, partition=0)

    assert await publisher.close(seconds=0.5) == 1

    with pytest.raises(NotPublished):
        await left


async def test_one_who_is_told_of_a_record_and_raises_ends_the_process_and_the_others_are_told(
    log: Log, caplog: pytest.LogCaptureFixture
) -> None:
    failures: list[Exception] = []
    told: list[NotPublished | None] = []

    def clumsy(_: NotPublished | None) -> None:
        raise KeyError("of the one who is told")

    async with a_publisher(log, failed=failures.append) as publisher:
        publisher.post(log.name, b"1", clumsy, key=None, partition=0)
        publisher.post(log.name, b"2", clumsy, key=None, partition=0)
        publisher.post(log.name, b"3", told.append, key=None, partition=0)
        await eventually(lambda: told, waiting_for="the last report")

    assert told == [None]
    (failure,) = failures
    assert "KeyError" in str(failure)
    assert "who sent a record failed" in caplog.text


async def test_the_brokers_time_of_a_record_is_told_with_the_moments_around_it(log: Log) -> None:
    told: list[tuple[float, float, float]] = []
    async with a_publisher(log) as publisher:
        publisher.stamped = lambda *times: told.append(times)
        before, wall = time.monotonic(), time.time()
        await publisher.publish(log.name, b"v", key=b"k", partition=0)
        after = time.monotonic()

    ((brokers, sent, acknowledged),) = told
    assert before <= sent <= acknowledged <= after
    assert wall - 1 < brokers < wall + after - before + 1, "the broker runs on this machine"


async def test_a_record_that_was_not_acknowledged_tells_no_time(log_that_can_be_cut: Log) -> None:
    log, told = log_that_can_be_cut, list[float]()
    async with a_publisher(log, message_seconds=4) as publisher:
        await publisher.publish(log.name, b"v", key=b"k", partition=0)
        publisher.stamped = lambda brokers, *_: told.append(brokers)
        log.cut()
        with pytest.raises(NotPublished):
            await publisher.publish(log.name, b"v", key=b"k", partition=0)

    assert not told
