"""All that one fetch brought of a partition is one event of Faust, so its work for events is done once for many records."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Any

from aiokafka import ConsumerRecord
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from faust.types.tuples import ConsumerMessage


class Batch(ConsumerMessage):  # type: ignore[misc]
    """What Faust takes for one message: neighbours of one partition, in log order, without the bytes of any.

    Its offset is the last one, so a count of how far the reading came counts all of them.
    """

    __slots__ = ("records",)
    records: "Sequence[ConsumerRecord[bytes, bytes]]"


class WholePartitions:
    """Faust's scheduler says which record is next; this one names a partition and all that came of it."""

    def iterate(self, records: Mapping[TP, list[Any]]) -> Iterator[tuple[TP, list[Any]]]:
        """Each partition once."""
        return iter(records.items())


class BatchConsumer(driver.Consumer):  # type: ignore[misc]
    """Faust's aiokafka consumer, with batches; its loop, flow control, suspension and shutdown are stock."""

    def __init__(self, transport: Any, callback: Callable[[Batch], Awaitable[None]], *args: Any, **kwargs: Any) -> None:
        super().__init__(transport, self._deliver, *args, **kwargs)
        self.scheduler = WholePartitions()
        self._hand_on = callback
        self._has_room = asyncio.Event()

    def _to_message(self, tp: TP, records: "Sequence[ConsumerRecord[bytes, bytes]]") -> Batch:
        newest = records[-1]
        batch = Batch(
            tp.topic,
            tp.partition,
            newest.offset,
            newest.timestamp / 1000,
            newest.timestamp_type,
            headers=None,
            key=b"",
            value=b"",
            checksum=None,
            tp=tp,
            generation_id=self.app.consumer_generation_id,
        )
        batch.records = records
        return batch

    async def _deliver(self, batch: Batch) -> None:
        """Leave what came before its partition was handed out: the seek at the end of the assignment brings it again."""
        if batch.tp in self.app.topics._tp_to_callback:
            await self._hand_on(batch)

    def on_buffer_drop(self, tp: Any) -> None:
        """Note that a partition's buffer has room again."""
        super().on_buffer_drop(tp)
        self._has_room.set()

    async def _wait_next_records(self, timeout: float) -> tuple[Any, Any]:
        if self.flow_active and not self.app.client_only and not self._get_active_partitions():
            self._has_room.clear()
            await self.wait_first(self._has_room, timeout=1.0)
            return {}, set()
        return await super()._wait_next_records(timeout)  # type: ignore[no-any-return]
