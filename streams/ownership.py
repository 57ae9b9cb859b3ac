"""Load what a partition brings, drop what it takes away; between the two, follow its logs (K7, amendment 15).

The order at an assignment: all of ``email.status``, merged by rank; then ``email.attempts`` from the checkpoint to its
end; then what stands unread is looked through (``barrier.py``); then the agents start and emails may be claimed. Both
tails go on for as long as the partition is owned.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence

import msgspec
import structlog
from confluent_kafka import Message

from mailstream import topics
from mailstream.email_id import partition_in
from mailstream.errors import LogLost, NotCaughtUp
from mailstream.log import tail
from mailstream.log.ends import LogEnds
from mailstream.log.kafka import Kafka
from mailstream.log.tail import End
from mailstream.status import EmailStatus
from mailstream.topics import GROUP_CHECKPOINTS, Naming
from streams.barrier import Barrier
from streams.checkpoints import IN_REBUILD, Checkpoint, Checkpoints
from streams.failpoints import failpoint
from streams.metrics import LOAD_SECONDS, OWNED
from streams.projection import Foreign, Projection
from streams.rebuild import Rebuild
from streams.table import StatusTable

log = structlog.get_logger(__name__)

STUCK_SECONDS = 60.0  #: without progress in a load before it fails and the process ends
CHECKPOINT_SECONDS = 60.0
AT_ONCE = 500  #: statuses of a new partition that are looked at between two turns of the loop
#: After a batch of so many records, what the tail waits for more of them: a few large batches cost less than many small.
MANY, BUSY_SECONDS = 16, 0.003


class Ownership:
    """Make it inside the loop. ``gained`` is called with each status of a new partition, once it is whole."""

    def __init__(
        self,
        kafka: Kafka,
        *,
        table: StatusTable,
        projection: Projection,
        rebuild: Rebuild,
        ends: LogEnds,
        barrier: Barrier,
        gained: Callable[[EmailStatus, int], None],
        lost: Callable[[set[int]], None],
        failed: Callable[[Exception], None],
    ) -> None:
        self._attempts, self._status = kafka.name_of(topics.ATTEMPTS), kafka.name_of(topics.STATUS)
        self._group = Naming(kafka.settings.topic_prefix).of(GROUP_CHECKPOINTS)
        self._table, self._projection, self._rebuild = table, projection, rebuild
        self._ends, self._barrier = ends, barrier
        self._gained, self._lost = gained, lost
        self._partitions: set[int] = set()
        self._reached: dict[tuple[str, int], int] = {}  #: next offset of each tail
        self._has_moved = asyncio.Event()
        self.loading: set[int] = set()  #: partitions that are not whole yet
        self._lowered: set[tuple[str, int]] = set()  #: while loading: emails whose last record is not their highest
        self._suspects: set[tuple[str, int]] = set()  #: while loading: last record foreign and behind the checkpoint
        self._marks: dict[int, Checkpoint] = {}
        self._checkpoints = Checkpoints(kafka)
        self._newest = 0  #: entries in the newest batch of the tail
        self._tail = kafka.tail(
            self._take, name="ownership", failed=failed, patience=self._patience, **tail.LITTLE_AHEAD
        )

    async def warm_up(self) -> None:
        """Connect and find the coordinator while the group forms: it costs a second, once."""
        await self._checkpoints.read({0})
        await self._ends.last(self._status)

    # -- changing hands -----------------------------------------------------------------------------------

    async def change(self, assigned: set[int]) -> None:
        """Make ``assigned`` what is owned. Raises NotCaughtUp when Kafka does not deliver: the process must end."""
        begun = time.monotonic()
        lost, gained = self._partitions - assigned, assigned - self._partitions
        if lost:
            await self._let_go(lost)
        if gained:
            await self._load(gained)
        kept = assigned - gained
        await self._catch_up(self._status, kept)  # another owner may have been here while the group rebalanced
        await self._catch_up(self._attempts, kept)
        await self._barrier.look(assigned)
        OWNED.set(len(assigned))
        if gained:
            LOAD_SECONDS.set(time.monotonic() - begun)
            log.info(
                "partitions loaded", gained=len(gained), owned=len(assigned), seconds=round(time.monotonic() - begun, 2)
            )

    async def _let_go(self, lost: set[int]) -> None:
        await self._tail.leave((topic, p) for p in lost for topic in (self._attempts, self._status))
        self._partitions -= lost
        self._projection.lose(lost)
        self._barrier.lose(lost)
        self._lost(lost)
        self._table.lose(lost)
        for partition in lost:
            self._reached.pop((self._attempts, partition), None)
            self._reached.pop((self._status, partition), None)

    async def _load(self, gained: set[int]) -> None:
        self._partitions |= gained
        self.loading |= gained
        self._marks = await self._checkpoints.read(gained)
        for partition in gained:
            self._table.gain(partition)
        firsts = await self._ends.first(self._status, gained)
        await self._tail.follow((self._status, p, firsts[self._status, p]) for p in gained)
        await self._catch_up(self._status, gained)
        failpoint("C13", "")
        begins = await self._ends.first(self._attempts, gained)
        ends = await self._ends.last(self._attempts, gained)
        for partition in gained:
            self._require_read(partition, ends[self._attempts, partition])
        emptied = {p for p in gained if self._is_emptied(p, ends[self._attempts, p])}
        if emptied:
            await self._begin_rebuild(emptied)
        starts = {
            p: begins[self._attempts, p] if p in emptied else self._start_of(p, begins[self._attempts, p])
            for p in gained
        }
        for partition, start in starts.items():
            self._projection.begin(partition, start)
        await self._tail.follow((self._attempts, p, start) for p, start in starts.items())
        await self._catch_up(self._attempts, gained)
        if emptied:
            await self._rebuild.events(emptied)
            await self._rebuild.write(emptied)
        self.loading -= gained
        for email_id, partition in self._lowered:
            self._table.rewrite(email_id, partition)
        self._lowered, self._suspects, self._marks = set(), set(), {}
        for count, status in enumerate(self._table.statuses(gained)):
            if count % AT_ONCE == 0:
                await asyncio.sleep(0)
            self._gained(status, partition_in(status.id, self._table.partition_count))
        await self.write_checkpoints()

    def _start_of(self, partition: int, begin: int) -> int:
        """Where the fold of ``email.attempts`` begins: at the checkpoint, unless something may hide a higher status."""
        mark = self._marks.get(partition)
        if mark is None:
            return begin
        if begin > mark.offset:
            raise LogLost(
                f"{self._attempts}/{partition}: the records {mark.offset} to {begin - 1} were deleted before they were read. "
                "Who was called meanwhile is unknown: restore the topic, or give these records up by deleting the group "
                f"{self._group} while no worker runs; then an email that was called may be called again. Nothing was sent",
                records=begin - mark.offset,
            )
        if any(suspect[1] == partition for suspect in self._suspects):
            log.warning("foreign records behind the checkpoint, the whole log is folded", partition=partition)
            return begin
        return mark.offset

    def _require_read(self, partition: int, end: int) -> None:
        """Raise LogLost when ``email.attempts`` ends before what was read of it: a fold of the rest would know too little."""
        mark = self._marks.get(partition)
        if mark is not None and mark.offset > end:
            raise LogLost(
                f"{self._attempts}/{partition}: it ends at offset {end}, but was read up to {mark.offset} before: it was "
                "restored from an older copy, or a broker lost its newest records. Who was called meanwhile is unknown, and "
                f"nothing was sent. Restore the topic with all its records, or give them up by deleting the group {self._group} "
                "while no worker runs; then an email that was called may be called again",
                records=mark.offset - end,
            )

    def _is_emptied(self, partition: int, end_of_attempts: int) -> bool:
        """Whether the partition's statuses are gone: the topic was made anew, or a broker lost its newest records."""
        end, mark = self._reached.get((self._status, partition), 0), self._marks.get(partition)
        if mark is None:  # a checkpoint may also expire: then only if nothing at all is there
            return end == 0 and end_of_attempts > 0
        return end < mark.status_end

    async def _begin_rebuild(self, partitions: set[int]) -> None:
        writer = self._projection.writer
        await self._checkpoints.write_surely({p: Checkpoint(0, writer, IN_REBUILD) for p in partitions})
        for partition in partitions:
            self._table.silent(partition)
        await self._rebuild.requests(partitions)

    # -- following ----------------------------------------------------------------------------------------

    def _patience(self) -> float:
        return BUSY_SECONDS if self._newest >= MANY else 0.0

    def _take(self, batch: Sequence[Message | End]) -> None:
        self._newest = len(batch)
        reached: dict[tuple[str, int], int] = {}
        for entry in batch:
            if isinstance(entry, End):
                reached[entry.topic, entry.partition] = entry.offset
            else:
                topic, partition, offset = entry.topic() or "", entry.partition() or 0, entry.offset() or 0
                self._take_record(topic, partition, offset, entry)
                reached[topic, partition] = offset + 1
        for (topic, partition), offset in reached.items():
            if partition in self._partitions:  # else it was on its way when the partition was lost
                self._reach(topic, partition, offset)
        self._has_moved.set()

    def _take_record(self, topic: str, partition: int, offset: int, record: Message) -> None:
        if partition not in self._partitions:
            return  # it was on its way when the partition was lost
        if topic == self._attempts:
            self._projection.attempt(partition, offset, record.value())
        else:
            self._take_status(partition, offset, record.key(), record.value())

    def _take_status(self, partition: int, offset: int, key: bytes | None, value: bytes | None) -> None:
        is_loading = partition in self.loading
        verdict = self._projection.foreign(partition, offset, key, value, is_loading=is_loading)
        if verdict is Foreign.NONE or key is None:
            return
        email_id = key.decode("utf-8", "replace")
        if not is_loading:
            if verdict is Foreign.LOWERS:
                self._table.rewrite(email_id, partition)
            return
        # while loading a higher record may still follow: written over only when all is known
        (self._lowered.add if verdict is Foreign.LOWERS else self._lowered.discard)((email_id, partition))
        mark = self._marks.get(partition)
        if mark is not None and offset >= mark.status_end:
            is_of_mark = (value or b"").startswith(b'{"writer":' + msgspec.json.encode(mark.writer))
            (self._suspects.discard if is_of_mark else self._suspects.add)((email_id, partition))

    def _reach(self, topic: str, partition: int, next_offset: int) -> None:
        self._reached[topic, partition] = next_offset
        if topic == self._status:
            self._table.applied(partition, next_offset)

    async def _catch_up(self, topic: str, partitions: Iterable[int]) -> None:
        """Wait until all that was in these partitions just now has been taken."""
        partitions = set(partitions)
        if not partitions:
            return
        ends = await self._ends.last(topic, partitions)
        behind = {p for p in partitions if self._reached.get((topic, p), -1) < ends[topic, p]}
        while behind:
            self._has_moved.clear()
            try:
                async with asyncio.timeout(STUCK_SECONDS):
                    await self._has_moved.wait()
            except TimeoutError:
                raise NotCaughtUp(f"{topic} did not move for {STUCK_SECONDS:.0f} s while loading") from None
            behind = {p for p in behind if self._reached.get((topic, p), -1) < ends[topic, p]}

    # -- checkpoints --------------------------------------------------------------------------------------

    async def write_checkpoints(self) -> None:
        """Say how far everything is settled, so that the next owner reads less."""
        made = {}
        for partition in self._partitions - self.loading:
            offset = self._projection.checkpoint(partition)
            if offset is not None:
                end = self._reached.get((self._status, partition), 0)
                made[partition] = Checkpoint(offset, self._projection.writer, end)
        await self._checkpoints.write(made)

    async def run(self) -> None:
        """Write checkpoints now and then, for ever."""
        while True:
            await asyncio.sleep(CHECKPOINT_SECONDS)
            await self.write_checkpoints()

    async def close(self) -> None:
        """Write the last checkpoints and stop following."""
        await self.write_checkpoints()
        await self._tail.close()
        await self._checkpoints.close()
