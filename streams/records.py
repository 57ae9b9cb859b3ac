"""A record as a reader of the log hands it over, in the words of intake."""

from typing import cast

from confluent_kafka import Message

from streams.core.intake import Received


def headers_of(message: Message) -> list[tuple[str, bytes]]:
    """The headers of a record, repeated names too. The client's stubs allow text in them, which it never gives."""
    return cast("list[tuple[str, bytes]]", message.headers() or [])


def as_received(message: Message) -> Received:
    """A record as intake sees it."""
    return Received(
        topic=message.topic() or "",
        partition=message.partition() or 0,
        offset=message.offset() or 0,
        timestamp_ms=message.timestamp()[1],
        key=message.key(),
        value=message.value(),
        headers=dict(headers_of(message)),
    )
