"""Read one request again from where it lies in the log: only there are whole addresses and subjects."""

import asyncio
from collections import OrderedDict
from typing import NamedTuple

from mailstream.domain import topics
from mailstream.domain.codec import decode_requested, decoded
from mailstream.domain.errors import NoKafka, TopicsDiffer
from mailstream.domain.request import Batch, EmailRequest
from mailstream.domain.status import Coordinates, EmailStatus
from mailstream.kafka import tail
from mailstream.kafka.reader import Reader
from mailstream.settings import Settings

SECONDS = 1.0
#: Emails of which address and subject are in memory.
REMEMBERED = 10_000


class Shown(NamedTuple):
    """What a status does not hold, for callers who may see it."""

    to: str
    subject: str | None


class Bodies:
    """What was read lately is remembered, and nothing else of a body; beyond that the log is asked, one at a time."""

    def __init__(self, settings: Settings) -> None:
        self._settings, self._topic = settings, topics.Naming(settings.topic_prefix).of(topics.REQUESTED)
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
            if key in self._shown:  # the one who had the turn before asked the same
                return self._shown[key]
            try:
                value = await asyncio.to_thread(self._read, status.request)
            except (NoKafka, TopicsDiffer):
                return None
        found = None if value is None else _shown_in(value, status.id)
        self.remember(key, found)
        return found

    def _read(self, place: Coordinates) -> bytes | None:
        """The record; None: it is not kept any more. Raises NoKafka, TopicsDiffer. On a thread."""
        with Reader(self._settings, seconds=SECONDS, **tail.LITTLE_AHEAD) as reader:
            message = reader.record(self._topic, place.partition, place.offset)
            return None if message is None else message.value()


def _shown_in(value: bytes, email_id: str) -> Shown | None:
    record = decoded(decode_requested, value)
    for item in record.items if isinstance(record, Batch) else (record,):
        if isinstance(item, EmailRequest) and (item is record or item.id == email_id):
            return Shown(item.to.email, item.subject)
    return None
