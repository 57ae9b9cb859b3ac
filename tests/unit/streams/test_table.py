"""A status that the broker did not take is written again, but never over what another owner wrote meanwhile."""

import asyncio
from collections.abc import Callable
from typing import Any
from unittest.mock import Mock

import faust
import pytest

from mailstream.errors import NotPublished
from mailstream.status import Status
from streams import table
from streams.table import StatusTable
from tests.support.builders import HOME, PARTITIONS, a_status


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> "list[asyncio.Future[Any]]":
    """What the table handed to the producer; the repetition follows at once."""
    monkeypatch.setattr(table, "REPEAT_SECONDS", 0.0)
    return []


def a_table(sent: "list[asyncio.Future[Any]]") -> StatusTable:
    app = faust.App("test", autodiscover=False)
    made = StatusTable(app, name="status", key_type=bytes, value_type=bytes, partitions=PARTITIONS)

    def send(*_: Any, **__: Any) -> "asyncio.Future[Any]":
        sent.append(asyncio.get_running_loop().create_future())
        return sent[-1]

    def post(topic: str, value: bytes, then: Callable[[Any], None], **_: Any) -> None:
        send().add_done_callback(lambda done: then(done.exception()))

    made.set_up(Mock(send=send, post=post), "email.status", PARTITIONS)
    made.gain(HOME)
    return made


async def turns() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_a_status_that_was_not_taken_is_written_again(sent: "list[asyncio.Future[Any]]") -> None:
    a_table(sent).put(a_status(Status.SENT, 1), HOME)

    sent[0].set_exception(NotPublished("too late"))
    await turns()

    assert len(sent) == 2


async def test_but_not_after_the_partition_went_and_came_back(sent: "list[asyncio.Future[Any]]") -> None:
    known = a_table(sent)
    known.put(a_status(Status.QUEUED), HOME)
    known.lose([HOME])
    known.gain(HOME)
    known.remember(a_status(Status.QUEUED), b"what was read so far of a log that says SENT at its end")

    sent[0].set_exception(NotPublished("too late"))
    await turns()

    assert len(sent) == 1
    assert not known.unwritten()
