"""Bodies that are not in memory are read from the log, together with others that will be asked for."""

import asyncio

import pytest
from confluent_kafka.admin import NewPartitions

from mailstream.domain import topics
from mailstream.domain.errors import NotCaughtUp
from mailstream.domain.status import Coordinates
from mailstream.domain.topics import Naming
from mailstream.kafka import config
from mailstream.kafka.bodies import Bodies
from mailstream.kafka.kafka import Kafka
from mailstream.kafka.producer import Publisher
from mailstream.settings import Settings
from tests.support.eventually import eventually

EMAILS = 60


async def test_all_who_wait_for_a_body_are_served_by_two_reads(settings: Settings) -> None:
    topic, publisher = Naming(settings.topic_prefix).of(topics.REQUESTED), Publisher(settings)
    values = [b"body %d" % n for n in range(EMAILS)]
    positions = await asyncio.gather(
        *(publisher.publish(topic, v, key=b"key", partition=n % settings.partitions) for n, v in enumerate(values))
    )
    places = [Coordinates(position.partition, position.offset) for position in positions]
    reads = 0

    def due_next() -> tuple[Coordinates, ...]:
        nonlocal reads
        reads += 1
        return ()

    bodies = Bodies(Kafka(settings), due_next)
    found = await asyncio.gather(*(bodies.get(place) for place in places))

    assert found == values
    assert reads <= 2, "one for the first who came, one for all who came meanwhile"
    await publisher.close()


async def test_a_partition_that_cannot_be_read_holds_up_its_own_emails_only(settings: Settings) -> None:
    topic, publisher = Naming(settings.topic_prefix).of(topics.REQUESTED), Publisher(settings)
    positions = [await publisher.publish(topic, b"body", key=b"key", partition=p) for p in range(settings.partitions)]
    good = [Coordinates(position.partition, position.offset) for position in positions]
    silent = Coordinates(settings.partitions, 0)  # it comes later
    bodies = Bodies(Kafka(settings), lambda: [silent])  # it is read along with the others

    wanted = [good[0], silent, silent, *good[1:]]
    found = await asyncio.gather(*(bodies.get(place) for place in wanted), return_exceptions=True)

    assert [found[0], *found[3:]] == [b"body"] * len(good)
    assert all(isinstance(error, NotCaughtUp) for error in found[1:3])
    with pytest.raises(NotCaughtUp, match=f"email.requested/{silent.partition}"):
        await bodies.get(silent)

    more = config.admin(settings).create_partitions([NewPartitions(topic, settings.partitions + 1)])
    more[topic].result(10)
    await publisher.close()  # it does not know of the partition
    publisher = Publisher(settings)
    await publisher.publish(topic, b"late", key=b"key", partition=silent.partition)

    async def body() -> bytes | None:
        try:
            return await bodies.get(silent)
        except NotCaughtUp:
            return None

    assert await eventually(body, within_seconds=20, waiting_for="its body") == b"late"
    assert await bodies.get(silent) == b"late"
    await publisher.close()
