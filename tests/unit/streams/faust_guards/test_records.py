"""How the agents take what Faust brings: many records of a partition at once, none of an ownership that has ended."""

import asyncio
from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import ConsumerRecord
from faust.types import TP

from mailstream.settings import Settings
from streams.faust_guards import app as guards
from streams.faust_guards.app import GuardedApp
from streams.faust_guards.batches import Batch, BatchConsumer

HERE = TP("email.requested", 3)


def a_record(offset: int) -> "ConsumerRecord[bytes, bytes]":
    return ConsumerRecord(HERE.topic, HERE.partition, offset, 1_000, 0, b"k", b"%d" % offset, None, 1, 1, ())


class Stream:
    """Faust's stream of batches."""

    def __init__(self, *batches: range) -> None:
        self._batches = batches

    def noack(self) -> "Stream":
        return self

    async def events(self) -> AsyncIterator[Any]:
        for offsets in self._batches:
            yield SimpleNamespace(message=a_batch(offsets))


def a_batch(offsets: range) -> Batch:
    consumer: Any = SimpleNamespace(app=SimpleNamespace(consumer_generation_id=1))
    return BatchConsumer._to_message(consumer, HERE, [a_record(offset) for offset in offsets])


@pytest.fixture
def app() -> GuardedApp:
    made = GuardedApp(Settings(_env_file=None), "test")
    made.is_draining = False
    assert made.acks.add(HERE, 0) is not None  # taken before: the first of all asks Kafka where it begins
    return made


def test_a_batch_counts_as_its_last_record() -> None:
    assert a_batch(range(5, 9)).offset == 8


async def test_every_record_of_every_batch_comes_once_and_in_order(app: GuardedApp) -> None:
    taken = [record.offset async for record, _ in app.records(Stream(range(1, 30), range(20, 40)))]

    assert taken == list(range(1, 40))


async def test_what_is_left_of_a_batch_after_a_drain_is_read_again_by_the_next_owner(app: GuardedApp) -> None:
    taken: list[int] = []

    async for record, _ in app.records(Stream(range(1, 9))):
        taken.append(record.offset)
        if record.offset == 4:  # the partition goes, and comes back to this very worker
            app.drains += 1
            app.acks.forget()

    assert taken == [1, 2, 3, 4]
    assert app.acks.pending() == 0


async def test_an_agent_waits_while_too_many_records_are_in_work(
    app: GuardedApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guards, "MOST_UNACKED", 10)
    unfinished: list[Callable[[], None]] = []

    async def agent() -> None:
        async for _, done in app.records(Stream(*(range(n, n + 1) for n in range(1, 30)))):
            unfinished.append(done)

    working = asyncio.create_task(agent())
    await asyncio.sleep(0.05)
    assert app.acks.pending() == 10

    app.acks.forget()  # as a drain does
    app.is_draining = True
    await asyncio.wait_for(working, 5)
    assert len(unfinished) == 9, "nothing is taken during a drain"
