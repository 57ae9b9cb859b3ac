"""Opens the Kafka clients of a process: all are made here, so a test can give a log that is in memory."""

from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Message
from confluent_kafka.admin import AdminClient

from mailstream.domain import topics
from mailstream.domain.errors import NoKafka
from mailstream.domain.topics import Naming, Topic
from mailstream.kafka import admin as check
from mailstream.kafka.config import admin
from mailstream.kafka.group_offsets import GroupOffsets
from mailstream.kafka.offsets import LogEnds
from mailstream.kafka.producer import Publisher
from mailstream.kafka.reader import Reader
from mailstream.kafka.tail import End, Tail
from mailstream.settings import Settings

ADMIN_SECONDS = 15.0  #: for an answer about a group


class Kafka:
    """What can be done with the brokers of these settings. Each call opens a client; who asked for it closes it."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._naming = Naming(settings.topic_prefix)

    @cached_property
    def _admin(self) -> AdminClient:
        return admin(self.settings)

    def name_of(self, topic: Topic) -> str:
        """The full name of a topic of ours."""
        return self._naming.of(topic)

    def producer(self, *, failed: Callable[[Exception], None], message_seconds: float, **extra: Any) -> Publisher:
        """Appends records. Open it inside the running loop."""
        return Publisher(self.settings, failed=failed, message_seconds=message_seconds, **extra)

    def tail(
        self,
        on_batch: Callable[[Sequence[Message | End]], None],
        *,
        name: str,
        failed: Callable[[Exception], None],
        patience: Callable[[], float] | None = None,
        **extra: Any,
    ) -> Tail:
        """Follows partitions. Open it inside the running loop."""
        return Tail(self.settings, on_batch, name=name, failed=failed, patience=patience, **extra)

    def ends(self, *, seconds: float) -> LogEnds:
        """Says where partitions begin and end, and how far a group has read."""
        return LogEnds(self.settings, seconds=seconds)

    def offsets(self, group: str) -> GroupOffsets:
        """Reads and commits offsets of a group of ours that has no members."""
        return GroupOffsets(self.settings, self._naming.of(group))

    def reader(self, **options: Any) -> Reader:
        """Reads ranges and single records, on the thread of its caller."""
        return Reader(self.settings, **options)

    def require_topics(self, wanted: Iterable[Topic] = topics.ALL) -> None:
        """Raise TopicsDiffer when a topic is missing or differs, NoKafka when no broker answers. It blocks."""
        check.require(self._admin, self.settings, wanted)

    def retention_seconds(self, topic: Topic) -> float:
        """How long the brokers keep a record of a topic. Raises KafkaException, TimeoutError. It blocks."""
        return check.retention_seconds(self._admin, self.settings, topic)

    def members(self, group: str) -> int:
        """How many processes are in a group of ours. Raises NoKafka. It blocks."""
        name = self._naming.of(group)
        asked = self._admin.describe_consumer_groups([name], request_timeout=ADMIN_SECONDS)[name]
        try:
            return len(asked.result().members)
        except KafkaException as error:
            if error.args[0].code() == KafkaError.GROUP_ID_NOT_FOUND:
                return 0
            raise NoKafka(
                f"Who is in the group {name} is not told by {self.settings.kafka_bootstrap} ({error.args[0].name()}). Nothing "
                "was changed. Look at the broker, and whether this user has Describe on the group."
            ) from None
