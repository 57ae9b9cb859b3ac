"""Strict batches as they stand in ``email.requested``, for a control that comes before its email's own record.

A request in a wrong partition is a batch of one: its own record is the copy in the right one.
"""

import asyncio

import structlog
from confluent_kafka import Message

from mailstream.clock import Clock
from mailstream.domain import codec, topics
from mailstream.domain.errors import NoKafka
from mailstream.domain.request import Coordinates
from mailstream.kafka.kafka import Kafka
from mailstream.kafka.record import record_of
from streams.core import intake
from streams.core.faults import Rules
from streams.core.intake import Misrouted
from streams.core.unfold import Item, Unfold

log = structlog.get_logger(__name__)

AGAIN_SECONDS = 1.0


class Batches:
    """Reads one record at a time, and remembers the last batch: its controls come together."""

    def __init__(self, kafka: Kafka, rules: Rules, clock: Clock) -> None:
        self._kafka, self._rules, self._clock = kafka, rules, clock
        self._topic = kafka.name_of(topics.REQUESTED)
        self._reading = asyncio.Lock()
        self._last: Unfold | None = None

    async def find(self, place: Coordinates, email_id: str) -> tuple[Unfold, Item] | None:
        """The batch there with its item of this id; None when there is no such record, or item. Waits for Kafka."""
        async with self._reading:
            if self._last is None or self._last.place != place:
                self._last = await self._unfolded(place)
        if self._last is None:
            return None
        return next(((self._last, item) for item in self._last.items if item.id == email_id), None)

    async def _unfolded(self, place: Coordinates) -> Unfold | None:
        if not 0 <= place.partition < self._kafka.settings.partitions or place.offset < 0:
            return None
        while True:
            try:
                message = await asyncio.to_thread(self._read, place)
                break
            except NoKafka as error:
                log.warning("a batch cannot be read, it is tried again", error=str(error))
                await asyncio.sleep(AGAIN_SECONDS)
        if message is None:
            return None
        match intake.read(record_of(message), self._rules, self._clock.now()):
            case Unfold() as batch:
                return batch
            case Misrouted(partition, key, value):
                return Unfold(place, (Item(codec.named_in(value)[0], partition, key, value),))
        return None

    def _read(self, place: Coordinates) -> Message | None:
        """The record, if it is there. Raises NoKafka. Runs on a thread."""
        with self._kafka.reader() as reader:
            return reader.record(self._topic, place.partition, place.offset)
