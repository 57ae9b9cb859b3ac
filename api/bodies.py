"""Read one request again from where it lies in the log: only there are whole addresses and subjects."""

import asyncio
from collections.abc import Mapping
from typing import Any

from confluent_kafka import Consumer, KafkaException, TopicPartition

from mailstream import topics
from mailstream.codec import Undecodable, decode_requested
from mailstream.log.client import connection
from mailstream.request import Batch, EmailRequest
from mailstream.settings import Settings
from mailstream.status import Coordinates

_CONFIG: Mapping[str, Any] = {
    "group.id": "unused",
    "enable.auto.commit": False,
    "auto.offset.reset": "error",
    "fetch.wait.max.ms": 10,
    "queued.min.messages": 1,  # one is wanted, not what follows it
    "queued.max.messages.kbytes": 2048,
}
SECONDS = 1.0


class Bodies:
    """Asked now and then, by people: one consumer, one question at a time."""

    def __init__(self, settings: Settings) -> None:
        self._topic = topics.Naming(settings.topic_prefix).of(topics.REQUESTED)
        self._config = {**_CONFIG, **connection(settings)}
        self._consumer: Consumer | None = None
        self._turn = asyncio.Lock()

    async def read(self, place: Coordinates, email_id: str) -> EmailRequest | None:
        """The request; None when its record is not kept any more, or cannot be read in time."""
        async with self._turn:
            value = await asyncio.to_thread(self._read, place)
        if value is None:
            return None
        try:
            record = decode_requested(value)
        except Undecodable:
            return None
        items = record.items if isinstance(record, Batch) else (record,)
        for item in items:
            if isinstance(item, EmailRequest) and (item.id == email_id or item is record):
                return item
        return None

    async def close(self) -> None:
        """Let go of the consumer."""
        async with self._turn:
            if self._consumer is not None:
                await asyncio.to_thread(self._consumer.close)

    def _read(self, place: Coordinates) -> bytes | None:
        if self._consumer is None:
            self._consumer = Consumer(self._config)
        try:
            self._consumer.assign([TopicPartition(self._topic, place.partition, place.offset)])
            message = self._consumer.poll(SECONDS)
            self._consumer.unassign()
        except KafkaException:
            return None
        if message is None or message.error() or message.offset() != place.offset:
            return None
        return message.value()
