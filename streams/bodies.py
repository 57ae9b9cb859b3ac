"""The bodies of waiting emails: a bounded number of bytes in memory, the rest read again from ``email.requested``."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from mailstream.errors import NotCaughtUp
from mailstream.log import tail
from mailstream.log.client import connection
from mailstream.settings import Settings
from mailstream.status import Coordinates

READ_SECONDS = 10.0
#: Offsets that are read through rather than jumped over, between two wanted ones.
NEAR = 200
OVERHEAD_BYTES = 200  #: what Python needs around a body


class Bodies:
    """Values of request records by their coordinates."""

    def __init__(self, settings: Settings, topic: str) -> None:
        self._topic = topic
        self._limit = settings.bodies_bytes
        self._kept: OrderedDict[Coordinates, bytes] = OrderedDict()
        self._size = 0
        self._thread = ThreadPoolExecutor(1, "bodies")
        self._config = {**tail.SETTINGS, **tail.LITTLE_AHEAD, **connection(settings), "enable.partition.eof": True}
        self._consumer: Consumer | None = None
        self._reading = asyncio.Lock()
        self._asked: set[Coordinates] = set()  #: whoever waits for a body
        self.due_next: Callable[[], Iterable[Coordinates]] = tuple  #: what will be asked for soon

    def keep(self, place: Coordinates, value: bytes) -> None:
        """Remember a body; when there is no room, the oldest ones are forgotten and read again in their turn."""
        if place in self._kept:
            return
        # A copy: what the threads of the clients allocate is in arenas of their own, and each would grow to all bodies.
        self._kept[place] = bytes(memoryview(value))
        self._size += len(value) + OVERHEAD_BYTES
        while self._size > self._limit:
            self._drop(next(iter(self._kept)))

    def has(self, place: Coordinates) -> bool:
        """Whether the body is in memory."""
        return place in self._kept

    def forget(self, place: Coordinates | None) -> None:
        """The email needs its body no more."""
        if place is not None and place in self._kept:
            self._drop(place)

    async def get(self, place: Coordinates) -> bytes | None:
        """The body; None when the log does not hold it any more. Raises NotCaughtUp when Kafka does not answer.

        A body that is missing is read together with those that are due next.
        """
        if (value := self._kept.get(place)) is not None:
            return value
        self._asked.add(place)  # all who wait are read together: they are not due next any more, they are in work
        try:
            async with self._reading:  # who waited here has probably been read with the others
                if (value := self._kept.get(place)) is not None:
                    return value
                found = await self.read([*self._asked, *self.due_next()])
                return found.get(place) or (await self.read([place])).get(place)  # very large bodies: not all were read
        finally:
            self._asked.discard(place)

    async def read(self, places: Iterable[Coordinates]) -> dict[Coordinates, bytes]:
        """Read bodies from the log and keep them; neighbours in one fetch. What is gone is missing in the answer.

        Raises NotCaughtUp when Kafka does not answer in time.
        """
        wanted = sorted({(place.partition, place.offset) for place in places if place not in self._kept})
        loop = asyncio.get_running_loop()
        try:
            found = await loop.run_in_executor(self._thread, self._read, wanted)
        except KafkaException as error:
            raise NotCaughtUp(f"email.requested cannot be read: {error.args[0].str()}") from None
        for place, value in found.items():
            self.keep(place, value)
        return found

    async def close(self) -> None:
        """Close the reader."""
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._thread, self._close)
        self._thread.shutdown()

    def _drop(self, place: Coordinates) -> None:
        self._size -= len(self._kept.pop(place)) + OVERHEAD_BYTES

    # -- on the reader's thread ---------------------------------------------------------------------------

    def _read(self, wanted: list[tuple[int, int]]) -> dict[Coordinates, bytes]:
        found: dict[Coordinates, bytes] = {}
        try:
            self._read_runs(wanted, found)
        finally:
            if self._consumer is not None:
                self._consumer.unassign()  # else it goes on reading ahead
        return found

    def _read_runs(self, wanted: list[tuple[int, int]], found: dict[Coordinates, bytes]) -> None:
        for partition, group in groupby(wanted, key=lambda place: place[0]):
            offsets = [offset for _, offset in group]
            while offsets:
                count = next((n for n in range(1, len(offsets)) if offsets[n] - offsets[n - 1] > NEAR), len(offsets))
                if sum(map(len, found.values())) > self._limit / 4:
                    return
                self._read_run(partition, offsets[:count], found)
                offsets = offsets[count:]

    def _read_run(self, partition: int, offsets: list[int], found: dict[Coordinates, bytes]) -> None:
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
                if self._take(message, wanted, found) >= last or size > self._limit / 4:
                    return
        raise NotCaughtUp(f"email.requested/{partition} could not be read up to offset {last} in {READ_SECONDS:.0f} s")

    def _take(self, message: Message, wanted: set[int], found: dict[Coordinates, bytes]) -> int:
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
