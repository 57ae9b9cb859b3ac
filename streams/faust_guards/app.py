"""A Faust app that commits only what is finished, drains within bounds, and ends when it must not go on."""

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any

import faust
import structlog
from aiokafka import ConsumerRecord
from faust.app.base import BootStrategy
from faust.types import TP
from mode import Service

from mailstream.clock import boot_time
from mailstream.domain.errors import LogLost, OffsetGap
from mailstream.domain.topics import Naming
from mailstream.settings import Settings
from streams.core.offset_tracker import InFlight, OffsetTracker
from streams.faust_guards import offset_gaps
from streams.faust_guards.settings import faust_settings
from streams.metrics import LOST_RECORDS

log = structlog.get_logger(__name__)

COMMIT_SECONDS = 1.0  #: how often finished heads are committed; what a kill -9 reads again
DRAIN_SECONDS = 20.0  #: longest call (18 s) < this < rebalance timeout
MOST_UNACKED = 4000  #: records in work, per worker: bounds memory
RECORDS_A_TURN = 8  #: that an agent settles before others get the loop: under a millisecond
STOP_SECONDS = 25.0  #: for a whole stop, drain included; then the process ends with 1, which is crash-safe


class WithoutWeb(BootStrategy):  # type: ignore[misc]
    """Faust's web server shows the table to everyone who reaches port 6066, and ``faust worker`` turns it on."""

    enable_web = False


class GuardedApp(faust.App):  # type: ignore[misc]
    """A Faust app with the guards, on the transport ``guarded://``."""

    BootStrategy = WithoutWeb

    def __init__(self, settings: Settings, name: str, **overrides: Any) -> None:
        """``name``: of the group, without the prefix of the topics. ``overrides``: settings of Faust."""
        super().__init__(Naming(settings.topic_prefix).of(name), **{**faust_settings(settings), **overrides})
        self.mailstream_settings = settings
        self.acks: OffsetTracker[TP] = OffsetTracker()
        self.lost_logs: dict[TP, str] = {}  #: partitions that lost records before they were read, and what to do
        self.is_draining = True  #: start nothing new
        self.has_failed = False  #: the process ends: nothing new is started again, also when partitions come
        self.drains = 0  #: how many there were: a record that was read before one is not worked on after it
        self.heard_at = 0.0  #: boot time at which the group certainly knew this member (``membership.note``)
        #: Awaited at each assignment, with the generation of the group, before the agents start.
        self.on_load: list[Callable[[set[TP], int], Awaitable[None]]] = []
        self.on_drain: list[Callable[[], Awaitable[None]]] = []  #: awaited on revoke and stop, within DRAIN_SECONDS
        self._committed: dict[TP, int] = {}
        self.on_rebalance_complete.connect(self._hold_flow)

    def _create_directories(self) -> None:
        """Make none: nothing is kept there."""

    async def records(self, stream: Any) -> AsyncIterator[tuple["ConsumerRecord[bytes, bytes]", Callable[[], None]]]:
        """Each record of an agent's stream once, in log order, with what to call when its consequence is durable.

        Offsets are committed in log order too. Waits while too many records are in work. A partition that lost records is
        left where it stands; records that Faust skipped end the process.
        """
        async for event in stream.noack().events():
            tp, records, drains = event.message.tp, event.message.records, self.drains
            for number, record in enumerate(records, 1):
                slot = self.admit_next(tp, record.offset) or await self._admitted(tp, record.offset)
                if slot is not None:
                    yield record, partial(self.acks.done, slot)
                if number % RECORDS_A_TURN == 0 or number == len(records):
                    await self._give_way()
                if self.drains != drains:
                    break  # the rest was fetched for an ownership that has ended: it is read again

    async def _admitted(self, tp: TP, offset: int) -> InFlight[TP] | None:
        try:
            return await self.admit(tp, offset)
        except LogLost as error:
            self.lose_log(tp, error)  # nothing more of it is taken, and all of it comes again
        except OffsetGap as error:
            self.fail(error)
        return None

    async def _give_way(self) -> None:
        """Let others have the loop: once, and for as long as too many records are in work."""
        await asyncio.sleep(0)
        while self.acks.pending() >= MOST_UNACKED and not self.is_draining:
            await asyncio.sleep(0.002)

    def admit_next(self, tp: TP, offset: int) -> InFlight[TP] | None:
        """The same as ``admit`` for a record that follows on the one before; None: ask ``admit``."""
        if self.is_draining or tp in self.lost_logs or self.acks.last(tp) != offset - 1:
            return None
        return self.acks.add(tp, offset)

    async def admit(self, tp: TP, offset: int) -> InFlight[TP] | None:
        """Register a record before anything is done with it. None: a repeat, or a drain is on; skip it.

        Raises OffsetGap if Faust skipped records: let it end the process; LogLost if some were deleted before they were
        read: go on with ``lose_log``.
        """
        if self.is_draining or tp in self.lost_logs:
            return None
        drains = self.drains
        last = self.acks.last(tp)
        expected = self.consumer._committed_offset[tp] if last is None else last + 1
        if not expected and offset:  # nothing was committed yet: then reading begins with the first that is kept
            expected = await offset_gaps.first_kept(self.mailstream_settings, tp)
            if self.is_draining or self.drains != drains:
                return None
        if expected is not None and offset > expected:
            # markers of transactions and compacted records leave offsets without a record
            await offset_gaps.require_empty(self.mailstream_settings, tp, expected, offset)
            if self.is_draining or self.drains != drains:
                return None
            self.acks.skip_to(tp, offset)
        return self.acks.add(tp, offset)

    def lag(self, tp: TP) -> int:
        """Records of an assigned partition that are not acked: not read yet, as far as the last fetch told, or in work."""
        if tp not in self.consumer.assignment():
            return 0
        end, last = self.consumer.highwater(tp) or 0, self.acks.last(tp)
        if last is None:
            last = (self.consumer._committed_offset[tp] or end) - 1
        return max(0, end - 1 - last) + self.acks.unfinished(tp)

    def lose_log(self, tp: TP, error: LogLost) -> None:
        """Take nothing more of this partition until an operator gives up what it lost: nothing of it is committed."""
        log.error("requests or events were lost", what=str(error), partition=tp.partition, records=error.records)
        self.lost_logs[tp] = str(error)
        LOST_RECORDS.labels(tp.topic, str(tp.partition)).set(error.records)

    async def _consumer_wait_empty(self, consumer: Any, logger: Any) -> None:
        """Runs on every revoke and on stop, after the flow stopped and the queues were cleared.

        Replaces ``stream_wait_empty``, whose wait has no limit, and commits what Faust forgets at a revoke.
        """
        self.is_draining = True
        self.drains += 1
        try:
            async with asyncio.timeout(DRAIN_SECONDS):
                for drain in self.on_drain:
                    await drain()
        except TimeoutError:
            log.warning("drain ended by its limit", seconds=DRAIN_SECONDS)
        await self._commit_heads(consumer, seconds=5.0)
        self.acks.forget()
        self._committed.clear()

    async def _commit_heads(self, consumer: Any, seconds: float) -> None:
        assigned = consumer.assignment()
        heads = {tp: n for tp, n in self.acks.committable().items() if tp in assigned and self._committed.get(tp) != n}
        if not heads:
            return
        try:
            if await asyncio.wait_for(consumer._commit(heads), seconds):
                self._committed.update(heads)
        except Exception as error:  # what is not committed is read again and known again
            log.warning("commit failed, the records are read again", error=type(error).__name__)

    @Service.timer(COMMIT_SECONDS)  # type: ignore[untyped-decorator]
    async def _commit_regularly(self) -> None:
        if not self.is_draining and self._consumer is not None:
            await self._commit_heads(self.consumer, seconds=30.0)

    async def _hold_flow(self, *_: Any, **__: Any) -> None:
        """Recovery is over; Faust will seek and then clear its queues: nothing may be delivered between (issue 596).

        Faust resumes both by itself after the seek.
        """
        self.consumer.stop_flow()
        self.flow_control.suspend()

    async def _on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        self.acks.forget()
        for tp in self.lost_logs:
            LOST_RECORDS.remove(tp.topic, str(tp.partition))
        self.lost_logs.clear()  # what is still so is found out again
        self.is_draining = self.has_failed
        await super()._on_partitions_assigned(assigned, generation_id)

    def fail(self, error: BaseException) -> None:
        """Start nothing any more and end the process with exit 1, because of a bug or of a log that is lost to us.

        Everything is crash-safe: nothing is lost.
        """
        self._end(error)
        self.add_future(self.crash(error))

    def _crash(self, reason: BaseException) -> None:
        if not self.has_failed:  # a part of Faust or of ours has crashed
            self._end(reason)
        super()._crash(reason)

    def _end(self, error: BaseException) -> None:
        log.error("the worker ends", error=str(error) or repr(error), exc_info=error)
        self.has_failed = self.is_draining = True

    async def on_stop(self) -> None:
        """Stop within STOP_SECONDS: Faust and aiokafka wait for an absent broker without limit."""
        if self.in_worker:
            timer = threading.Timer(STOP_SECONDS, _give_up)  # the loop itself may be what does not go on
            timer.daemon = True
            timer.start()
        await super().on_stop()

    def membership_age(self) -> float:
        """Seconds since the group coordinator last confirmed this member, time asleep included."""
        return boot_time() - self.heard_at


def _give_up() -> None:
    log.error("stop took too long, the process ends; nothing is lost", seconds=STOP_SECONDS)
    os._exit(1)
