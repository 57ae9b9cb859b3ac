"""A cheaper delivery loop for Faust 0.15.3, plugged into one app; nothing global is patched.

Stock makes an event of each record, and runs each delivery under ``wait_first``: four tasks, 70 µs of CPU a record. Here
all that one fetch brought of a partition is one event, a ``Batch``, so Faust's work for events is done once for many
records. Its delivery is driven one step by hand, which nearly always finishes it; only one that blocks (flow control, a
full queue) goes on under ``wait_first`` as in stock. Stock also sleeps a second whenever every partition is
back-pressured; here the loop wakes as soon as one has room. Drop this file when Faust delivers in batches.
"""

import asyncio
import types
from collections.abc import Coroutine, Generator, Iterator, Mapping, Sequence
from typing import Any

from aiokafka import ConsumerRecord
from faust.transport.consumer import CONSUMER_FETCHING
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from faust.types.tuples import ConsumerMessage


class Batch(ConsumerMessage):  # type: ignore[misc]
    """What Faust takes for one message: neighbours of one partition, in log order, without the bytes of any.

    Its offset is the last one, so whoever counts how far the reading came counts all of them.
    """

    __slots__ = ("records",)
    records: "Sequence[ConsumerRecord[bytes, bytes]]"


class _WholePartitions:
    """Faust's scheduler says which record is next; this one names a partition and all that came of it."""

    def iterate(self, records: Mapping[TP, list[Any]]) -> Iterator[tuple[TP, list[Any]]]:
        return iter(records.items())


@types.coroutine
def _carry_on(delivery: Coroutine[Any, Any, None], waiting_on: Any) -> Generator[Any, Any, None]:
    """Drive a delivery that has already yielded ``waiting_on``: what ``yield from`` does after its first step."""
    while True:
        try:
            sent = yield waiting_on
        except GeneratorExit:
            delivery.close()
            raise
        except BaseException as error:  # a cancellation too: it must reach the delivery
            step, argument = delivery.throw, error
        else:
            step, argument = delivery.send, sent  # type: ignore[assignment]
        try:
            waiting_on = step(argument)
        except StopIteration:
            return


async def _rest_of(delivery: Coroutine[Any, Any, None], waiting_on: Any) -> None:
    await _carry_on(delivery, waiting_on)


class Consumer(driver.Consumer):  # type: ignore[misc]
    """Faust's aiokafka consumer with this loop; flow control, suspension and shutdown are stock."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._has_room = asyncio.Event()
        self.scheduler = _WholePartitions()

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

    async def _deliver(self, message: Any) -> None:
        delivery = self.callback(message)
        try:
            waiting_on = delivery.send(None)
        except StopIteration:
            return
        await self.wait_first(_rest_of(delivery, waiting_on), self.suspend_flow.wait())

    async def _drain_messages(self, fetcher: Any) -> None:
        is_stopped, is_fetcher_stopped = self._stopped.is_set, fetcher._stopped.is_set
        read_offset, owned = self._read_offset, self.app.topics._tp_to_callback
        try:
            while not (is_stopped() or is_fetcher_stopped()):
                self.diag.set_flag(CONSUMER_FETCHING)
                batches = self.getmany(timeout=1.0)
                await self.sleep(0)
                if self.should_stop:
                    continue
                async for tp, batch in batches:
                    last = read_offset[tp]
                    if last is not None and batch.records[0].offset < last:  # already read
                        batch.records = [record for record in batch.records if record.offset >= last]
                    if not batch.records or tp not in owned:  # not assigned yet: it is read again then; stock crashes
                        continue
                    await self._deliver(batch)
                    read_offset[tp] = batch.offset
                self.diag.unset_flag(CONSUMER_FETCHING)
        except (*self.consumer_stopped_errors, asyncio.CancelledError):
            if not self.transport.app.should_stop:
                raise
        finally:
            self.diag.unset_flag(CONSUMER_FETCHING)
