"""Make the statuses of partitions anew whose records of ``email.status`` are gone, from the logs that decide (K7).

First every email that ``email.requested`` still holds is born again, in memory; then the owner folds the whole of
``email.attempts``; then come the provider's events. Only when all is known is it written, so that nobody is ever shown
an email as waiting that was called long ago.
"""

import asyncio
import math
from collections.abc import Callable, Iterable, Mapping
from itertools import islice

import structlog
from confluent_kafka import KafkaException
from msgspec import structs

from mailstream import topics
from mailstream.clock import Clock
from mailstream.dead_letter import dead_letter_in
from mailstream.errors import NotCaughtUp
from mailstream.log.kafka import Kafka
from mailstream.log.publish import Publisher
from mailstream.log.read import Reader, Span
from mailstream.log.record import record_of
from mailstream.record import Record
from mailstream.status import EmailStatus
from mailstream.topics import Topic
from streams.accept import Accept
from streams.core.faults import Fault
from streams.feedback import Feedback
from streams.table import StatusTable

log = structlog.get_logger(__name__)

AT_ONCE = 500  #: records between two turns of the loop
LOOK_SECONDS = 0.05


class Rebuild:
    """One step per method, in the order in which ``assignment.py`` takes them."""

    def __init__(
        self,
        kafka: Kafka,
        *,
        table: StatusTable,
        accept: Accept,
        feedback: Feedback,
        publisher: Publisher,
        clock: Clock,
    ) -> None:
        self._kafka, self._clock = kafka, clock
        self._table, self._accept, self._feedback, self._publisher = table, accept, feedback, publisher
        self._begins: dict[int, float] = {}  #: by partition: since when email.attempts is whole, in seconds since 1970

    async def requests(self, partitions: Iterable[int]) -> None:
        """Every email is born again that was asked for, whether its offset was committed or not.

        What was refused then stays refused: it may have been asked for again under another id. One is left out that is older than the oldest kept record of ``email.attempts`` and than the topic's retention:
        what is known of its attempts may have been deleted. Raises NotCaughtUp.
        """
        oldest = self._clock.now() - await asyncio.to_thread(self._retention)
        for partition in partitions:
            self._begins[partition] = begin = await self._begin_of_attempts(partition)
            refused = await self._refused(partition)
            born = forgotten = 0

            def bear(record: Record, begin: float = begin, refused: Mapping[int, Fault] = refused) -> None:
                nonlocal born, forgotten
                if record.timestamp_ms / 1000 < min(begin, oldest):
                    forgotten += 1
                else:
                    born += self._accept.bear_again(record, refused.get(record.offset))

            await self._read(topics.REQUESTED, partition, bear)
            log.warning(
                "email.status had lost its records, it is made anew",
                partition=partition,
                emails=born,
                forgotten=forgotten,
            )

    async def events(self, partitions: Iterable[int]) -> None:
        """What the provider said about these emails."""
        for partition in partitions:
            await self._read(topics.EVENTS, partition, lambda record: self._feedback.settle(record, _nothing))

    async def write(self, partitions: Iterable[int]) -> None:
        """Show all of it; return when the broker has it."""
        for partition in partitions:
            self._table.loud(partition)
            for status in self._table.statuses([partition]):
                await self._publisher.room()
                if self._may_have_been_called(status, partition):
                    self._table.put(structs.replace(status, possible_duplicate=True), partition)
                else:
                    self._table.rewrite(status.id, partition)
        while self._publisher.pending() or self._table.unwritten():
            await asyncio.sleep(LOOK_SECONDS)

    def _may_have_been_called(self, status: EmailStatus, partition: int) -> bool:
        """Whether attempts of an email that waits may be gone: by its age not for retention, but by another hand."""
        asked_at = status.request_at or status.created_at
        is_untouched = not (status.final or status.attempt or status.possible_duplicate)
        return is_untouched and asked_at.timestamp() < self._begins[partition]

    async def _refused(self, partition: int) -> dict[int, Fault]:
        """Offsets of the requests that became dead letters, and why."""
        topic, found = self._kafka.name_of(topics.REQUESTED), dict[int, Fault]()

        def take(record: Record) -> None:
            letter = dead_letter_in(record)
            if letter is not None and letter.record.topic == topic:
                found[letter.record.offset] = letter.reason, letter.detail

        await self._read(topics.REJECTED, partition, take)
        return found

    def _retention(self) -> float:
        try:
            return self._kafka.retention_seconds(topics.ATTEMPTS)
        except (KafkaException, TimeoutError):
            raise NotCaughtUp("the brokers do not say how long they keep email.attempts; nothing was sent") from None

    async def _begin_of_attempts(self, partition: int) -> float:
        """The time of the oldest kept record; infinite: all were deleted; 0: none ever was."""

        def look(reader: Reader) -> float:
            span = reader.span(self._kafka.name_of(topics.ATTEMPTS), partition)
            if span.start == 0:
                return 0.0
            return next((record.timestamp()[1] / 1000 for record in reader.records(span)), math.inf)

        with self._kafka.reader() as reader:
            return await asyncio.to_thread(look, reader)

    async def _read(self, topic: Topic, partition: int, take: Callable[[Record], None]) -> None:
        with self._kafka.reader() as reader:
            span: Span = await asyncio.to_thread(reader.span, self._kafka.name_of(topic), partition)

            records = reader.records(span)
            while batch := await asyncio.to_thread(lambda: list(islice(records, AT_ONCE))):
                for record in batch:
                    take(record_of(record))


def _nothing() -> None:
    """Nobody waits: the offset was committed long ago, or the record comes again."""
