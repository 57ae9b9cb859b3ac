"""Read one request again from where it lies in the log: only there are whole addresses and subjects."""

import asyncio
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, NamedTuple

from confluent_kafka import Consumer, KafkaException, TopicPartition

from mailstream import topics
from mailstream.codec import Undecodable, decode_requested
from mailstream.log.client import connection
from mailstream.request import Batch, EmailRequest
from mailstream.settings import Settings
from mailstream.status import Coordinates, EmailStatus

_CONFIG: Mapping[str, Any] = {
    "group.id": "unused",
    "enable.auto.commit": False,
    "auto.offset.reset": "error",
    "enable.partition.eof": True,  # nothing there is an answer, too
    "fetch.wait.max.ms": 10,
    "queued.min.messages": 1,  # one is wanted, not what follows it
    "queued.max.messages.kbytes": 2048,
}
SECONDS = 1.0
#: Emails of which address and subject are in memory.
REMEMBERED = 10_000


class Shown(NamedTuple):
    """What a status does not hold, for callers who may see it."""

    to: str
    subject: str | None


class Bodies:
    """What was read lately is remembered; beyond that one consumer is asked, one question at a time."""

    def __init__(self, settings: Settings) -> None:
        self._topic = topics.Naming(settings.topic_prefix).of(topics.REQUESTED)
        self._config = {**_CONFIG, **connection(settings)}
        self._consumer: Consumer | None = None
        self._shown: OrderedDict[bytes, Shown | None] = OrderedDict()
        self._turn = asyncio.Lock()

    def remember(self, key: bytes, shown: Shown | None) -> None:
        """Keep what is known of an email; None: its record is not kept any more."""
        self._shown[key] = shown
        if len(self._shown) > REMEMBERED:
            self._shown.popitem(last=False)

    async def shown(self, status: EmailStatus) -> Shown | None:
        """Address and subject; None when the record is not kept any more, or cannot be read in time."""
        key = status.id.encode()
        if key in self._shown:
            return self._shown[key]
        if status.request is None:
            return None
        async with self._turn:
            value = await asyncio.to_thread(self._read, status.request)
        found = None if value is None else _shown_in(value, status.id)
        self.remember(key, found)
        return found

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


def _shown_in(value: bytes, email_id: str) -> Shown | None:
    try:
        record = decode_requested(value)
    except Undecodable:
        return None
    for item in record.items if isinstance(record, Batch) else (record,):
        if isinstance(item, EmailRequest) and (item is record or item.id == email_id):
            return Shown(item.to.email, item.subject)
    return None
