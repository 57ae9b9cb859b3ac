"""One partition of all topics, read from beginning to end into the lives of its emails."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import cast

from confluent_kafka import Message
from msgspec import structs

from mailstream import topics
from mailstream.email_id import is_email_id
from mailstream.log.read import Reader, Span
from mailstream.settings import Settings
from mailstream.status import merge
from mailstream.topics import Naming, Topic
from streams.audit.life import (
    Life,
    Place,
    Role,
    decoded_attempt,
    decoded_event,
    decoded_status,
    emails_in,
)
from streams.core.intake import Received

#: What is read about an email, in the order in which a worker would be behind: what follows from a topic comes after it.
ABOUT_EMAILS = (topics.REJECTED, topics.REQUESTED, topics.ATTEMPTS, topics.EVENTS, topics.STATUS)

Progress = Callable[[int], None]


def headers_of(message: Message) -> list[tuple[str, bytes]]:
    """The headers of a record, repeated names too."""
    return cast("list[tuple[str, bytes]]", message.headers() or [])


def as_received(message: Message) -> Received:
    """A record as intake sees it."""
    return Received(
        topic=message.topic() or "",
        partition=message.partition() or 0,
        offset=message.offset() or 0,
        timestamp_ms=message.timestamp()[1],
        key=message.key(),
        value=message.value(),
        headers=dict(headers_of(message)),
    )


@dataclass
class PartitionLives:
    """Everything that one partition of each topic says."""

    partition: int
    lives: dict[str, Life] = field(default_factory=dict)
    promised: list[tuple[str, Place]] = field(
        default_factory=list
    )  #: items of batches: each must be asked for somewhere
    requests_start: int = 0  #: the first offset of ``email.requested`` that is still there
    counts: dict[str, int] = field(default_factory=dict)

    def life(self, email_id: str) -> Life:
        """The life of an email, begun when it is not known yet."""
        if (found := self.lives.get(email_id)) is None:
            found = self.lives[email_id] = Life(email_id)
        return found


def spans_of(reader: Reader, settings: Settings, partition: int) -> dict[Topic, Span]:
    """What stands in the partition now. ``email.status`` is asked last, so that it is never behind for want of reading."""
    naming = Naming(settings.topic_prefix)
    return {topic: reader.span(naming.of(topic), partition) for topic in ABOUT_EMAILS}


def read_partition(
    reader: Reader, settings: Settings, spans: dict[Topic, Span], partition: int, progress: Progress
) -> PartitionLives:
    """Read it all. Bodies are looked at and not kept."""
    found = PartitionLives(partition, requests_start=spans[topics.REQUESTED].start)
    dead = _dead_letters(_counted(reader, spans[topics.REJECTED], found, topics.REJECTED, progress), settings)
    for message in _counted(reader, spans[topics.REQUESTED], found, topics.REQUESTED, progress):
        _take_request(found, message, settings.partitions, dead)
    for message in _counted(reader, spans[topics.ATTEMPTS], found, topics.ATTEMPTS, progress):
        if (attempt := decoded_attempt(message.value())) is not None and is_email_id(attempt.id):
            life, place = found.life(attempt.id), _place(message)
            life.attempts.append((place, attempt))
            life.touch(place.at)
    for message in _counted(reader, spans[topics.EVENTS], found, topics.EVENTS, progress):
        event = decoded_event(message.value())
        if event is not None and event.id is not None and event.id in found.lives:
            life, place = found.lives[event.id], _place(message)
            life.events.append((place, event))
            life.touch(place.at)
    for message in _counted(reader, spans[topics.STATUS], found, topics.STATUS, progress):
        _take_status(found, message)
    return found


def _counted(reader: Reader, span: Span, found: PartitionLives, topic: Topic, progress: Progress) -> Iterator[Message]:
    before, count = span.start, 0
    for message in reader.records(span):
        count += 1
        yield message
        progress((message.offset() or 0) + 1 - before)
        before = (message.offset() or 0) + 1
    progress(span.end - before if span.end > before else 0)
    found.counts[topic.name] = count


def _place(message: Message) -> Place:
    return Place(message.offset() or 0, message.timestamp()[1] / 1000)


def _dead_letters(messages: Iterator[Message], settings: Settings) -> dict[int, str]:
    """Offset in ``email.requested`` of this partition → reason."""
    requested = Naming(settings.topic_prefix).of(topics.REQUESTED).encode()
    found = {}
    for message in messages:
        headers = as_received(message).headers
        if headers.get("dlt-original-topic") == requested and "dlt-original-offset" in headers:
            reason = headers.get("mailstream-reason", b"").decode("utf-8", "replace")
            found[int(headers["dlt-original-offset"])] = reason
    return found


def _take_request(found: PartitionLives, message: Message, partitions: int, dead: dict[int, str]) -> None:
    place = _place(message)
    for email_id, role in emails_in(as_received(message), partitions):
        if role is Role.ASKS:
            life = found.life(email_id)
            if not life.asked:
                life.rejected = dead.get(place.offset)
            life.asked.append(place)
            life.touch(place.at)
        elif role is Role.PROMISES:
            found.promised.append((email_id, place))
        elif email_id in found.lives:
            found.lives[email_id].touch(place.at)


def _take_status(found: PartitionLives, message: Message) -> None:
    email_id = (message.key() or b"").decode("utf-8", "replace")
    if message.value() is None:
        if email_id in found.lives:
            life = found.lives[email_id]
            life.published = life.last_published = None
            life.is_forgotten = True
        return
    if (status := decoded_status(message.value())) is None or not is_email_id(status.id):
        return
    status = structs.replace(status, timeline=())  # most of its bytes, and nothing is judged by it
    life = found.life(status.id)
    life.published, life.last_published, life.is_forgotten = merge(life.published, status), status, False
    life.touch(_place(message).at)
