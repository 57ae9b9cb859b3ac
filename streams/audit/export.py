"""A stretch of the topics as JSON Lines: every record as it stands, addresses and bodies included."""

import base64
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any

import msgspec
from confluent_kafka import Message

from mailstream.domain import codec
from mailstream.domain.topics import Naming, Topic
from mailstream.kafka.reader import Reader
from mailstream.kafka.record import headers_of
from mailstream.settings import Settings

_encoder = msgspec.json.Encoder()


def export(
    reader: Reader,
    settings: Settings,
    wanted: Iterable[Topic],
    *,
    since: datetime | None,
    until: datetime | None,
) -> Iterator[bytes]:
    """One line per record, topic by topic, partition by partition, in log order. Times are the broker's."""
    naming = Naming(settings.topic_prefix)
    spans = [
        (topic, reader.span(naming.of(topic), partition, since=since, until=until))
        for topic in wanted
        for partition in range(settings.partitions)
    ]
    reader.plan(span for _, span in spans)
    for topic, span in spans:
        for message in reader.records(span):
            yield _encoder.encode(_line(topic, message))


def _line(topic: Topic, message: Message) -> dict[str, Any]:
    return {
        "topic": topic.name,
        "partition": message.partition(),
        "offset": message.offset(),
        "timestamp_ms": message.timestamp()[1],
        "key": codec.readable(message.key()),
        "headers": [[name, codec.readable(content)] for name, content in headers_of(message)],
        **_value(message.value()),
    }


def _value(value: bytes | None) -> dict[str, Any]:
    """The JSON itself where it is one; else its bytes, so that nothing is lost."""
    if value is None:
        return {"value": None}
    try:
        msgspec.json.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {"value_base64": base64.b64encode(value).decode()}
    return {"value": msgspec.Raw(value)}
