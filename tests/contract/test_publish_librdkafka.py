"""What is true of the real producer alone: its thread, its two ways to hear of reports, and that librdkafka may give up."""

import asyncio
import threading
import time
from functools import partial
from typing import Any

import pytest
from confluent_kafka import Producer

from mailstream.domain import topics
from mailstream.domain.errors import NotPublished
from mailstream.domain.topics import Naming
from mailstream.kafka.config import connection
from mailstream.kafka.producer import MANY, Publisher
from mailstream.settings import Settings
from tests.support.eventually import eventually


def name_in(settings: Settings) -> str:
    return Naming(settings.topic_prefix).of(topics.REQUESTED)


class SlowThread(Publisher):
    """A publisher whose thread loses the processor just when it has a report in its hands."""

    def _on_report(self, *report: Any) -> None:
        if threading.current_thread() is not threading.main_thread():
            time.sleep(0.03)
        super()._on_report(*report)


async def test_they_are_told_in_the_order_of_the_log_when_few_become_many(settings: Settings) -> None:
    publisher, told = SlowThread(settings), []
    await publisher.publish(name_in(settings), b"v", key=b"k", partition=0)  # it is connected

    for number in range(10 * MANY):
        publisher.post(name_in(settings), b"v", partial(lambda at, _: told.append(at), number), key=b"k", partition=0)
        if number < 3 * MANY:  # acknowledged sooner than the thread hands them on
            await asyncio.sleep(0.005)
    await publisher.close()

    assert told == list(range(10 * MANY))


@pytest.mark.parametrize("count", [1, 5 * MANY], ids=["reports on the thread", "reports on the loop"])
async def test_a_producer_that_takes_no_more_says_so_once_while_nothing_waits(settings: Settings, count: int) -> None:
    failures: list[Exception] = []
    as_one = {"transactional.id": settings.topic_prefix + "one"}  # the second one of a name ends the first for good
    publisher = Publisher(settings, failed=failures.append, **as_one)
    try:
        client_of_it = publisher._producer
        await asyncio.to_thread(client_of_it.init_transactions, 20)
        client_of_it.begin_transaction()
        await publisher.publish(name_in(settings), b"before", key=None, partition=0)
        other = Producer({**connection(settings), **as_one})
        await asyncio.to_thread(other.init_transactions, 20)
        refused = [publisher.send(name_in(settings), b"refused", key=None, partition=0) for _ in range(count)]

        await eventually(lambda: failures, waiting_for="a producer that says so")
        with pytest.raises(NotPublished):
            await asyncio.wait_for(publisher.publish(name_in(settings), b"later", key=None, partition=0), 10)
        await asyncio.sleep(0.5)
    finally:
        await publisher.close()

    (failure,) = failures
    assert isinstance(failure, NotPublished)
    assert "_FENCED" in str(failure)
    assert all(isinstance(each.exception(), NotPublished) for each in refused)
