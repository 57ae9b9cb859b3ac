"""Reads records of ``email.requested`` at given places, on a thread of its own."""

import asyncio
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from mailstream.errors import NotCaughtUp
from mailstream.log import tail
from mailstream.log.client import connection
from mailstream.settings import Settings
from mailstream.status import Coordinates

READ_SECONDS = 10.0
#: Offsets that are read through rather than jumped over, between two wanted ones.
NEAR = 200

Found = dict[Coordinates, bytes]
Failed = dict[int, str]


class BodyReader:
    """One client, made when it is first needed. One read at a time."""

    def __init__(self, settings: Settings, topic: str, most_bytes: float) -> None:
        """``most_bytes``: a read stops when it has brought more."""
        self._topic, self._most = topic, most_bytes
        self._thread = ThreadPoolExecutor(1, "bodies")
        self._config: dict[str, Any] = {
            **tail.SETTINGS, **tail.LITTLE_AHEAD, **connection(settings), "enable.partition.eof": True
        }  # fmt: skip
        self._consumer: Consumer | None = None

    async def read(self, places: Iterable[Coordinates]) -> tuple[Found, Failed]:
        """What is there at these places, neighbours in one fetch; and the partition that does not answer, with why.

        A place is missing when its record is gone, when there was too much to read, or when another partition did not
        answer first: then no more is read, as each further one may take as long.
        """
        wanted = sorted({(place.partition, place.offset) for place in places})
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._read, wanted)

    async def close(self) -> None:
        """Close the client."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._close)
        self._thread.shutdown()

    # -- on the thread ------------------------------------------------------------------------------------

    def _read(self, wanted: list[tuple[int, int]]) -> tuple[Found, Failed]:
        found: Found = {}
        try:
            for partition, group in groupby(wanted, key=lambda place: place[0]):
                try:
                    self._read_partition(partition, [offset for _, offset in group], found)
                except (KafkaException, NotCaughtUp) as error:
                    self._close()  # what it knows of the brokers may be old
                    why = error.args[0].str() if isinstance(error, KafkaException) else str(error)
                    return found, {partition: f"email.requested/{partition} cannot be read: {why}"}
        finally:
            if self._consumer is not None:
                self._consumer.unassign()  # else it goes on reading ahead
        return found, {}

    def _read_partition(self, partition: int, offsets: list[int], found: Found) -> None:
        while offsets:
            count = next((n for n in range(1, len(offsets)) if offsets[n] - offsets[n - 1] > NEAR), len(offsets))
            if sum(map(len, found.values())) > self._most:
                return
            self._read_run(partition, offsets[:count], found)
            offsets = offsets[count:]

    def _read_run(self, partition: int, offsets: list[int], found: Found) -> None:
        if self._consumer is None:
            self._consumer = Consumer(self._config)
        low, _ = self._consumer.get_watermark_offsets(TopicPartition(self._topic, partition), timeout=READ_SECONDS)
        offsets = [offset for offset in offsets if offset >= low]  # the others were deleted by retention
        if not offsets:
            return
        wanted, last = set(offsets), offsets[-1]
        self._consumer.assign([TopicPartition(self._topic, partition, offsets[0])])
        waited = size = 0.0
        while waited < READ_SECONDS:
            first = self._consumer.poll(0.5)
            if first is None:
                waited += 0.5
                continue
            for message in [first, *self._consumer.consume(500, 0)]:
                size += len(message.value() or b"")
                if self._take(message, wanted, found) >= last or size > self._most:
                    return
        raise NotCaughtUp(f"it did not answer up to offset {last} in {READ_SECONDS:.0f} s")

    def _take(self, message: Message, wanted: set[int], found: Found) -> int:
        """Keep one message if it is wanted. Returns how far the reading has come."""
        partition, offset = message.partition() or 0, message.offset() or 0
        if (error := message.error()) is None:
            if offset in wanted and (value := message.value()) is not None:
                found[Coordinates(partition, offset)] = value
            return offset
        if error.code() == KafkaError._PARTITION_EOF:
            return offset
        return -1

    def _close(self) -> None:
        if self._consumer is not None:
            self._consumer.close()
            self._consumer = None
