"""What asks a ``MemoryLog`` now and then: reader, ends, offsets of groups, bodies. Each is as the real one is."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Self

from confluent_kafka import OFFSET_INVALID, Message, TopicPartition

from mailstream.domain.errors import NoKafka, NotCaughtUp
from mailstream.kafka.reader import Span
from tests.support.memory_log import MemoryLog, Place

Groups = dict[str, dict[Place, TopicPartition]]  #: what each group has committed


class MemoryReader:
    """As ``mailstream.kafka.reader.Reader``."""

    def __init__(self, log: MemoryLog) -> None:
        self._log = log

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def span(self, topic: str, partition: int, *, since: datetime | None = None, until: datetime | None = None) -> Span:
        """What is in the partition now, or was appended in that time."""
        first, end = self._log.first(topic, partition), self._log.end(topic, partition)
        times = [message.timestamp()[1] / 1000 for message in self._log.records(topic, partition)]
        start = first if since is None else first + sum(at < since.timestamp() for at in times)
        return Span(
            topic, partition, start, end if until is None else first + sum(at < until.timestamp() for at in times)
        )

    def plan(self, spans: Iterable[Span]) -> None:
        """Nothing shows how far a read is."""

    def records(self, *spans: Span) -> Iterator[Message]:
        """Every record of the spans."""
        for span in spans:
            yield from self._log.read(span.topic, span.partition, span.start, len(span))

    def record(self, topic: str, partition: int, offset: int) -> Message | None:
        """One record, if it is kept."""
        span = self.span(topic, partition)
        return next(self.records(Span(topic, partition, offset, offset + 1)), None) if offset in _range(span) else None

    def fetch(self, topic: str, partition: int, offsets: Iterable[int]) -> Iterator[Message]:
        """The records at these offsets. A topic that is silent is so at once: a thread cannot wait for a clock of a test."""
        span, wanted = self.span(topic, partition), set(offsets)
        if not self._log.can_read(topic) or max(wanted, default=-1) >= span.end:
            raise NoKafka(f"{topic}/{partition} does not answer")
        found = (self.record(topic, partition, offset) for offset in sorted(wanted))
        return (message for message in found if message is not None)

    def committed(self, group: str, places: Iterable[Place]) -> dict[Place, TopicPartition]:
        """How far a group has read, where it ever said so."""
        said = self._log.groups.get(group, {})
        return {place: said[place] for place in places if place in said}


class MemoryEnds:
    """As ``mailstream.kafka.offsets.LogEnds``. There are no transactions, so ``last`` and ``high`` are the same."""

    def __init__(self, log: MemoryLog, groups: Groups) -> None:
        self._log, self._groups = log, groups

    async def first(self, topic: str, partitions: Iterable[int] | None = None) -> dict[Place, int]:
        """The first offset that is kept."""
        return {(topic, partition): self._log.first(topic, partition) for partition in self._of(topic, partitions)}

    async def last(self, topic: str, partitions: Iterable[int] | None = None) -> dict[Place, int]:
        """The offset behind the last record."""
        return {(topic, partition): self._log.end(topic, partition) for partition in self._of(topic, partitions)}

    high = last

    async def committed(self, topic: str, group: str) -> dict[Place, int]:
        """How far the group has read."""
        said = self._groups.get(group, {})
        return {place: part.offset for place, part in said.items() if place[0] == topic}

    def _of(self, topic: str, partitions: Iterable[int] | None) -> Iterable[int]:
        if self._log.is_silent:
            raise NotCaughtUp("the brokers do not answer in time")
        return range(self._log.partitions) if partitions is None else partitions


class MemoryOffsets:
    """As ``mailstream.kafka.group_offsets.GroupOffsets``."""

    def __init__(self, groups: Groups, group: str) -> None:
        self._said = groups.setdefault(group, {})

    async def committed(self, places: Sequence[TopicPartition], *, seconds: float) -> list[TopicPartition]:
        """These with what was committed."""
        nothing = [TopicPartition(place.topic, place.partition, OFFSET_INVALID) for place in places]
        return [self._said.get((place.topic, place.partition), place) for place in nothing]

    async def commit(self, places: Sequence[TopicPartition], *, seconds: float) -> None:
        """Commit these."""
        self._said |= {(place.topic, place.partition): place for place in places}

    async def close(self) -> None:
        """Nothing is open."""


def _range(span: Span) -> range:
    return range(span.start, span.end)
