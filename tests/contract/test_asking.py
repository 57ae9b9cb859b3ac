"""What those rely on who ask the brokers now and then: ends, offsets of groups, a range of records, single ones.

Each claim is asked of the clients of real brokers and of those in memory, with which unit tests are written.
"""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from confluent_kafka import TopicPartition

from mailstream.domain.errors import NoKafka
from mailstream.domain.topics import GROUP_WORKER
from mailstream.kafka.reader import Span
from tests.support.logs import Log

FIVE = [str(number).encode() for number in range(5)]


async def test_a_partition_begins_with_the_first_record_that_is_kept_and_ends_behind_the_last(log: Log) -> None:
    log.append(*FIVE, partition=1)
    log.delete(1, before=2)
    ends = log.kafka().ends(seconds=10)

    assert await ends.first(log.name, {0, 1}) == {(log.name, 0): 0, (log.name, 1): 2}
    assert await ends.last(log.name, {0, 1}) == {(log.name, 0): 0, (log.name, 1): 5}
    assert await ends.high(log.name, {1}) == {(log.name, 1): 5}
    assert set(await ends.last(log.name)) == {(log.name, partition) for partition in range(4)}


async def test_what_a_group_has_committed_is_told_and_nothing_where_it_never_did(log: Log) -> None:
    kafka = log.kafka()
    offsets = kafka.offsets(GROUP_WORKER)
    places = [TopicPartition(log.name, partition) for partition in (0, 1)]
    assert all(each.offset < 0 for each in await offsets.committed(places, seconds=20))

    await offsets.commit([TopicPartition(log.name, 1, 7, "words")], seconds=20)

    never, known = await offsets.committed(places, seconds=20)
    assert never.offset < 0
    assert (known.partition, known.offset, known.metadata) == (1, 7, "words")
    group = kafka.settings.topic_prefix + GROUP_WORKER
    assert await kafka.ends(seconds=20).committed(log.name, group) == {(log.name, 1): 7}
    await offsets.close()


async def test_a_range_is_read_from_its_start_to_its_end(log: Log) -> None:
    log.append(*FIVE)
    with log.kafka().reader() as reader:
        span = await asyncio.to_thread(reader.span, log.name, 0)
        log.append(b"afterwards")
        found = await asyncio.to_thread(lambda: list(reader.records(Span(log.name, 0, 2, span.end))))

    assert span == Span(log.name, 0, 0, 5)
    assert [(record.offset(), record.value()) for record in found] == list(enumerate(FIVE))[2:]


async def test_a_range_can_be_named_by_time(log: Log) -> None:
    log.append(*FIVE)
    await asyncio.sleep(0.05)
    between = datetime.now(UTC)
    await asyncio.sleep(0.05)
    log.append(b"afterwards")
    with log.kafka().reader() as reader:
        before = await asyncio.to_thread(lambda: reader.span(log.name, 0, until=between))
        after = await asyncio.to_thread(lambda: reader.span(log.name, 0, since=between))
        never = await asyncio.to_thread(lambda: reader.span(log.name, 0, since=between + timedelta(hours=1)))

    assert (before.start, before.end) == (0, 5)
    assert (after.start, after.end) == (5, 6)
    assert len(never) == 0


async def test_one_record_is_read_and_one_that_is_not_kept_is_none(log: Log) -> None:
    log.append(*FIVE)
    log.delete(0, before=2)
    with log.kafka().reader() as reader:
        found = await asyncio.to_thread(reader.record, log.name, 0, 3)
        assert found is not None
        assert found.value() == b"3"
        assert await asyncio.to_thread(reader.record, log.name, 0, 1) is None
        assert await asyncio.to_thread(reader.record, log.name, 0, 5) is None


async def test_records_are_fetched_at_their_offsets_in_log_order_as_far_as_they_are_kept(log: Log) -> None:
    log.append(*FIVE)
    log.delete(0, before=1)
    with log.kafka().reader() as reader:
        found = await asyncio.to_thread(lambda: list(reader.fetch(log.name, 0, [4, 0, 1, 1])))
        none = await asyncio.to_thread(lambda: list(reader.fetch(log.name, 0, [])))

    assert [(record.offset(), record.value()) for record in found] == [(1, b"1"), (4, b"4")]
    assert none == []


async def test_what_the_log_does_not_reach_yet_is_not_told_to_be_gone(log: Log) -> None:
    log.append(*FIVE)
    with log.kafka().reader() as reader, pytest.raises(NoKafka):
        await asyncio.to_thread(lambda: list(reader.fetch(log.name, 0, [4, 5])))
