"""Whose email the unread rest of the log speaks of is left alone until that is read."""

from typing import Any
from unittest.mock import Mock

import pytest
from faust.types import TP

from mailstream.domain import codec
from mailstream.domain.request import Batch, ControlKind
from mailstream.domain.topics import EVENTS, REQUESTED
from mailstream.kafka.kafka import Kafka
from streams.partitions.barrier import Barrier
from tests.support.builders import HOME, ID, a_control, a_request, an_event
from tests.support.system import some_settings

OTHER = f"{ID}2"
COMING = f"{ID}3"  #: an item of a batch that is not unfolded yet
LIVE = {ID, OTHER}


class Log:
    """Both topics, from what is committed to their ends, and a barrier before them."""

    def __init__(self) -> None:
        self.records: dict[TP, list[Any]] = {self.tp(topic): [] for topic in (REQUESTED, EVENTS)}
        self.committed: dict[TP, int] = {}
        self.heads: dict[TP, int] = {}
        self.looked_at: list[tuple[str, int]] = []
        self.barred: list[str] = []
        settings = some_settings("nobody:1", topic_prefix="")

        async def ends_of(topic: str, which: Any) -> dict[TP, int]:
            return {tp: which(tp) for tp in self.records if tp.topic == topic}

        ends = Mock(
            committed=lambda topic, _: ends_of(topic, lambda tp: self.committed.get(tp, 0)),
            first=lambda topic, _: ends_of(topic, lambda _: 0),
            last=lambda topic, _: ends_of(topic, lambda tp: len(self.records[tp])),
        )
        reader = Mock(__enter__=Mock(return_value=Mock(records=self._read)), __exit__=Mock())
        kafka = Kafka(settings)
        kafka.reader = lambda: reader  # type: ignore[method-assign]
        self.barrier = Barrier(
            kafka,
            Mock(is_live=lambda email_id: email_id in LIVE),
            ends,
            Mock(bar=self.barred.append, unbar=self.barred.remove),
            head=self.heads.get,
        )

    @staticmethod
    def tp(topic: Any) -> TP:
        return TP(topic.name, HOME)

    def append(self, topic: Any, *values: Any) -> None:
        self.records[self.tp(topic)] += [
            each if isinstance(each, bytes | None) else codec.encode(each) for each in values
        ]

    def _read(self, *spans: Any) -> Any:
        for span in spans:
            for offset in range(span.start, span.end):
                self.looked_at.append((span.topic, offset))
                yield Mock(
                    topic=Mock(return_value=span.topic),
                    partition=Mock(return_value=span.partition),
                    offset=Mock(return_value=offset),
                    value=Mock(return_value=self.records[TP(span.topic, span.partition)][offset]),
                )

    async def settled(self, topic: Any, head: int) -> list[str]:
        """All below this offset is settled now. Returns who is barred after the next look."""
        self.heads[self.tp(topic)] = head
        await self.barrier.let_go()
        return self.barred


@pytest.fixture
def log() -> Log:
    return Log()


async def test_an_email_that_an_unread_control_names_is_barred_until_that_is_settled(log: Log) -> None:
    log.append(REQUESTED, a_request(id=ID), a_control(), a_request(), a_control(ControlKind.RESCHEDULE))

    await log.barrier.look({HOME})

    assert log.barred == [ID, ID]
    assert await log.settled(REQUESTED, 1) == [ID, ID]
    assert await log.settled(REQUESTED, 2) == [ID], "a later record names it too"
    assert await log.settled(REQUESTED, 4) == []


async def test_so_is_one_that_is_still_to_come_out_of_a_batch(log: Log) -> None:
    log.append(REQUESTED, Batch(items=(a_request(id=COMING),), id=ID), a_control(id=COMING))

    await log.barrier.look({HOME})

    assert log.barred == [COMING]


async def test_an_event_bars_an_email_about_which_something_is_to_be_decided(log: Log) -> None:
    log.append(EVENTS, an_event(id=ID), an_event(id=COMING), an_event(id=None))

    await log.barrier.look({HOME})

    assert log.barred == [ID], "the others have ended, or are not ours"
    assert await log.settled(EVENTS, 1) == []


async def test_only_what_is_not_committed_is_looked_at_and_no_record_of_it_twice(log: Log) -> None:
    log.append(REQUESTED, a_control(), a_control(id=OTHER), a_control())
    log.committed[log.tp(REQUESTED)] = 1
    await log.barrier.look({HOME})
    assert [offset for _, offset in log.looked_at] == [1, 2]

    log.append(REQUESTED, a_control(id=OTHER))
    log.committed[log.tp(REQUESTED)] = 2  # the partition stays in a rebalance
    await log.barrier.look({HOME})

    assert [offset for _, offset in log.looked_at] == [1, 2, 3]
    assert log.barred == [ID, OTHER]


async def test_a_partition_that_goes_bars_nobody_and_is_looked_at_again_when_it_comes_back(log: Log) -> None:
    log.append(REQUESTED, a_control())
    await log.barrier.look({HOME})

    log.barrier.lost({HOME})
    assert log.barred == []
    assert not log.barrier.unread()

    await log.barrier.look({HOME})
    assert log.barred == [ID]


@pytest.mark.parametrize(
    "value",
    [
        None,
        b"",
        b"{",
        b"\xff\xfe",
        b"[]",
        b"[" * 5000,
        b'{"kind":"cancel"}',
        b'{"kind":"cancel","id":7}',
        b'{"kind":"cancel","id":"no id"}',
        b'{"kind":["cancel"],"id":"x"}',
        codec.encode(a_request(text='the word "kind"')),
    ],
)
async def test_no_record_can_stop_it(log: Log, value: bytes | None) -> None:
    log.append(REQUESTED, value, a_control())
    log.append(EVENTS, value)

    await log.barrier.look({HOME})

    assert log.barred == [ID]


async def test_a_control_is_found_however_its_json_is_written(log: Log) -> None:
    log.append(REQUESTED, b'{ "id" : "%s", "\\u006bind" : "cancel" }' % ID.encode())

    await log.barrier.look({HOME})

    assert log.barred == [ID]
