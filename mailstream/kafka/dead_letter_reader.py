"""Read ``email.rejected``: records that could not be taken, with where they came from and why."""

from collections.abc import Generator
from dataclasses import dataclass
from datetime import datetime

from confluent_kafka import Message

from mailstream.clock import moment
from mailstream.domain import topics
from mailstream.domain.dead_letter import TRUNCATED, DeadLetter, Reason, dead_letter_in
from mailstream.domain.topics import Naming
from mailstream.kafka.reader import Reader, Span
from mailstream.kafka.record import record_of
from mailstream.settings import Settings


@dataclass(frozen=True, slots=True)
class Letter:
    """One dead letter and its place in ``email.rejected``."""

    partition: int
    offset: int
    at: datetime  #: when it was rejected
    dead_letter: DeadLetter
    is_cut: bool  #: a very large record, of which only the first part was kept

    @property
    def place(self) -> str:
        """Its name: partition/offset."""
        return f"{self.partition}/{self.offset}"


@dataclass(frozen=True, slots=True)
class Filter:
    """Which of them; every member that is given must fit."""

    reasons: frozenset[Reason] = frozenset()
    topics: frozenset[str] = frozenset()  #: they came from, with prefix or without
    places: frozenset[tuple[int, int]] = frozenset()  #: partition and offset
    since: datetime | None = None
    until: datetime | None = None

    def takes(self, letter: Letter, prefix: str) -> bool:
        """Whether it is one of them; the time is asked of the log."""
        origin = letter.dead_letter.record.topic
        return (
            (not self.reasons or letter.dead_letter.reason in self.reasons)
            and (not self.topics or origin in self.topics or origin.removeprefix(prefix) in self.topics)
            and (not self.places or (letter.partition, letter.offset) in self.places)
        )


def letters(reader: Reader, settings: Settings, wanted: Filter) -> Generator[Letter, None, None]:
    """The dead letters, partition by partition, in log order."""
    name = Naming(settings.topic_prefix).of(topics.REJECTED)
    if wanted.places:
        spans = [_one(reader, name, *place) for place in sorted(wanted.places) if place[0] < settings.partitions]
    else:
        spans = [
            reader.span(name, partition, since=wanted.since, until=wanted.until)
            for partition in range(settings.partitions)
        ]
    reader.plan(spans)
    for span in spans:
        for message in reader.records(span):
            letter = _read(message)
            if letter is not None and wanted.takes(letter, settings.topic_prefix):
                yield letter


def page(
    reader: Reader, settings: Settings, wanted: Filter, *, begin: tuple[int, int], limit: int, most: int
) -> tuple[list[Letter], tuple[int, int] | None]:
    """At most ``limit`` dead letters from a place on, and the place to go on from; None: there are no more.

    No more than ``most`` records are read for it: where few fit the filter a page may be short, or empty.
    """
    name = Naming(settings.topic_prefix).of(topics.REJECTED)
    found: list[Letter] = []
    read_ = 0
    for partition in range(begin[0], settings.partitions):
        span = reader.span(name, partition, since=wanted.since, until=wanted.until)
        if partition == begin[0]:
            span = Span(name, partition, max(span.start, begin[1]), span.end)
        for message in reader.records(span):
            if len(found) == limit or read_ == most:
                return found, (partition, message.offset() or 0)
            read_ += 1
            letter = _read(message)
            if letter is not None and wanted.takes(letter, settings.topic_prefix):
                found.append(letter)
    return found, None


def _one(reader: Reader, topic: str, partition: int, offset: int) -> Span:
    """The span of one record; empty when it is gone or not there yet."""
    there = reader.span(topic, partition)
    is_there = there.start <= offset < there.end
    return Span(topic, partition, offset, offset + 1 if is_there else offset)


def _read(message: Message) -> Letter | None:
    record = record_of(message)
    if (found := dead_letter_in(record)) is None:
        return None
    return Letter(
        record.partition, record.offset, moment(record.timestamp_ms / 1000), found, TRUNCATED in record.headers
    )
