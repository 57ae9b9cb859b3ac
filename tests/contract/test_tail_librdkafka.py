"""What is true of the real tail alone: a client that cannot be made, and transactions."""

import asyncio

import pytest
from confluent_kafka import Producer

from mailstream.domain.errors import NotCaughtUp
from mailstream.kafka import config
from mailstream.settings import Settings
from tests.contract.test_tail import a_follower
from tests.support.eventually import eventually
from tests.support.logs import KafkaLog


async def test_a_tail_that_cannot_even_begin_says_so_and_leaves_no_caller_waiting(settings: Settings) -> None:
    log = KafkaLog(settings)
    async with a_follower(log, **{"isolation.level": "no such level"}) as follower:
        with pytest.raises(NotCaughtUp):
            await asyncio.wait_for(follower.follow(0), 5)

    assert len(follower.failures) == 1


async def test_what_a_producer_rolled_back_is_never_delivered(settings: Settings) -> None:
    log = KafkaLog(settings)
    producer = Producer({**config.connection(settings), "transactional.id": settings.topic_prefix + "outbox"})
    producer.init_transactions(20)
    producer.begin_transaction()
    producer.produce(log.name, b"rolled back", partition=0)
    producer.flush(10)
    producer.abort_transaction(10)
    log.append(b"kept")

    async with a_follower(log) as follower:
        await follower.follow(0)
        await follower.has(1)
        await eventually(lambda: follower.ends.get(0, 0) >= 3, waiting_for="an end behind the marker")

    assert follower.values() == [b"kept"]
