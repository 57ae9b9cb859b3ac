"""A log as its clients see it, on real brokers and in memory: what is claimed of one is asked of both."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from confluent_kafka import Message, Producer, TopicPartition

from mailstream.clock import SystemClock
from mailstream.domain import topics
from mailstream.domain.topics import Naming
from mailstream.kafka import config as client
from mailstream.kafka.kafka import Kafka
from mailstream.kafka.producer import Publisher
from mailstream.kafka.tail import End, Tail
from mailstream.settings import Settings
from tests.support.memory_kafka import MemoryKafka
from tests.support.memory_log import MemoryLog
from tests.support.memory_publisher import MemoryPublisher
from tests.support.memory_tail import MemoryTail
from tests.support.proxy import Proxy, Way
from tests.support.records import records_in
from tests.support.system import some_settings

PARTITIONS = 4
OnBatch = Callable[[Sequence[Message | End]], None]


class Log(Protocol):
    """One topic with four partitions, its producer and its tail."""

    name: str  #: of the topic

    def publisher(self, **options: Any) -> Publisher | MemoryPublisher:
        """A producer. Make it inside the loop."""

    def tail(self, on_batch: OnBatch, **options: Any) -> Tail | MemoryTail:
        """A tail. Make it inside the loop."""

    def kafka(self) -> Kafka | MemoryKafka:
        """What opens all other clients."""

    def append(self, *values: bytes, partition: int = 0) -> None:
        """Another process appends these."""

    def records(self) -> list[Message]:
        """All that stands in it, partition by partition."""

    def delete(self, partition: int, before: int) -> None:
        """Delete the records before an offset, as retention does."""

    def cut(self) -> None:
        """Let nobody reach the brokers."""

    def swallow_acknowledgements(self) -> None:
        """Let records in, and no answer out."""

    def is_unheard(self) -> bool:
        """Whether an answer was swallowed."""

    def mend(self) -> None:
        """Let everybody reach the brokers again."""


class KafkaLog:
    """On real brokers; with a proxy before them it can be cut."""

    def __init__(self, direct: Settings, proxy: Proxy | None = None) -> None:
        self._direct, self._proxy = direct, proxy
        self.settings = direct
        if proxy is not None:
            self.settings = direct.model_copy(update={"kafka_bootstrap": f"127.0.0.1:{proxy.port}"})
        self.name = Naming(direct.topic_prefix).of(topics.REQUESTED)

    def publisher(self, **options: Any) -> Publisher:
        """A producer; a request to a broker is given up in time for the tests."""
        return Publisher(self.settings, **{"socket.timeout.ms": 1000} | options)

    def tail(self, on_batch: OnBatch, **options: Any) -> Tail:
        """A tail."""
        return Tail(self.settings, on_batch, name="follower", **options)

    def kafka(self) -> Kafka:
        """What opens all other clients."""
        return Kafka(self.settings)

    def append(self, *values: bytes, partition: int = 0, **config: Any) -> Producer:
        """Append these and wait for them; returns the producer, for what is to follow."""
        # without it a first try at a leader that is just made is overtaken by the second
        in_order = {"enable.idempotence": True}
        producer = Producer({**client.connection(self._direct), "linger.ms": 0, **in_order, **config})
        for value in values:
            producer.produce(self.name, value, partition=partition)
        assert producer.flush(10) == 0
        return producer

    def records(self) -> list[Message]:
        """All that stands in it."""
        return records_in(self._direct, self.name)

    def delete(self, partition: int, before: int) -> None:
        """Delete the records before an offset."""
        place = TopicPartition(self.name, partition, before)
        for deleted in client.admin(self._direct).delete_records([place]).values():
            deleted.result(10)

    def cut(self) -> None:
        """Break all connections, and refuse new ones."""
        self._cable.cut()

    def swallow_acknowledgements(self) -> None:
        """Throw answers away."""
        self._cable.drop(Way.ANSWERS)

    def is_unheard(self) -> bool:
        """Whether one was thrown away."""
        return self._cable.lost[Way.ANSWERS] > 0

    def mend(self) -> None:
        """Let all through."""
        self._cable.mend()

    @property
    def _cable(self) -> Proxy:
        assert self._proxy is not None, "ask for `log_that_can_be_cut`"
        return self._proxy


class InMemory:
    """In memory."""

    name = topics.REQUESTED.name

    def __init__(self) -> None:
        self._log = MemoryLog(SystemClock(), partitions=PARTITIONS)

    def publisher(self, **options: Any) -> MemoryPublisher:
        """A producer."""
        return MemoryPublisher(self._log, **options)

    def tail(self, on_batch: OnBatch, **options: Any) -> MemoryTail:
        """A tail."""
        return MemoryTail(self._log, on_batch, name="follower", **options)

    def kafka(self) -> MemoryKafka:
        """What opens all other clients."""
        return MemoryKafka(some_settings("nobody:1", topic_prefix=""), self._log)

    def append(self, *values: bytes, partition: int = 0) -> None:
        """Append these."""
        for value in values:
            self._log.append(self.name, partition, value)

    def records(self) -> list[Message]:
        """All that stands in it."""
        return [each for partition in range(PARTITIONS) for each in self._log.records(self.name, partition)]

    def delete(self, partition: int, before: int) -> None:
        """Delete the records before an offset."""
        self._log.delete(self.name, partition, before)

    def cut(self) -> None:
        """Let nothing through."""
        self._log.cut()

    def swallow_acknowledgements(self) -> None:
        """Tell no writer anything."""
        self._log.swallow_acknowledgements()

    def is_unheard(self) -> bool:
        """Whether a record is in the log whose writer was not told."""
        return self._log.is_unheard()

    def mend(self) -> None:
        """Let all through."""
        self._log.mend()
