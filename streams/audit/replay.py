"""One partition of all topics, read from beginning to end into the lives of its emails."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from confluent_kafka import Message
from msgspec import structs

from mailstream.domain import topics
from mailstream.domain.codec import decode_attempt, decode_event, decode_status, decoded
from mailstream.domain.dead_letter import dead_letter_in
from mailstream.domain.email_id import is_email_id
from mailstream.domain.status import merge
from mailstream.domain.topics import GROUP_CHECKPOINTS, GROUP_WORKER, Naming, Topic
from mailstream.kafka.checkpoints import Checkpoint, checkpoint_of
from mailstream.kafka.reader import Reader, Span
from mailstream.kafka.record import record_of
from mailstream.settings import Settings
from streams.audit.email_history import EmailHistory, Place, Role, emails_in
from streams.audit.passed import Passed

#: What is read about an email, in the order in which a worker would be behind: what follows from a topic comes after it.
ABOUT_EMAILS = (topics.REJECTED, topics.REQUESTED, topics.ATTEMPTS, topics.EVENTS, topics.STATUS)


class Promise(NamedTuple):
    """An item of a batch: it must get a status, in the partition of its recipient."""

    id: str
    place: Place  #: of the batch
    partition: int  #: of the batch
    rejected: str | None  #: the reason when the batch became a dead letter


@dataclass
class PartitionLives:
    """Everything that one partition of each topic says."""

    partition: int
    passed: Passed | None = None  #: how far the workers had come before this was read; None: not known
    lives: dict[str, EmailHistory] = field(default_factory=dict)
    promised: list[Promise] = field(default_factory=list)
    controls: list[tuple[str, Place]] = field(default_factory=list)  #: those that became no dead letter
    waiting: Counter[str] = field(default_factory=Counter)  #: records that no worker has passed, by what they are
    requests_start: int = 0  #: the first offset of ``email.requested`` that is still there
    counts: dict[str, int] = field(default_factory=dict)

    def life(self, email_id: str) -> EmailHistory:
        """The life of an email, begun when it is not known yet."""
        if (found := self.lives.get(email_id)) is None:
            found = self.lives[email_id] = EmailHistory(email_id)
        return found


def spans_of(reader: Reader, settings: Settings, partition: int) -> dict[Topic, Span]:
    """What stands in the partition now. ``email.status`` is asked last, so that it is never behind for want of reading."""
    naming = Naming(settings.topic_prefix)
    return {topic: reader.span(naming.of(topic), partition) for topic in ABOUT_EMAILS}


def checkpoints_in(reader: Reader, settings: Settings) -> dict[int, Checkpoint]:
    """The checkpoint of each partition that has one. Raises NoKafka as ``passed_by_workers`` does."""
    naming, every = Naming(settings.topic_prefix), range(settings.partitions)
    attempts = naming.of(topics.ATTEMPTS)
    places = reader.committed(naming.of(GROUP_CHECKPOINTS), [(attempts, partition) for partition in every])
    return {place.partition: mark for place in places.values() if (mark := checkpoint_of(place)) is not None}


def passed_by_workers(reader: Reader, settings: Settings) -> list[Passed] | None:
    """One for each partition; None when no worker has committed anything, or the brokers have forgotten it.

    Ask before the topics are read: a worker commits an offset when its consequence is in the log, not before.
    Raises NoKafka when the brokers do not answer, or this user may not ask for the group.
    """
    naming = Naming(settings.topic_prefix)
    requested, events = naming.of(topics.REQUESTED), naming.of(topics.EVENTS)
    every, marks = range(settings.partitions), checkpoints_in(reader, settings)
    taken = reader.committed(
        naming.of(GROUP_WORKER), [(topic, partition) for topic in (requested, events) for partition in every]
    )
    if not taken:
        return None
    found = []
    for partition in every:
        # a group that has committed elsewhere, and not here, begins here with the first record
        of_requests, of_events = taken.get((requested, partition)), taken.get((events, partition))
        mark = marks.get(partition)
        found.append(
            Passed(
                of_requests.offset if of_requests else 0,
                of_events.offset if of_events else 0,
                mark.offset if mark else 0,
                mark.status_end if mark else 0,
            )
        )
    return found


def read_partition(
    reader: Reader,
    settings: Settings,
    spans: dict[Topic, Span],
    partition: int,
    passed: Passed | None,
) -> PartitionLives:
    """Read it all. Bodies are looked at and not kept."""
    found = PartitionLives(partition, passed, requests_start=spans[topics.REQUESTED].start)
    dead = _dead_letters(_counted(reader, spans[topics.REJECTED], found, topics.REJECTED), settings)
    for message in _counted(reader, spans[topics.REQUESTED], found, topics.REQUESTED):
        _take_request(found, message, settings.partitions, dead)
    _take_controls(found)
    for message in _counted(reader, spans[topics.ATTEMPTS], found, topics.ATTEMPTS):
        if (attempt := decoded(decode_attempt, message.value())) is not None and is_email_id(attempt.id):
            life, place = found.life(attempt.id), _place(message)
            life.attempts.append((place, attempt))
            life.touch(place.at)
    for message in _counted(reader, spans[topics.EVENTS], found, topics.EVENTS):
        event, place = decoded(decode_event, message.value()), _place(message)
        if passed is not None and place.offset >= passed.events:
            found.waiting["events"] += 1
        if event is not None and event.id is not None and event.id in found.lives:
            life = found.lives[event.id]
            life.events.append((place, event))
            life.touch(place.at)
    for message in _counted(reader, spans[topics.STATUS], found, topics.STATUS):
        _take_status(found, message)
    return found


def _counted(reader: Reader, span: Span, found: PartitionLives, topic: Topic) -> Iterator[Message]:
    count = 0
    for message in reader.records(span):
        count += 1
        yield message
    found.counts[topic.name] = count


def _place(message: Message) -> Place:
    return Place(message.offset() or 0, message.timestamp()[1] / 1000)


def _dead_letters(messages: Iterator[Message], settings: Settings) -> dict[int, str]:
    """Offset in ``email.requested`` of this partition → reason."""
    requested = Naming(settings.topic_prefix).of(topics.REQUESTED)
    letters = (dead_letter_in(record_of(message)) for message in messages)
    return {each.record.offset: each.reason.value for each in letters if each and each.record.topic == requested}


def _take_request(found: PartitionLives, message: Message, partitions: int, dead: dict[int, str]) -> None:
    place = _place(message)
    role = Role.ASKS  # what names no email is asked for all the same: its worker says what it is
    reason = dead.get(place.offset)
    is_passed = found.passed is None or place.offset < found.passed.requests
    for email_id, role in emails_in(record_of(message), partitions):
        if role is Role.ASKS:
            life = found.life(email_id)
            if not life.asked:
                life.rejected = reason
            elif reason is None and is_passed:
                life.rejected = None
            life.asked.append(place)
            life.touch(place.at)
        elif role is Role.PROMISES:
            found.promised.append(Promise(email_id, place, found.partition, reason))
        elif reason is None:
            found.controls.append((email_id, place))
    if not is_passed and message.value() is not None:
        found.waiting[role.value] += 1


def _take_controls(found: PartitionLives) -> None:
    """Give the controls to their emails, of which some stand behind them."""
    for email_id, place in found.controls:
        if (life := found.lives.get(email_id)) is not None:
            life.touch(place.at)
            if found.passed is not None and place.offset < found.passed.requests:
                life.controls.append(place)


def _take_status(found: PartitionLives, message: Message) -> None:
    email_id = (message.key() or b"").decode("utf-8", "replace")
    if message.value() is None:
        if email_id in found.lives:
            life = found.lives[email_id]
            life.published = life.last_published = None
            life.is_forgotten = True
        return
    if (status := decoded(decode_status, message.value())) is None or not is_email_id(status.id):
        return
    status = structs.replace(status, timeline=())  # most of its bytes, and nothing is judged by it
    life = found.life(status.id)
    place = _place(message)
    life.published, life.last_published, life.is_forgotten = merge(life.published, status), status, False
    life.last_offset = place.offset
    life.touch(place.at)
