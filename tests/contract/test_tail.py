"""What followers of the log rely on: every record, in order, once; a hole is never passed over in silence."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from confluent_kafka import Message, Producer, TopicPartition

from mailstream import topics
from mailstream.errors import NotCaughtUp
from mailstream.log import client
from mailstream.log.tail import End, Tail
from mailstream.settings import Settings
from mailstream.topics import Naming
from tests.support.broker import Kafka
from tests.support.eventually import eventually
from tests.support.proxy import Proxy
from tests.support.system import some_settings, topics_of

BEGINNING = -2


class Follower:
    """A tail, and what it has delivered."""

    def __init__(self, settings: Settings, **options: Any) -> None:
        self.name = name_in(settings)
        self.records: list[Message] = []
        self.ends: dict[int, int] = {}
        self.failures: list[Exception] = []
        self.tail = Tail(settings, self._on_batch, name="follower", failed=self.failures.append, **options)

    def _on_batch(self, batch: Sequence[Message | End]) -> None:
        for entry in batch:
            if isinstance(entry, End):
                self.ends[entry.partition] = entry.offset
            else:
                self.records.append(entry)

    async def follow(self, *partitions: int, start: int = BEGINNING) -> None:
        await self.tail.follow([(self.name, partition, start) for partition in partitions])

    def values(self, partition: int = 0) -> list[bytes | None]:
        return [record.value() for record in self.records if record.partition() == partition]

    async def has(self, count: int, *, within_seconds: float = 10) -> None:
        await eventually(
            lambda: len(self.records) >= count, within_seconds=within_seconds, waiting_for=f"{count} records"
        )


@asynccontextmanager
async def a_follower(settings: Settings, **options: Any) -> AsyncIterator[Follower]:
    follower = Follower(settings, **options)
    try:
        yield follower
    finally:
        await follower.tail.close()


def name_in(settings: Settings) -> str:
    return Naming(settings.topic_prefix).of(topics.ATTEMPTS)


def append(settings: Settings, *values: bytes, partition: int = 0, **config: Any) -> Producer:
    """Put values into the log and wait for them; returns the producer, for what is to follow."""
    in_order = {"enable.idempotence": True}  # else a first try at a leader that is just made is overtaken by the second
    producer = Producer({**client.connection(settings), "linger.ms": 0, **in_order, **config})
    for value in values:
        producer.produce(name_in(settings), value, partition=partition)
    assert producer.flush(10) == 0
    return producer


def numbered(count: int, start: int = 0) -> list[bytes]:
    return [str(number).encode() for number in range(start, start + count)]


async def test_everything_from_the_beginning_comes_in_order_then_the_end_then_what_is_new(settings: Settings) -> None:
    append(settings, *numbered(2500))
    async with a_follower(settings) as follower:
        await follower.follow(0)
        await eventually(lambda: follower.ends.get(0) == 2500, waiting_for="the end of the partition")
        assert follower.values() == numbered(2500)

        append(settings, *numbered(10, start=2500))
        await follower.has(2510)

    assert follower.values() == numbered(2510)


async def test_an_empty_partition_has_an_end_too(settings: Settings) -> None:
    async with a_follower(settings) as follower:
        await follower.follow(0, 1, 2, 3)
        await eventually(lambda: follower.ends == dict.fromkeys(range(4), 0), waiting_for="four ends")

    assert not follower.records


async def test_reading_begins_at_the_offset_that_was_asked_for(settings: Settings) -> None:
    append(settings, *numbered(100))
    async with a_follower(settings) as follower:
        await follower.follow(0, start=90)
        await follower.has(10)

    assert follower.values() == numbered(10, start=90)


async def test_partitions_can_be_taken_and_left_without_disturbing_the_others(settings: Settings) -> None:
    append(settings, b"a", partition=0)
    append(settings, b"b", partition=1)
    async with a_follower(settings) as follower:
        await follower.follow(0)
        await follower.has(1)
        await follower.follow(1)
        await follower.has(2)
        await follower.tail.leave([(follower.name, 0)])

        append(settings, b"unheard", partition=0)
        append(settings, b"heard", partition=1)
        await follower.has(3)

    assert follower.values(0) == [b"a"]
    assert follower.values(1) == [b"b", b"heard"]


async def test_a_slow_loop_gets_every_record_once(settings: Settings) -> None:
    append(settings, *numbered(3000))
    batches = 0

    class Slow(Follower):
        def _on_batch(self, batch: Sequence[Message | End]) -> None:
            nonlocal batches
            batches += 1
            time.sleep(0.02)  # the loop is busy: the thread has to wait, and to lose nothing
            super()._on_batch(batch)

    follower = Slow(settings, batch=100)
    await follower.follow(0)
    await follower.has(3000, within_seconds=20)
    await follower.tail.close()

    assert follower.values() == numbered(3000)
    assert batches >= 30


async def test_a_hole_ends_the_tail_instead_of_being_passed_over(settings: Settings) -> None:
    append(settings, *numbered(10))
    admin = client.admin(settings)
    for deleted in admin.delete_records([TopicPartition(name_in(settings), 0, 5)]).values():
        deleted.result(10)
    async with a_follower(settings) as follower:
        await follower.follow(0, start=0)

        await eventually(lambda: follower.failures, waiting_for="a tail that says that it has ended")
        await asyncio.sleep(0.5)

    (failure,) = follower.failures
    assert isinstance(failure, NotCaughtUp)
    assert f"{follower.name}/0 can be followed no more (_AUTO_OFFSET_RESET)" in str(failure)
    assert not follower.records


async def test_a_tail_whose_records_cannot_be_taken_says_so_once_and_delivers_no_more(settings: Settings) -> None:
    taken: list[bytes | None] = []

    class Clumsy(Follower):
        def _on_batch(self, batch: Sequence[Message | End]) -> None:
            taken.extend(entry.value() for entry in batch if isinstance(entry, Message))
            if taken:
                raise KeyError("of the one who follows")

    append(settings, *numbered(30))
    follower = Clumsy(settings, batch=9)
    await follower.follow(0)
    await eventually(lambda: follower.failures, waiting_for="the failure")
    await asyncio.sleep(0.5)

    (failure,) = follower.failures
    assert follower.name in str(failure)
    assert "KeyError" in str(failure)
    assert taken == numbered(10), "the first batch only: the one polled, and nine"
    with pytest.raises(NotCaughtUp):
        await asyncio.wait_for(follower.follow(1), 5)
    with pytest.raises(NotCaughtUp):
        await asyncio.wait_for(follower.tail.leave([(follower.name, 0)]), 5)
    await follower.tail.close()


async def test_a_tail_whose_thread_ends_says_so_once_and_leaves_no_caller_waiting(settings: Settings) -> None:
    def unprepared(_: Sequence[Message | End]) -> None:
        raise RuntimeError("of the one who prepares")

    append(settings, *numbered(1))
    async with a_follower(settings, prepare=unprepared) as follower:
        await follower.follow(0)
        await eventually(lambda: follower.failures, waiting_for="the failure")
        with pytest.raises(NotCaughtUp):
            await asyncio.wait_for(follower.follow(1), 5)

    (failure,) = follower.failures
    assert "RuntimeError" in str(failure)


async def test_a_tail_that_cannot_even_begin_says_so_and_leaves_no_caller_waiting(settings: Settings) -> None:
    async with a_follower(settings, **{"isolation.level": "no such level"}) as follower:
        with pytest.raises(NotCaughtUp):
            await asyncio.wait_for(follower.follow(0), 5)

    assert len(follower.failures) == 1


async def test_a_tail_that_is_closed_has_not_failed(settings: Settings) -> None:
    append(settings, *numbered(10))
    follower = Follower(settings)
    await follower.follow(0)
    await follower.has(10)

    await follower.tail.close()

    with pytest.raises(NotCaughtUp):
        await asyncio.wait_for(follower.follow(1), 5)
    assert not follower.failures


async def test_what_a_producer_rolled_back_is_never_delivered(settings: Settings) -> None:
    producer = Producer({**client.connection(settings), "transactional.id": settings.topic_prefix + "outbox"})
    producer.init_transactions(20)
    producer.begin_transaction()
    producer.produce(name_in(settings), b"rolled back", partition=0)
    producer.flush(10)
    producer.abort_transaction(10)
    append(settings, b"kept")

    async with a_follower(settings) as follower:
        await follower.follow(0)
        await follower.has(1)
        await eventually(lambda: follower.ends.get(0, 0) >= 3, waiting_for="an end behind the marker")

    assert follower.values() == [b"kept"]


async def test_after_a_cut_connection_it_goes_on_where_it_was(proxied_kafka: Kafka, kafka_proxy: Proxy) -> None:
    direct = some_settings(proxied_kafka.bootstrap)
    behind = direct.model_copy(update={"kafka_bootstrap": f"127.0.0.1:{kafka_proxy.port}"})
    with topics_of(direct):
        async with a_follower(behind) as follower:
            append(direct, *numbered(100))
            await follower.follow(0)
            await follower.has(100)

            kafka_proxy.cut()
            append(direct, *numbered(100, start=100))
            await asyncio.sleep(0.5)
            assert len(follower.records) == 100
            kafka_proxy.mend()
            await follower.has(200)

        assert follower.values() == numbered(200)
        assert not follower.failures
