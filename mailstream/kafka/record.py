"""What confluent-kafka hands over, as a record of ours."""

from typing import cast

from confluent_kafka import Message

from mailstream.domain.record import Record


def headers_of(message: Message) -> list[tuple[str, bytes]]:
    """The headers of a record, repeated names too. The client's stubs allow text in them, which it never gives."""
    return cast("list[tuple[str, bytes]]", message.headers() or [])


def record_of(message: Message) -> Record:
    """The same record as plain data."""
    return Record(
        topic=message.topic() or "",
        partition=message.partition() or 0,
        offset=message.offset() or 0,
        timestamp_ms=message.timestamp()[1],
        key=message.key(),
        value=message.value(),
        headers=dict(headers_of(message)),
    )
