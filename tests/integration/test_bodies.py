"""Bodies that are not in memory are read from the log, together with others that will be asked for."""

import asyncio

from mailstream import topics
from mailstream.log.publish import Publisher
from mailstream.settings import Settings
from mailstream.status import Coordinates
from mailstream.topics import Naming
from streams.bodies import Bodies

EMAILS = 60


async def test_all_who_wait_for_a_body_are_served_by_two_reads(settings: Settings) -> None:
    topic, publisher = Naming(settings.topic_prefix).of(topics.REQUESTED), Publisher(settings)
    values = [b"body %d" % n for n in range(EMAILS)]
    positions = await asyncio.gather(
        *(publisher.publish(topic, v, key=b"key", partition=n % settings.partitions) for n, v in enumerate(values))
    )
    places = [Coordinates(position.partition, position.offset) for position in positions]
    bodies, reads = Bodies(settings, topic), 0

    def due_next() -> tuple[Coordinates, ...]:
        nonlocal reads
        reads += 1
        return ()

    bodies.due_next = due_next
    found = await asyncio.gather(*(bodies.get(place) for place in places))

    assert found == values
    assert reads <= 2, "one for the first who came, one for all who came meanwhile"
    await bodies.close()
    await publisher.close()
