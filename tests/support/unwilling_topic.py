"""A topic that takes no writes, as when too few of its replicas are in sync."""

from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

from mailstream.log.client import admin
from mailstream.settings import Settings
from mailstream.topics import Naming, Topic

MEMBER = "min.insync.replicas"
SECONDS = 20.0


def takes_no_writes(settings: Settings, topic: Topic) -> None:
    """From now on it demands two replicas, and has one."""
    _alter(settings, topic, ConfigEntry(MEMBER, "2", incremental_operation=AlterConfigOpType.SET))


def takes_writes(settings: Settings, topic: Topic) -> None:
    """As it was made."""
    _alter(settings, topic, ConfigEntry(MEMBER, None, incremental_operation=AlterConfigOpType.DELETE))


def _alter(settings: Settings, topic: Topic, entry: ConfigEntry) -> None:
    resource = ConfigResource(ResourceType.TOPIC, Naming(settings.topic_prefix).of(topic), incremental_configs=[entry])
    for done in admin(settings).incremental_alter_configs([resource], request_timeout=SECONDS).values():
        done.result(SECONDS)
