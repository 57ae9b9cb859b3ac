"""Opens the clients of a ``MemoryLog``: what ``mailstream.kafka.kafka.Kafka`` is to a real one."""

from collections.abc import Callable, Iterable
from typing import Any

from mailstream.domain import topics
from mailstream.domain.errors import TopicsDiffer
from mailstream.domain.topics import DAY_MS, Naming, Topic
from mailstream.settings import Settings
from tests.support.memory_log import MemoryLog
from tests.support.memory_publisher import MemoryPublisher
from tests.support.memory_reads import Groups, MemoryEnds, MemoryOffsets, MemoryReader
from tests.support.memory_tail import MemoryTail


class MemoryKafka:
    """Several on one log are several processes."""

    def __init__(self, settings: Settings, log: MemoryLog) -> None:
        self.settings, self.log = settings, log
        self.difference: str | None = None  #: how the topics differ from what they should be
        self._naming = Naming(settings.topic_prefix)
        self._producers: list[MemoryPublisher] = []
        self._tails: list[MemoryTail] = []

    def die(self) -> None:
        """The process is gone: what it has opened reads and writes nothing any more."""
        for producer in self._producers:
            producer.die()
        for tail in self._tails:
            tail.die()

    def name_of(self, topic: Topic) -> str:
        """The full name of a topic."""
        return self._naming.of(topic)

    def producer(self, *, failed: Callable[[Exception], None], message_seconds: float, **extra: Any) -> MemoryPublisher:
        """Appends records."""
        self._producers.append(MemoryPublisher(self.log, failed=failed, message_seconds=message_seconds, **extra))
        return self._producers[-1]

    def tail(
        self, on_batch: Callable[[Any], None], *, name: str, failed: Callable[[Exception], None], **extra: Any
    ) -> MemoryTail:
        """Follows partitions."""
        self._tails.append(MemoryTail(self.log, on_batch, name=name, failed=failed, **extra))
        return self._tails[-1]

    def ends(self, *, seconds: float) -> MemoryEnds:
        """Where partitions begin and end."""
        return MemoryEnds(self.log, self.groups)

    def offsets(self, group: str) -> MemoryOffsets:
        """Offsets of a group of ours."""
        return MemoryOffsets(self.groups, self._naming.of(group))

    def reader(self, **_: Any) -> MemoryReader:
        """Reads ranges and single records."""
        return MemoryReader(self.log)

    def require_topics(self, wanted: Iterable[Topic] = topics.ALL) -> None:
        """Raise TopicsDiffer where the test says so."""
        if self.difference is not None:
            raise TopicsDiffer(self.difference)

    def retention_seconds(self, topic: Topic) -> float:
        """As our topics are made."""
        return int(dict(topic.config).get("retention.ms", 7 * DAY_MS)) / 1000

    def members(self, group: str) -> int:
        """As the test says."""
        return self.log.members

    @property
    def groups(self) -> Groups:
        """What each group has committed: the brokers keep it."""
        return self.log.groups
