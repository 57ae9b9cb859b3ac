"""A topic that takes no writes: each record is larger than it allows.

Too few replicas would be nearer to life, but with one broker Kafka 4.3 lowers ``min.insync.replicas`` to one by itself.
"""

from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

from mailstream.domain.topics import Naming, Topic
from mailstream.kafka.config import admin
from mailstream.settings import Settings

MEMBER = "max.message.bytes"
SECONDS = 20.0


def takes_no_writes(settings: Settings, topic: Topic) -> None:
    """From now on every record is refused."""
    _alter(settings, topic, "1")


def takes_writes(settings: Settings, topic: Topic) -> None:
    """As it was made."""
    _alter(settings, topic, dict(topic.config).get(MEMBER))


def _alter(settings: Settings, topic: Topic, value: str | None) -> None:
    operation = AlterConfigOpType.DELETE if value is None else AlterConfigOpType.SET
    entry = ConfigEntry(MEMBER, value, incremental_operation=operation)
    resource = ConfigResource(ResourceType.TOPIC, Naming(settings.topic_prefix).of(topic), incremental_configs=[entry])
    for done in admin(settings).incremental_alter_configs([resource], request_timeout=SECONDS).values():
        done.result(SECONDS)
