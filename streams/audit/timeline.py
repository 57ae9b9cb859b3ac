"""One email's life: every record about it in all topics, with its place, in the order in which the broker got them."""

from dataclasses import dataclass
from datetime import datetime

from confluent_kafka import Message

from mailstream.clock import moment
from mailstream.domain import codec, topics
from mailstream.domain.attempt import AttemptRecord, ClaimRecord, HeldRecord, OutcomeRecord, ReleasedRecord
from mailstream.domain.codec import decoded
from mailstream.domain.dead_letter import dead_letter_in
from mailstream.domain.email_id import partition_in
from mailstream.domain.record import Record
from mailstream.domain.request import Batch, Control, EmailRequest
from mailstream.domain.status import masked
from mailstream.domain.topics import Topic
from mailstream.kafka.reader import Reader
from mailstream.kafka.record import record_of
from mailstream.settings import Settings
from streams.audit.email_history import emails_in
from streams.audit.replay import ABOUT_EMAILS, spans_of


@dataclass(frozen=True, slots=True)
class Entry:
    """One record, told without body or address."""

    at: datetime
    topic: str
    partition: int
    offset: int
    what: str


def timeline(reader: Reader, settings: Settings, email_id: str) -> list[Entry]:
    """Every record about an email; empty when the topics say nothing about it. Raises BadEmailId."""
    spans = spans_of(reader, settings, partition_in(email_id, settings.partitions))
    reader.plan(spans.values())
    entries = []
    rank = {topic.name: n for n, topic in enumerate(ABOUT_EMAILS)}
    asked_at: set[int] = set()
    for topic in (topics.REQUESTED, topics.REJECTED, topics.ATTEMPTS, topics.EVENTS, topics.STATUS):
        for message in reader.records(spans[topic]):
            if (what := _told(topic, message, email_id, settings.partitions, asked_at)) is not None:
                place = message.partition() or 0, message.offset() or 0
                entries.append(Entry(moment(message.timestamp()[1] / 1000), topic.name, *place, what))
    return sorted(entries, key=lambda entry: (entry.at, rank[entry.topic], entry.offset))


def _told(topic: Topic, message: Message, email_id: str, partitions: int, asked_at: set[int]) -> str | None:
    value = message.value()
    if topic is topics.REQUESTED:
        if email_id not in {found for found, _ in emails_in(record_of(message), partitions)}:
            return None
        asked_at.add(message.offset() or 0)
        return _request_told(record_of(message))
    if topic is topics.REJECTED:
        return _dead_letter_told(record_of(message), asked_at)
    if message.key() == email_id.encode() and value is None:
        return "forgotten: kept for its time, then a tombstone"
    if topic is topics.ATTEMPTS and (attempt := decoded(codec.decode_attempt, value)) and attempt.id == email_id:
        return _attempt_told(attempt)
    if topic is topics.EVENTS and (event := decoded(codec.decode_event, value)) and event.id == email_id:
        about = "" if event.is_recipient else " about a copy"
        return f"event {event.event}{about}, the provider's time {event.at:%Y-%m-%d %H:%M:%S}"
    if topic is topics.STATUS and (status := decoded(codec.decode_status, value)) and status.id == email_id:
        final = ", final" if status.final else ""
        return f"status {status.status} (attempt {status.attempt}{final}), written by {status.writer}"
    return None


def _request_told(received: Record) -> str:
    headers = received.headers
    try:
        record = codec.decode_requested(received.value or b"")
    except codec.Undecodable as error:
        return f"a record that cannot be taken: {error.reason}"
    match record:
        case Control():
            by = f" by {record.by}" if record.by else ""
            return f"{record.kind} asked for{by}{_because(record.reason)}"
        case Batch():
            return f"named in batch {record.id} of {len(record.items)}"
        case EmailRequest() if codec.CARRIED_HEADER in headers:
            return f"carried forward from {headers[codec.CARRIED_HEADER].decode('utf-8', 'replace').partition('/')[0]}"
        case EmailRequest():
            moved = headers.get(codec.REKEYED_HEADER)
            came = f", moved here from {moved.decode('utf-8', 'replace')}" if moved else ""
            source = f" by {record.source}" if record.source else ""
            return f"asked for{source} to {masked(record.to.email)}, lane {record.lane}{came}"


def _dead_letter_told(received: Record, asked_at: set[int]) -> str | None:
    letter = dead_letter_in(received)
    if (
        letter is None
        or not letter.record.topic.endswith(topics.REQUESTED.name)
        or letter.record.offset not in asked_at
    ):
        return None
    return f"dead letter {letter.reason} of offset {letter.record.offset}: {letter.detail}"


def _attempt_told(record: AttemptRecord) -> str:
    who = f"attempt {record.attempt}, nonce …{record.nonce[-8:]}, {record.worker}"
    match record:
        case ClaimRecord(instead=None):
            return f"claim{' (possible duplicate)' if record.possible_duplicate else ''}: {who}"
        case ClaimRecord():
            by = f" by {record.by}" if record.by else ""
            return f"claim to end as {record.instead}{by}: {who}{_because(record.reason)}"
        case OutcomeRecord():
            code = f" {record.code}" if record.code is not None else ""
            return f"outcome {record.result}{code}: {who}{_because(record.reason)}"
        case ReleasedRecord():
            return f"released, not called: {who}{_because(record.reason)}"
        case HeldRecord():
            return f"held, the outcome is unknown: {who}{_because(record.reason)}"


def _because(reason: str | None) -> str:
    return f" ({reason})" if reason else ""
