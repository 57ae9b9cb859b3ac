"""A fetch is one event for each partition; nothing that is delivered holds up a revoke, or the partitions with room."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import ConsumerRecord
from faust.types import TP

from mailstream.settings import Settings
from streams.faust_guards.app import GuardedApp
from streams.faust_guards.batches import Batch
from streams.faust_guards.transport import Consumer
from tests.support.eventually import eventually

HERE, THERE = TP("email.requested", 3), TP("email.requested", 4)


def records(tp: TP, offsets: range) -> "list[ConsumerRecord[bytes, bytes]]":
    return [ConsumerRecord(tp.topic, tp.partition, offset, 1_000, 0, b"k", b"v", None, 1, 1, ()) for offset in offsets]


class Drain:
    """Faust's own loop, between a broker and a conductor that are the test's."""

    def __init__(self, deliver: Callable[[Batch], Awaitable[None]], *fetches: dict[TP, list[Any]]) -> None:
        self.app = GuardedApp(Settings(_env_file=None), "test")
        self.consumer: Any = Consumer(self.app.transport, deliver, _nothing, _nothing)
        self.consumer._active_partitions = {HERE, THERE}
        self.app._consumer = self.consumer
        self.own(HERE, THERE)
        self._fetches = list(fetches)
        self.consumer._thread = SimpleNamespace(getmany=self._getmany, highwater=lambda _: 0)

    def own(self, *partitions: TP) -> None:
        """The conductor knows these."""
        self.app.topics._tp_to_callback = dict.fromkeys(partitions)

    async def _getmany(self, *_: object) -> dict[TP, list[Any]]:
        await asyncio.sleep(0)
        if self._fetches:
            return self._fetches.pop(0)
        self.consumer._stopped.set()
        return {}

    async def run(self) -> None:
        """Until all was fetched."""
        fetcher = SimpleNamespace(_stopped=asyncio.Event())
        await asyncio.wait_for(self.consumer._drain_messages(fetcher), 5)


async def _nothing(*_: object) -> None:
    """A rebalance."""


async def test_all_that_a_fetch_brought_of_a_partition_is_delivered_once_in_order() -> None:
    delivered: list[tuple[TP, list[int]]] = []

    async def deliver(batch: Batch) -> None:
        delivered.append((batch.tp, [record.offset for record in batch.records]))

    await Drain(
        deliver,
        {HERE: records(HERE, range(3)), THERE: records(THERE, range(7, 8))},
        {HERE: records(HERE, range(3, 5))},
    ).run()

    assert delivered == [(HERE, [0, 1, 2]), (THERE, [7]), (HERE, [3, 4])]


async def test_records_of_a_partition_that_is_not_handed_out_yet_end_nothing() -> None:
    delivered: list[TP] = []

    async def deliver(batch: Batch) -> None:
        delivered.append(batch.tp)

    drain = Drain(deliver, {HERE: records(HERE, range(3)), THERE: records(THERE, range(3))})
    drain.own(THERE)

    await drain.run()

    assert delivered == [THERE]


async def test_a_revoke_does_not_wait_for_a_delivery() -> None:
    begun, ended = asyncio.Event(), list[str]()

    async def deliver(_: Batch) -> None:
        begun.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    drain = Drain(deliver, {HERE: records(HERE, range(3))})
    running = asyncio.create_task(drain.run())
    await begun.wait()

    drain.consumer.stop_flow()  # what Faust does at a revoke
    await eventually(lambda: ended, within_seconds=1, waiting_for="the end of the delivery")

    drain.consumer.resume_flow()
    await running


async def test_an_error_in_a_delivery_ends_the_loop() -> None:
    async def deliver(_: Batch) -> None:
        raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        await Drain(deliver, {HERE: records(HERE, range(3))}).run()


async def test_with_every_buffer_full_the_loop_goes_on_as_soon_as_one_has_room() -> None:
    drain = Drain(_nothing)
    for partition in (HERE, THERE):
        drain.consumer.on_buffer_full(partition)
    waiting = asyncio.create_task(drain.consumer._wait_next_records(1.0))
    await asyncio.sleep(0.05)
    assert not waiting.done()
    begun = time.monotonic()

    drain.consumer.on_buffer_drop(HERE)
    await waiting

    assert time.monotonic() - begun < 0.5
    assert drain.consumer._get_active_partitions() == {HERE}
