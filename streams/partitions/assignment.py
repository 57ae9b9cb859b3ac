"""What happens at a rebalance, all of it: partitions are assigned, loaded, drained, revoked, and closed at the end.

All that lives with partitions has the same verbs, and is called from here: ``gained`` and ``lost``.

The order of a load: all of ``email.status``, merged by rank; then ``email.attempts`` from the checkpoint to its end; then
what stands unread is looked through (``barrier.py``); then the agents start and emails may be claimed. Both logs are
followed for as long as the partition is owned (``log_follower.py``).
"""

import asyncio
import time
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Protocol

import structlog
from faust.types import TP

from mailstream.domain import topics
from mailstream.domain.errors import LogLost, StatusesLost
from mailstream.domain.topics import GROUP_CHECKPOINTS, Naming
from mailstream.kafka.checkpoints import Checkpoint, Checkpoints, why_lost
from mailstream.kafka.kafka import Kafka
from mailstream.kafka.offsets import LogEnds
from mailstream.kafka.producer import Publisher
from streams.core.pace import Pace
from streams.failpoints import failpoint
from streams.faust_guards.app import GuardedApp
from streams.maintenance.topics_watch import TopicsWatch
from streams.metrics import LOAD_SECONDS, OWNED
from streams.partitions.barrier import Barrier
from streams.partitions.log_follower import LogFollower
from streams.sending.clearance import Clearance
from streams.sending.dispatcher import Dispatcher
from streams.sending.gate import read_clocks
from streams.statuses.projection import Projection
from streams.statuses.table import StatusTable

log = structlog.get_logger(__name__)

CHECKPOINT_SECONDS = 60.0


class Resident(Protocol):
    """Keeps something for each owned partition."""

    def lost(self, partitions: Set[int]) -> None:
        """These belong to others now: forget them."""


@dataclass(slots=True, kw_only=True, eq=False)
class Assignment:
    """Which partitions are ours. Each method raises NotCaughtUp when Kafka does not deliver: the process must end."""

    app: GuardedApp
    kafka: Kafka
    ends: LogEnds
    publisher: Publisher
    table: StatusTable
    projection: Projection
    logs: LogFollower
    checkpoints: Checkpoints
    barrier: Barrier
    topics_watch: TopicsWatch
    pace: Pace
    dispatch: Dispatcher
    clearance: Clearance
    residents: Sequence[Resident]  #: in the order in which they let go
    _generation: int = field(init=False, default=0)  #: of the group, at the last assignment
    _had_some: bool = field(init=False, default=False)  #: whether it owned partitions in that generation
    _change: asyncio.Future[None] | None = field(init=False, default=None)  #: the newest
    _is_closing: bool = field(init=False, default=False)

    async def warm_up(self) -> None:
        """Connect and find the coordinator while the group forms: it costs a second, once."""
        await self.checkpoints.read({0})
        await self.ends.last(self.kafka.name_of(topics.STATUS))

    # -- assigned -----------------------------------------------------------------------------------------

    async def assigned(self, tps: set[TP], generation: int) -> None:
        """Own the partitions of these, and no others; return when they are loaded."""
        requested, count = self.kafka.name_of(topics.REQUESTED), self.kafka.settings.partitions
        partitions = frozenset(tp.partition for tp in tps if tp.topic == requested)
        if any(partition >= count for partition in partitions):  # they were added just now
            await self.topics_watch.look()  # before anything is claimed; requests in them are astray, and moved
            partitions = frozenset(partition for partition in partitions if partition < count)
        is_unbroken = generation == self._generation + 1 and self._had_some
        if self._is_closing:
            return
        self._change = asyncio.ensure_future(self._change_to(partitions))
        try:
            await self._change
        except asyncio.CancelledError:
            if not self._is_closing:
                raise
            return
        self._generation, self._had_some = generation, bool(partitions)
        self.clearance.partitions = partitions
        self.pace.owns(partitions, read_clocks(), without_break=is_unbroken)
        self.dispatch.wake()

    async def _change_to(self, assigned: frozenset[int]) -> None:
        begun = time.monotonic()
        owned = frozenset(self.table.owned())
        gained, lost, kept = assigned - owned, owned - assigned, assigned & owned
        if lost:
            await self._revoked(lost)
        if gained:
            await self._load(gained)
        await self.logs.catch_up(kept)  # another owner may have been here while the group rebalanced
        for partition in assigned:
            self.table.applied(partition, self.logs.status_end(partition))
        await self.barrier.look(assigned)
        OWNED.set(len(assigned))
        if gained:
            seconds = time.monotonic() - begun
            LOAD_SECONDS.set(seconds)
            log.info("partitions loaded", gained=len(gained), owned=len(assigned), seconds=round(seconds, 2))

    # -- load ---------------------------------------------------------------------------------------------

    async def _load(self, gained: frozenset[int]) -> None:
        self.projection.gained(gained)
        self.table.gained(gained)
        found = await self.checkpoints.read(set(gained))
        marks = {partition: found.get(partition) for partition in gained}
        await self.logs.follow_statuses(marks)
        failpoint("C13", "")
        attempts = self.kafka.name_of(topics.ATTEMPTS)
        begins, ends = await self.ends.first(attempts, gained), await self.ends.last(attempts, gained)
        for partition, mark in marks.items():
            self._require_read(partition, mark, ends[attempts, partition])
        self._require_statuses(marks, ends)
        await self.logs.follow_attempts(
            {
                partition: self._start_of(partition, mark, begins[attempts, partition])
                for partition, mark in marks.items()
            }
        )
        await self.projection.whole(gained)
        await self.write_checkpoints()

    def _start_of(self, partition: int, mark: Checkpoint | None, begin: int) -> int:
        """Where the fold of ``email.attempts`` begins: at the checkpoint, unless something may hide a higher status."""
        if mark is None:
            return begin
        if begin > mark.offset:
            raise LogLost(
                f"{self._attempts_of(partition)}: the records {mark.offset} to {begin - 1} were deleted before they were "
                "read. Who was called meanwhile is unknown: restore the topic, or give these records up by deleting the "
                f"group {self._group()} while no worker runs; then an email that was called may be called again. Nothing "
                "was sent",
                records=begin - mark.offset,
            )
        if self.logs.is_suspect(partition):
            log.warning("foreign records behind the checkpoint, the whole log is folded", partition=partition)
            return begin
        return mark.offset

    def _require_read(self, partition: int, mark: Checkpoint | None, end: int) -> None:
        """Raise LogLost when ``email.attempts`` ends before what was read of it: a fold of the rest would know too little."""
        if mark is not None and mark.offset > end:
            raise LogLost(
                f"{self._attempts_of(partition)}: it ends at offset {end}, but was read up to {mark.offset} before: it was "
                "restored from an older copy, or a broker lost its newest records. Who was called meanwhile is unknown, and "
                "nothing was sent. Restore the topic with all its records, or give them up by deleting the group "
                f"{self._group()} while no worker runs; then an email that was called may be called again",
                records=mark.offset - end,
            )

    def _require_statuses(self, marks: Mapping[int, Checkpoint | None], ends: Mapping[tuple[str, int], int]) -> None:
        """Raise StatusesLost when statuses are gone: emails that were called would be taken for new ones."""
        attempts, status = self.kafka.name_of(topics.ATTEMPTS), self.kafka.name_of(topics.STATUS)
        lost = [
            f"{status}/{partition} {why}"
            for partition, mark in sorted(marks.items())
            if (why := why_lost(mark, self.logs.status_end(partition), ends[attempts, partition]))
        ]
        if lost:
            raise StatusesLost(
                f"Statuses were lost: {'; '.join(lost)}. Nothing was claimed or sent, and the other topics hold what is "
                "needed to make them anew. Stop all workers, run `mailstream audit rebuild`, then start them again"
            )

    def _attempts_of(self, partition: int) -> str:
        return f"{self.kafka.name_of(topics.ATTEMPTS)}/{partition}"

    def _group(self) -> str:
        return Naming(self.kafka.settings.topic_prefix).of(GROUP_CHECKPOINTS)

    # -- drain, revoked, closed ---------------------------------------------------------------------------

    async def drain(self) -> None:
        """On revoke and stop: start nothing, give back what was not called; on a stop wait for calls too."""
        failpoint("C12", "")
        self.clearance.partitions = frozenset()  # nothing may start until what comes is loaded
        self.pace.owns((), read_clocks())
        await self.dispatch.drain(calls_too=self.app.should_stop)
        while self.publisher.pending():
            await asyncio.sleep(0.01)
        await self.write_checkpoints()

    async def _revoked(self, lost: frozenset[int]) -> None:
        await self.logs.leave(lost)
        for resident in self.residents:
            resident.lost(lost)

    async def write_checkpoints(self) -> None:
        """Say how far everything is settled, so that the next owner reads less."""
        made = {}
        for partition in self.table.owned() - self.projection.loading.keys():
            if (offset := self.projection.checkpoint(partition)) is not None:
                made[partition] = Checkpoint(offset, self.projection.writer, self.logs.status_end(partition))
        await self.checkpoints.write(made)

    def stop(self) -> None:
        """Load nothing more: an assignment that comes while the worker stops is another's."""
        self._is_closing = True
        if self._change is not None:
            self._change.cancel()

    async def close(self) -> None:
        """Write the last checkpoints and stop following."""
        if self._change is not None:
            await asyncio.gather(self._change, return_exceptions=True)
        await self.write_checkpoints()
        await self.logs.close()
        await self.checkpoints.close()
