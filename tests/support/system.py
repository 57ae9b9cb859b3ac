"""One mailstream system per test: settings with a prefix of their own, topics that go when the test ends."""

import os
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from confluent_kafka.admin import AdminClient

from mailstream.kafka import admin as check
from mailstream.kafka import config
from mailstream.settings import PREFIX, Settings

PARTITIONS = 4
DELETE_SECONDS = 10.0


def some_settings(bootstrap: str, **changes: Any) -> Settings:
    """Settings that share nothing with another test: neither names on the broker nor the developer's ``.env``."""
    defaults: dict[str, Any] = {
        "kafka_bootstrap": bootstrap,
        "topic_prefix": f"test-{uuid.uuid4().hex[:8]}.",
        "partitions": PARTITIONS,
        "sender": "sender@example.com",
        "sendgrid_api_key": "SG.test",
        "dev": True,
    }
    return Settings(_env_file=None, **(defaults | changes))


@contextmanager
def topics_of(settings: Settings, others: Iterable[str] = ()) -> Iterator[AdminClient]:
    """Create the topics of a system; afterwards delete whatever has its prefix, and ``others``.

    With a time-out of 0 the broker would say that all is well, and delete nothing.
    """
    assert settings.topic_prefix, "without a prefix this would delete everything"
    admin = config.admin(settings)
    check.apply(admin, settings)
    try:
        yield admin
    finally:
        there = admin.list_topics(timeout=10).topics
        mine = [name for name in there if name.startswith(settings.topic_prefix) or name in others]
        for begun in admin.delete_topics(mine, operation_timeout=DELETE_SECONDS).values():
            begun.result()


def as_environment(settings: Settings) -> dict[str, str]:
    """The environment of a process that is to have these settings, and none of the developer's."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    ours["PYTHONFAULTHANDLER"] = "1"  # a crash in a C library says in the log where it was
    for name in settings.model_fields_set:
        if (value := getattr(settings, name)) is not None:
            ours[PREFIX + name.upper()] = _as_text(value)
    return ours


def _as_text(value: Any) -> str:
    match value:
        case bool():
            return "1" if value else "0"
        case tuple():
            return ",".join(_as_text(part) for part in value)
        case _ if hasattr(value, "get_secret_value"):
            return str(value.get_secret_value())
        case _:
            return str(value)
