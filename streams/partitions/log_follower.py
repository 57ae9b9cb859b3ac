"""Follow ``email.status`` and ``email.attempts`` of the owned partitions, for as long as they are owned."""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field

import msgspec
from confluent_kafka import Message

from mailstream.domain import topics
from mailstream.domain.errors import NotCaughtUp
from mailstream.kafka import tail
from mailstream.kafka.checkpoints import Checkpoint
from mailstream.kafka.kafka import Kafka
from mailstream.kafka.offsets import LogEnds
from mailstream.kafka.tail import End
from streams.statuses.projection import Projection

STUCK_SECONDS = 60.0  #: without progress in a load before it fails and the process ends
#: After a batch of so many records, what the tail waits for more of them: a few large batches cost less than many small.
MANY, BUSY_SECONDS = 16, 0.003


@dataclass(slots=True, eq=False)
class _Followed:
    """One ownership of a partition: how far its logs were taken, and which of its statuses are in doubt."""

    mark: Checkpoint | None  #: until it is known where the fold of ``email.attempts`` begins
    ends: dict[str, int] = field(default_factory=dict)  #: of each topic, behind what was taken
    suspects: set[str] = field(default_factory=set)  #: emails whose last record is foreign and behind the checkpoint


class LogFollower:
    """Make it inside the loop. What the logs bring goes to the projection, in log order."""

    def __init__(
        self,
        kafka: Kafka,
        ends: LogEnds,
        projection: Projection,
        failed: Callable[[Exception], None],
    ) -> None:
        self._attempts, self._status = kafka.name_of(topics.ATTEMPTS), kafka.name_of(topics.STATUS)
        self._ends, self._projection = ends, projection
        self._followed: dict[int, _Followed] = {}
        self._has_moved = asyncio.Event()
        self._newest = 0  #: entries in the newest batch
        self._tail = kafka.tail(
            self._take, name="ownership", failed=failed, patience=self._patience, **tail.LITTLE_AHEAD
        )

    # -- partitions ---------------------------------------------------------------------------------------

    async def follow_statuses(self, marks: Mapping[int, Checkpoint | None]) -> None:
        """Take all statuses of new partitions, each with its checkpoint, and go on with what comes. Raises NotCaughtUp."""
        self._followed |= {partition: _Followed(mark) for partition, mark in marks.items()}
        firsts = await self._ends.first(self._status, marks)
        await self._tail.follow((self._status, p, firsts[self._status, p]) for p in marks)
        await self._catch_up(self._status, marks)

    async def follow_attempts(self, starts: Mapping[int, int]) -> None:
        """Fold ``email.attempts`` from these offsets on, and go on with what comes. Raises NotCaughtUp."""
        for partition, start in starts.items():
            self._projection.begin(partition, start)
            self._followed[partition].mark = None
            self._followed[partition].suspects.clear()
        await self._tail.follow((self._attempts, p, start) for p, start in starts.items())
        await self._catch_up(self._attempts, starts)

    async def catch_up(self, partitions: Iterable[int]) -> None:
        """Wait until all that was in these partitions just now has been taken. Raises NotCaughtUp."""
        await self._catch_up(self._status, partitions)
        await self._catch_up(self._attempts, partitions)

    async def leave(self, partitions: Set[int]) -> None:
        """Stop following these."""
        await self._tail.leave((topic, p) for p in partitions for topic in (self._attempts, self._status))
        for partition in partitions:
            self._followed.pop(partition, None)

    def is_suspect(self, partition: int) -> bool:
        """Whether foreign records behind the checkpoint may hide a higher status."""
        return bool(self._followed[partition].suspects)

    def status_end(self, partition: int) -> int:
        """The first offset of ``email.status`` that was not taken."""
        followed = self._followed.get(partition)
        return 0 if followed is None else followed.ends.get(self._status, 0)

    async def close(self) -> None:
        """Follow nothing any more."""
        await self._tail.close()

    # -- records ------------------------------------------------------------------------------------------

    def _patience(self) -> float:
        return BUSY_SECONDS if self._newest >= MANY else 0.0

    def _take(self, batch: Sequence[Message | End]) -> None:
        self._newest = len(batch)
        for entry in batch:
            if isinstance(entry, End):
                topic, partition, offset = entry
            else:
                topic, partition, offset = entry.topic() or "", entry.partition() or 0, entry.offset() or 0
            if (followed := self._followed.get(partition)) is None:
                continue  # it was on its way when the partition was lost
            if not isinstance(entry, End):
                if topic == self._attempts:
                    self._projection.attempt(partition, offset, entry.value())
                else:
                    self._take_status(followed, entry)
                offset += 1
            followed.ends[topic] = offset
        self._has_moved.set()

    def _take_status(self, followed: _Followed, record: Message) -> None:
        partition, offset, key, value = record.partition() or 0, record.offset() or 0, record.key(), record.value()
        if key is None:
            return
        self._projection.status(partition, offset, key, value)
        if value is not None and (mark := followed.mark) is not None and offset >= mark.status_end:
            is_of_mark = value.startswith(b'{"writer":' + msgspec.json.encode(mark.writer))
            (followed.suspects.discard if is_of_mark else followed.suspects.add)(key.decode("utf-8", "replace"))

    async def _catch_up(self, topic: str, partitions: Iterable[int]) -> None:
        partitions = set(partitions)
        if not partitions:
            return
        ends = await self._ends.last(topic, partitions)
        while any(self._followed[p].ends.get(topic, -1) < ends[topic, p] for p in partitions):
            self._has_moved.clear()
            try:
                async with asyncio.timeout(STUCK_SECONDS):
                    await self._has_moved.wait()
            except TimeoutError:
                raise NotCaughtUp(f"{topic} did not move for {STUCK_SECONDS:.0f} s while loading") from None
