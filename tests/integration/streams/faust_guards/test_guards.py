"""What Faust and aiokafka do wrong is noticed or kept in bounds."""

import asyncio
import time
import uuid
from types import SimpleNamespace

import pytest
from aiokafka.client import AIOKafkaClient
from faust.types import TP

from dev.ports import free_port
from mailstream.domain import topics
from mailstream.domain.errors import OffsetGap
from mailstream.domain.topics import Naming
from mailstream.kafka.producer import Publisher
from mailstream.settings import Settings
from streams.faust_guards.app import GuardedApp
from streams.faust_guards.transport import VAIN_SECONDS, be_patient


async def an_app(settings: Settings, records: int, *, committed: int | None) -> tuple[GuardedApp, TP]:
    """A worker's app that was just assigned a partition with that many records, and what its group has committed."""
    tp = TP(Naming(settings.topic_prefix).of(topics.REQUESTED), 0)
    publisher = Publisher(settings)
    for _ in range(records):
        await publisher.publish(tp.topic, b"{}", key=uuid.uuid4().bytes, partition=0)
    await publisher.close()
    app = GuardedApp(settings, "guarded")
    app._consumer = SimpleNamespace(_committed_offset={tp: committed})
    app.is_draining = False
    return app, tp


@pytest.mark.parametrize("committed", [None, 1])
async def test_records_that_are_passed_over_before_the_first_one_end_the_worker(
    settings: Settings, committed: int | None
) -> None:
    app, tp = await an_app(settings, 3, committed=committed)

    with pytest.raises(OffsetGap):
        await app.admit(tp, 2)


@pytest.mark.parametrize(("committed", "first"), [(None, 0), (1, 1)])
async def test_the_first_record_that_was_not_settled_is_taken(
    settings: Settings, committed: int | None, first: int
) -> None:
    app, tp = await an_app(settings, 3, committed=committed)

    assert await app.admit(tp, first) is not None
    assert await app.admit(tp, first) is None  # it comes again
    assert await app.admit(tp, first + 1) is not None


async def test_a_broker_that_refuses_connections_is_not_asked_without_pause() -> None:
    client = AIOKafkaClient(bootstrap_servers=f"127.0.0.1:{free_port()}")
    be_patient(client)
    client._sync_task = asyncio.create_task(client._md_synchronizer())
    begun, questions = time.monotonic(), 3

    for _ in range(questions):
        assert not await client.force_metadata_update()

    assert time.monotonic() - begun >= questions * VAIN_SECONDS
    await client.close()
