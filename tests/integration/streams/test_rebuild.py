"""Which emails are born again when their statuses are gone, and which of them may have been called already."""

import asyncio
import time
from unittest.mock import AsyncMock, Mock

import pytest
from confluent_kafka import TopicPartition
from msgspec import structs

from mailstream import topics
from mailstream.clock import moment
from mailstream.dead_letter import DeadLetter, Reason
from mailstream.log import client
from mailstream.log.kafka import Kafka
from mailstream.log.publish import Headers, Publisher
from mailstream.record import Record
from mailstream.settings import Settings
from mailstream.status import EmailStatus
from mailstream.topics import Naming
from streams.core.faults import Fault
from streams.rebuild import Rebuild
from tests.support.builders import a_status

PARTITION = 1
DAY = 86_400.0
#: In the order of the log: asked for before and after the first attempt that is kept.
BEFORE, AFTER = b"before", b"after"


class Log:
    """The two topics of a partition."""

    def __init__(self, settings: Settings) -> None:
        self.settings, self.naming, self.publisher = settings, Naming(settings.topic_prefix), Publisher(settings)

    async def append(self, topic: topics.Topic, value: bytes, headers: Headers = ()) -> None:
        await self.publisher.publish(self.naming.of(topic), value, key=b"k", partition=PARTITION, headers=headers)
        await asyncio.sleep(0.01)  # no two of them have the same stamp

    async def delete_attempts(self, end: int) -> None:
        """As retention does, or an operator."""
        place = TopicPartition(self.naming.of(topics.ATTEMPTS), PARTITION, end)
        for answer in client.admin(self.settings).delete_records([place]).values():
            await asyncio.to_thread(answer.result, 10)


@pytest.mark.parametrize(
    ("deleted", "days_later", "born", "marked"),
    [
        pytest.param(0, 40, [BEFORE, AFTER], [], id="no attempt was ever deleted"),
        pytest.param(1, 0, [BEFORE, AFTER], [BEFORE], id="too young for retention: only another hand can have deleted"),
        pytest.param(1, 40, [AFTER], [], id="older than retention, and than the first attempt that is kept"),
        pytest.param(2, 0, [BEFORE, AFTER], [BEFORE, AFTER], id="all attempts were deleted, by another hand"),
        pytest.param(2, 40, [], [], id="all attempts were deleted by retention"),
    ],
)
async def test_who_cannot_have_lost_an_attempt_to_retention_is_born_again(
    settings: Settings, deleted: int, days_later: float, born: list[bytes], marked: list[bytes]
) -> None:
    log = Log(settings)
    await log.append(topics.ATTEMPTS, b"{}")
    await log.append(topics.REQUESTED, BEFORE)
    await log.append(topics.ATTEMPTS, b"{}")
    await log.append(topics.REQUESTED, AFTER)
    if deleted:
        await log.delete_attempts(deleted)
    statuses: dict[bytes, EmailStatus] = {}

    def bear_again(record: Record, _: Fault | None) -> bool:
        assert record.value is not None
        statuses[record.value] = a_status_of(record)
        return True

    table = Mock(statuses=lambda _: list(statuses.values()), unwritten=lambda: 0)
    rebuild = Rebuild(
        Kafka(settings),
        table=table,
        accept=Mock(bear_again=bear_again),
        feedback=Mock(),
        publisher=Mock(room=AsyncMock(), pending=lambda: 0),
        clock=Mock(now=lambda: time.time() + days_later * DAY),
    )
    await rebuild.requests([PARTITION])
    await rebuild.write([PARTITION])

    assert list(statuses) == born
    shown = {call.args[0].id for call in table.put.call_args_list if call.args[0].possible_duplicate}
    assert shown == {statuses[name].id for name in marked}
    assert table.rewrite.call_count == len(born) - len(marked), "the others are shown as they are"
    await log.publisher.close()


async def test_what_had_become_a_dead_letter_is_told_so(settings: Settings) -> None:
    log, told = Log(settings), []
    for value in (BEFORE, AFTER):
        await log.append(topics.REQUESTED, value)
    for topic, offset in ((log.naming.of(topics.REQUESTED), 1), (log.naming.of(topics.EVENTS), 0)):
        letter = DeadLetter(Reason.EVENT_TOO_OLD, "it was late", Record(topic, PARTITION, offset, 0, b"k", AFTER, {}))
        await log.append(topics.REJECTED, AFTER, letter.headers())
    accept = Mock(bear_again=lambda record, refused: told.append((record.value, refused)) or True)

    await Rebuild(
        Kafka(settings), table=Mock(), accept=accept, feedback=Mock(), publisher=Mock(), clock=Mock(now=time.time)
    ).requests([PARTITION])

    assert told == [(BEFORE, None), (AFTER, (Reason.EVENT_TOO_OLD, "it was late"))]
    await log.publisher.close()


def a_status_of(record: Record) -> EmailStatus:
    at = moment(record.timestamp_ms / 1000)
    return structs.replace(a_status(), id=f"{a_status().id}{record.offset}", created_at=at, updated_at=at)
