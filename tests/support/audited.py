"""Scenes for the audit: read as if from Kafka, or written to a real one."""

from confluent_kafka import Producer

from mailstream import codec, topics
from mailstream.attempt import ClaimRecord, HeldRecord, OutcomeRecord, ReleasedRecord
from mailstream.log.client import connection
from mailstream.request import EmailRequest
from mailstream.settings import Settings
from mailstream.status import EmailStatus, merge
from streams.audit.life import Place
from streams.audit.read_back import PartitionLives
from tests.support.histories import PARTITIONS, Scene
from tests.support.history_logs import Record

ATTEMPTS = ClaimRecord | OutcomeRecord | ReleasedRecord | HeldRecord


def lives_of(scene: Scene) -> list[PartitionLives]:
    """What the audit would have read of the scene, partition by partition."""
    found = [PartitionLives(partition) for partition in range(PARTITIONS)]
    for lives in found:
        kept = [r.offset for r in scene.records if (r.topic, r.partition) == (topics.REQUESTED.name, lives.partition)]
        lives.requests_start = min(kept, default=scene.end_of(topics.REQUESTED.name, lives.partition))
    for record in scene.records:
        place, value = Place(record.offset, record.at), record.value
        life = found[record.partition].life(value.id)
        life.touch(record.at)
        if isinstance(value, EmailRequest):
            life.asked.append(place)
        elif isinstance(value, ATTEMPTS):
            life.attempts.append((place, value))
        elif isinstance(value, EmailStatus):
            life.published, life.last_published = merge(life.published, value), value
    return found


def write(records: list[Record], settings: Settings) -> None:
    """Append the records to a real broker, each topic partition in its order. Offsets and times are the broker's."""
    producer = Producer({**connection(settings), "linger.ms": 5, "queue.buffering.max.messages": 1_000_000})
    for record in records:
        value = record.value if record.value is None or isinstance(record.value, bytes) else codec.encode(record.value)
        key = record.key
        if key is None and record.topic in (topics.ATTEMPTS.name, topics.STATUS.name):
            key = record.value.id.encode()
        producer.produce(
            settings.topic_prefix + record.topic, value, key, record.partition, headers=list(record.headers.items())
        )
    assert producer.flush(20) == 0
