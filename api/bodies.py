"""Read one request again from where it lies in the log: only there are whole addresses and subjects."""

import asyncio
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, NamedTuple

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from mailstream import topics
from mailstream.codec import Undecodable, decode_requested
from mailstream.errors import NotCaughtUp
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
#: What the broker says of a record that is not there, or not any more.
_GONE = frozenset({KafkaError._PARTITION_EOF, KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE})
#: Emails of which address and subject are in memory.
REMEMBERED = 10_000


class Shown(NamedTuple):
    """What a status does not hold, for callers who may see it."""

    to: str
    subject: str | None


class Bodies:
    """What was read lately is remembered; beyond that the log is asked, one question at a time.

    Each has a consumer of its own, for 2 ms: one that is kept looks only once a second whether it was given another
    place to read from (librdkafka 2.16).
    """

    def __init__(self, settings: Settings) -> None:
        self._topic = topics.Naming(settings.topic_prefix).of(topics.REQUESTED)
        self._config = {**_CONFIG, **connection(settings)}
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
            if key in self._shown:  # whoever had the turn before asked the same
                return self._shown[key]
            try:
                value = await asyncio.to_thread(self._read, status.request)
            except NotCaughtUp:
                return None
        found = None if value is None else _shown_in(value, status.id)
        self.remember(key, found)
        return found

    def _read(self, place: Coordinates) -> bytes | None:
        """The record; None: it is not kept any more. Raises NotCaughtUp when the brokers do not say."""
        consumer = Consumer(self._config)
        try:
            consumer.assign([TopicPartition(self._topic, place.partition, place.offset)])
            message = consumer.poll(SECONDS)
        except KafkaException as failure:
            raise NotCaughtUp(f"the brokers do not answer ({failure.args[0].name()})") from None
        finally:
            consumer.close()
        if message is None:
            raise NotCaughtUp("the brokers do not answer in time")
        if (error := message.error()) is not None:
            if error.code() in _GONE:
                return None
            raise NotCaughtUp(f"the brokers do not answer ({error.name()})")
        return message.value() if message.offset() == place.offset else None


def _shown_in(value: bytes, email_id: str) -> Shown | None:
    try:
        record = decode_requested(value)
    except Undecodable:
        return None
    for item in record.items if isinstance(record, Batch) else (record,):
        if isinstance(item, EmailRequest) and (item is record or item.id == email_id):
            return Shown(item.to.email, item.subject)
    return None
