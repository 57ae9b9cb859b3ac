"""Scenes for the audit: read as if from Kafka, or written to a real one."""

from collections.abc import Iterator
from typing import Any, cast

from confluent_kafka import ConsumerGroupTopicPartitions, Message, Producer, TopicPartition

from mailstream.clock import moment
from mailstream.domain import codec, topics
from mailstream.domain.event import ProviderEvent
from mailstream.domain.request import Control, ControlKind
from mailstream.domain.topics import GROUP_WORKER, Naming
from mailstream.kafka.config import admin, connection
from mailstream.kafka.reader import Reader, Span
from mailstream.settings import Settings
from streams.audit.batch_promises import Promises
from streams.audit.gaps import Starts
from streams.audit.passed import Passed
from streams.audit.replay import ABOUT_EMAILS, PartitionLives, read_partition
from streams.audit.report import Report
from streams.audit.verify import judge
from tests.support.histories import GAP, PARTITIONS, START, Scene
from tests.support.history_logs import Record

#: Workers have passed all that is there.
ALL = Passed(10**6, 10**6, 10**6, 10**6)
LATER = START + 1000


class _Told:
    """A record as the client hands it over."""

    def __init__(self, record: Record) -> None:
        self._record = record

    def topic(self) -> str:
        return self._record.topic

    def partition(self) -> int:
        return self._record.partition

    def offset(self) -> int:
        return self._record.offset

    def timestamp(self) -> tuple[int, int]:
        return 2, round(self._record.at * 1000)

    def key(self) -> bytes | None:
        return _key_of(self._record)

    def value(self) -> bytes | None:
        return _bytes_of(self._record)

    def headers(self) -> list[tuple[str, bytes]]:
        return list(self._record.headers.items())


class _Scenery:
    """Reads a scene as if it stood in Kafka."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene

    def records(self, span: Span) -> Iterator[Message]:
        for record in self._scene.records:
            if (record.topic, record.partition) == (span.topic, span.partition):
                yield cast("Message", _Told(record))


def lives_of(scene: Scene, passed: Passed | None = None) -> list[PartitionLives]:
    """What the audit reads of the scene, partition by partition. ``passed``: how far the workers have come in each."""
    settings, reader = Settings(partitions=PARTITIONS, topic_prefix=""), cast("Reader", _Scenery(scene))
    found = []
    for partition in range(PARTITIONS):
        spans = {}
        for topic in ABOUT_EMAILS:
            end = scene.end_of(topic.name, partition)
            there = [r.offset for r in scene.records if (r.topic, r.partition) == (topic.name, partition)]
            spans[topic] = Span(topic.name, partition, min(there, default=end), end)
        found.append(read_partition(reader, settings, spans, partition, passed))
    return found


def verified(
    scene: Scene, *, passed: Passed | None = None, before: float = LATER, gap: float = GAP, burst: int = 1
) -> Report:
    """What the audit says of the scene; what was written since ``before`` (seconds since 1970) is not judged."""
    report, starts, promises = Report(), Starts(), Promises()
    for lives in lives_of(scene, passed):
        judge(lives, report, starts, promises, before)
    promises.judge(report)
    starts.judge(report, gap, burst)
    return report


def hear(scene: Scene, id_: str, event: str, *, at: float, **more: Any) -> ProviderEvent:
    """The provider says something about an email; no worker has taken it."""
    heard = ProviderEvent(event=event, at=moment(START + at), id=id_, dedupe=f"{event}-{at}", **more)
    scene.append(topics.EVENTS.name, scene.partition_of(id_), at, heard)
    return heard


def say(scene: Scene, id_: str, kind: ControlKind, *, at: float, **more: Any) -> Record:
    """A change of an email is asked for; no worker has taken it."""
    return scene.append(
        topics.REQUESTED.name, scene.partition_of(id_), at, Control(kind=kind, id=id_, by="ops", **more)
    )


def commit(settings: Settings, offsets: dict[tuple[topics.Topic, int], int]) -> None:
    """Say for the workers, none of which runs, how far they have come."""
    naming = Naming(settings.topic_prefix)
    places = [TopicPartition(naming.of(topic), partition, n) for (topic, partition), n in offsets.items()]
    asked = ConsumerGroupTopicPartitions(naming.of(GROUP_WORKER), places)
    for done in admin(settings).alter_consumer_group_offsets([asked]).values():
        done.result(20)


def _key_of(record: Record) -> bytes | None:
    if record.key is None and record.topic in (topics.ATTEMPTS.name, topics.STATUS.name):
        return cast("bytes", record.value.id.encode())
    return record.key


def _bytes_of(record: Record) -> bytes | None:
    return record.value if record.value is None or isinstance(record.value, bytes) else codec.encode(record.value)


def write(records: list[Record], settings: Settings) -> None:
    """Append the records to a real broker, each topic partition in its order. Offsets and times are the broker's."""
    producer = Producer({**connection(settings), "linger.ms": 5, "queue.buffering.max.messages": 1_000_000})
    for record in records:
        producer.produce(
            settings.topic_prefix + record.topic,
            _bytes_of(record),
            _key_of(record),
            record.partition,
            headers=list(record.headers.items()),
        )
    assert producer.flush(20) == 0
