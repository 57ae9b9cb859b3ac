"""Make the statuses of partitions anew whose records of ``email.status`` are gone, from the logs that decide (K7).

First every email that ``email.requested`` still holds is born again, in memory; then the owner folds the whole of
``email.attempts``; then come the provider's events. Only when all is known is it written, so that nobody is ever shown
an email as waiting that was called long ago.
"""

import asyncio
from collections.abc import Callable, Iterable
from itertools import islice

import structlog
from confluent_kafka import Message

from mailstream import topics
from mailstream.log.publish import Publisher
from mailstream.log.read import Reader, Span
from mailstream.settings import Settings
from mailstream.topics import Naming, Topic
from streams.accept import Accept
from streams.core.intake import Received
from streams.feedback import Feedback
from streams.table import StatusTable

log = structlog.get_logger(__name__)

AT_ONCE = 500  #: records between two turns of the loop
LOOK_SECONDS = 0.05


class Rebuild:
    """One step per method, in the order in which ``ownership.py`` takes them."""

    def __init__(
        self, settings: Settings, *, table: StatusTable, accept: Accept, feedback: Feedback, publisher: Publisher
    ) -> None:
        self._settings, self._naming = settings, Naming(settings.topic_prefix)
        self._table, self._accept, self._feedback, self._publisher = table, accept, feedback, publisher

    async def requests(self, partitions: Iterable[int]) -> None:
        """Every email is born again that was asked for, whether its offset was committed or not.

        One that is older than what ``email.attempts`` keeps is left out: nobody can say what became of it.
        """
        for partition in partitions:
            begin = await self._begin_of_attempts(partition)
            born = forgotten = 0

            def bear(record: Received, begin: int = begin) -> None:
                nonlocal born, forgotten
                if record.timestamp_ms < begin:
                    forgotten += 1
                else:
                    born += self._accept.bear_again(record)

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
                self._table.rewrite(status.id, partition)
        while self._publisher.pending() or self._table.unwritten():
            await asyncio.sleep(LOOK_SECONDS)

    async def _begin_of_attempts(self, partition: int) -> int:
        """Since when ``email.attempts`` is whole, in milliseconds since 1970; 0: nothing of it was ever deleted."""

        def look(reader: Reader) -> int:
            span = reader.span(self._naming.of(topics.ATTEMPTS), partition)
            if span.start == 0:
                return 0
            return next((record.timestamp()[1] for record in reader.records(span)), 0)

        with Reader(self._settings) as reader:
            return await asyncio.to_thread(look, reader)

    async def _read(self, topic: Topic, partition: int, take: Callable[[Received], None]) -> None:
        with Reader(self._settings) as reader:
            span: Span = await asyncio.to_thread(reader.span, self._naming.of(topic), partition)
            records = reader.records(span)
            while batch := await asyncio.to_thread(lambda: list(islice(records, AT_ONCE))):
                for record in batch:
                    take(_received(record))


def _received(record: Message) -> Received:
    return Received(
        topic=record.topic() or "",
        partition=record.partition() or 0,
        offset=record.offset() or 0,
        timestamp_ms=record.timestamp()[1],
        key=record.key(),
        value=record.value(),
        headers=dict(record.headers() or ()),  # type: ignore[arg-type]
    )


def _nothing() -> None:
    """Nobody waits: the offset was committed long ago, or the record comes again."""
