"""Offsets of a group whose member this process is not: asked for, and committed, until its coordinator answers."""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from mailstream.domain.errors import NotCaughtUp
from mailstream.kafka import tail
from mailstream.kafka.config import connection
from mailstream.settings import Settings

#: A broker that was formatted a second ago is still making the topic of the groups; after a fail-over it is being read.
COORDINATOR_MOVES = frozenset(
    {
        KafkaError.NOT_COORDINATOR,
        KafkaError.COORDINATOR_NOT_AVAILABLE,
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
        KafkaError._WAIT_COORD,
        KafkaError._WAIT_CACHE,
    }
)
PASSING = tail.PASSING | COORDINATOR_MOVES
TRY_SECONDS = 5.0  #: for one question: a stop waits for it
PAUSE_SECONDS = 0.1  #: between two questions


class GroupOffsets:
    """One client, which joins nothing, on a thread of its own: a call outlives a caller that is cancelled.

    Not the admin client: librdkafka 2.16.1 crashes (rdk:main, a null pointer) when its question to the group times out
    while the brokers are still making the topic of the coordinators.
    """

    def __init__(self, settings: Settings, group: str) -> None:
        self._group = group
        self._consumer = Consumer({**connection(settings), "group.id": group, "enable.auto.commit": False})
        self._thread = ThreadPoolExecutor(1, f"offsets of {group}")

    async def committed(self, places: Sequence[TopicPartition], *, seconds: float) -> list[TopicPartition]:
        """These with what was committed; an offset below 0 means that nothing was.

        Raises NotCaughtUp when there was no answer for so many seconds.
        """
        return await self._answer(lambda left: self._consumer.committed(list(places), left), seconds)

    async def commit(self, places: Sequence[TopicPartition], *, seconds: float) -> None:
        """Commit these; with 0 seconds, try it once. Raises NotCaughtUp when they may not be there."""
        await self._answer(lambda _: self._consumer.commit(offsets=list(places), asynchronous=False), seconds)

    async def close(self) -> None:
        """Close the client."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._consumer.close)
        self._thread.shutdown()

    async def _answer(self, question: Callable[[float], list[TopicPartition]], seconds: float) -> list[TopicPartition]:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        while True:
            try:
                left = min(max(0.1, deadline - loop.time()), TRY_SECONDS)
                places = await loop.run_in_executor(self._thread, partial(question, left))
                for place in places:
                    if place.error is not None:
                        raise KafkaException(place.error)
            except KafkaException as error:
                name, is_passing = error.args[0].name(), error.args[0].code() in PASSING
                if not is_passing or loop.time() > deadline:
                    raise NotCaughtUp(
                        f"the offsets of the group {self._group} cannot be asked for or committed ({name}"
                        f"{f', for {seconds:g} s' if is_passing else ''}). Nothing was changed. Look at the brokers"
                        f"{' and at the topic __consumer_offsets' if is_passing else ', and at what this user may do'}"
                    ) from None
            else:
                return places
            await asyncio.sleep(PAUSE_SECONDS)
