"""How the agents take what Faust brings: many records of a partition at once, none of an ownership that has ended."""

from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import ConsumerRecord
from faust.types import TP

from mailstream.record import Record
from mailstream.settings import Settings
from streams.app import MailApp
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
def app(tmp_path: Path) -> MailApp:
    made = MailApp(Settings(data_dir=str(tmp_path)), "test")
    made.is_draining = False
    assert made.acks.add(HERE, 0) is not None  # taken before: the first of all asks Kafka where it begins
    return made


def test_a_batch_counts_as_its_last_record() -> None:
    assert a_batch(range(5, 9)).offset == 8


async def test_every_record_of_every_batch_is_settled_once_and_in_order(app: MailApp) -> None:
    taken: list[int] = []

    await app.take(Stream(range(1, 30), range(20, 40)), lambda record, _: taken.append(record.offset))

    assert taken == list(range(1, 40))


async def test_what_is_left_of_a_batch_after_a_drain_is_read_again_by_the_next_owner(app: MailApp) -> None:
    taken: list[int] = []

    def settle(record: Record, _: Any) -> None:
        taken.append(record.offset)
        if record.offset == 4:  # the partition goes, and comes back to this very worker
            app.drains += 1
            app.acks.forget()

    await app.take(Stream(range(1, 9)), settle)

    assert taken == [1, 2, 3, 4]
    assert app.acks.pending() == 0
