"""What followers of the log rely on: every record, in order, once; a hole is never passed over in silence.

Each claim is asked of the tail on real brokers and of the one in memory, with which unit tests are written. What is true
of librdkafka alone stands in ``test_tail_librdkafka.py``.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from confluent_kafka import Message

from mailstream.domain.errors import NotCaughtUp
from mailstream.kafka.tail import End
from tests.support.eventually import eventually
from tests.support.logs import Log

BEGINNING = -2


class Follower:
    """A tail, and what it has delivered."""

    def __init__(self, log: Log, **options: Any) -> None:
        self.name = log.name
        self.records: list[Message] = []
        self.ends: dict[int, int] = {}
        self.failures: list[Exception] = []
        self.tail = log.tail(self._on_batch, failed=self.failures.append, **options)

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
async def a_follower(log: Log, **options: Any) -> AsyncIterator[Follower]:
    follower = Follower(log, **options)
    try:
        yield follower
    finally:
        await follower.tail.close()


def numbered(count: int, start: int = 0) -> list[bytes]:
    return [str(number).encode() for number in range(start, start + count)]


async def test_everything_from_the_beginning_comes_in_order_then_the_end_then_what_is_new(log: Log) -> None:
    log.append(*numbered(2500))
    async with a_follower(log) as follower:
        await follower.follow(0)
        await eventually(lambda: follower.ends.get(0) == 2500, waiting_for="the end of the partition")
        assert follower.values() == numbered(2500)

        log.append(*numbered(10, start=2500))
        await follower.has(2510)

    assert follower.values() == numbered(2510)


async def test_an_empty_partition_has_an_end_too(log: Log) -> None:
    async with a_follower(log) as follower:
        await follower.follow(0, 1, 2, 3)
        await eventually(lambda: follower.ends == dict.fromkeys(range(4), 0), waiting_for="four ends")

    assert not follower.records


async def test_reading_begins_at_the_offset_that_was_asked_for(log: Log) -> None:
    log.append(*numbered(100))
    async with a_follower(log) as follower:
        await follower.follow(0, start=90)
        await follower.has(10)

    assert follower.values() == numbered(10, start=90)


async def test_partitions_can_be_taken_and_left_without_disturbing_the_others(log: Log) -> None:
    log.append(b"a", partition=0)
    log.append(b"b", partition=1)
    async with a_follower(log) as follower:
        await follower.follow(0)
        await follower.has(1)
        await follower.follow(1)
        await follower.has(2)
        await follower.tail.leave([(follower.name, 0)])

        log.append(b"unheard", partition=0)
        log.append(b"heard", partition=1)
        await follower.has(3)

    assert follower.values(0) == [b"a"]
    assert follower.values(1) == [b"b", b"heard"]


async def test_a_slow_loop_gets_every_record_once(log: Log) -> None:
    log.append(*numbered(3000))
    batches = 0

    class Slow(Follower):
        def _on_batch(self, batch: Sequence[Message | End]) -> None:
            nonlocal batches
            batches += 1
            time.sleep(0.02)  # the loop is busy: the thread has to wait, and to lose nothing
            super()._on_batch(batch)

    follower = Slow(log, batch=100)
    await follower.follow(0)
    await follower.has(3000, within_seconds=20)
    await follower.tail.close()

    assert follower.values() == numbered(3000)
    assert batches >= 30


async def test_a_hole_ends_the_tail_instead_of_being_passed_over(log: Log) -> None:
    log.append(*numbered(10))
    log.delete(0, before=5)
    async with a_follower(log) as follower:
        await follower.follow(0, start=0)

        await eventually(lambda: follower.failures, waiting_for="a tail that says that it has ended")
        await asyncio.sleep(0.5)

    (failure,) = follower.failures
    assert isinstance(failure, NotCaughtUp)
    assert f"{follower.name}/0 can be followed no more (_AUTO_OFFSET_RESET)" in str(failure)
    assert not follower.records


async def test_a_tail_whose_records_cannot_be_taken_says_so_once_and_delivers_no_more(log: Log) -> None:
    taken: list[bytes | None] = []

    class Clumsy(Follower):
        def _on_batch(self, batch: Sequence[Message | End]) -> None:
            taken.extend(entry.value() for entry in batch if isinstance(entry, Message))
            if taken:
                raise KeyError("of the one who follows")

    log.append(*numbered(30))
    follower = Clumsy(log, batch=9)
    await follower.follow(0)
    await eventually(lambda: follower.failures, waiting_for="the failure")
    await asyncio.sleep(0.5)

    (failure,) = follower.failures
    assert follower.name in str(failure)
    assert "KeyError" in str(failure)
    assert 0 < len(taken) <= 10
    assert taken == numbered(len(taken)), "the first batch only"
    with pytest.raises(NotCaughtUp):
        await asyncio.wait_for(follower.follow(1), 5)
    with pytest.raises(NotCaughtUp):
        await asyncio.wait_for(follower.tail.leave([(follower.name, 0)]), 5)
    await follower.tail.close()


async def test_a_tail_whose_thread_ends_says_so_once_and_leaves_no_caller_waiting(log: Log) -> None:
    def unprepared(_: Sequence[Message | End]) -> None:
        raise RuntimeError("of the one who prepares")

    log.append(*numbered(1))
    async with a_follower(log, prepare=unprepared) as follower:
        await follower.follow(0)
        await eventually(lambda: follower.failures, waiting_for="the failure")
        with pytest.raises(NotCaughtUp):
            await asyncio.wait_for(follower.follow(1), 5)

    (failure,) = follower.failures
    assert "RuntimeError" in str(failure)


async def test_a_tail_that_is_closed_has_not_failed(log: Log) -> None:
    log.append(*numbered(10))
    follower = Follower(log)
    await follower.follow(0)
    await follower.has(10)

    await follower.tail.close()

    with pytest.raises(NotCaughtUp):
        await asyncio.wait_for(follower.follow(1), 5)
    assert not follower.failures


async def test_after_a_cut_connection_it_goes_on_where_it_was(log_that_can_be_cut: Log) -> None:
    log = log_that_can_be_cut
    async with a_follower(log) as follower:
        log.append(*numbered(100))
        await follower.follow(0)
        await follower.has(100)

        log.cut()
        log.append(*numbered(100, start=100))
        await asyncio.sleep(0.5)
        assert len(follower.records) == 100
        log.mend()
        await follower.has(200)

    assert follower.values() == numbered(200)
    assert not follower.failures
