"""Per partition, how much of ``email.attempts`` need never be read again.

Kept as committed offsets of a group without members. The metadata say who wrote the checkpoint, and where
``email.status`` ended then: foreign records behind that place may hide a higher status that compaction removed.
"""

import json
from contextlib import suppress
from dataclasses import dataclass

from confluent_kafka import TopicPartition

from mailstream.domain import topics
from mailstream.domain.errors import NotCaughtUp
from mailstream.domain.topics import GROUP_CHECKPOINTS
from mailstream.kafka.kafka import Kafka

SECONDS = 30.0  #: without an answer of the coordinator before a load fails and the process ends
#: Behind any end of ``email.status``: its records are gone, and being made anew. Until that is done no worker starts.
IN_REBUILD = 1 << 62


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Offset of ``email.attempts``; writer and end of ``email.status`` when it was made."""

    offset: int
    writer: str
    status_end: int


def checkpoint_of(committed: TopicPartition) -> Checkpoint | None:
    """The checkpoint that a committed offset is; None where there is none."""
    if committed.offset < 0 or not committed.metadata:
        return None
    made = json.loads(committed.metadata)
    return Checkpoint(committed.offset, made["writer"], made["status_end"])


def why_lost(mark: Checkpoint | None, status_end: int, attempts_end: int) -> str | None:
    """Why the partition's statuses cannot be trusted: the topic was made anew, or a broker lost its newest records."""
    if mark is not None and mark.status_end == IN_REBUILD:
        return "was being rebuilt, and that was not finished"
    if status_end == 0 and attempts_end > (mark.offset if mark is not None else 0):  # a claim stands behind a status
        return "is empty, though email.attempts is not"
    if mark is not None and status_end < mark.status_end:
        return f"ends at offset {status_end}, but reached {mark.status_end} before"
    return None


class Checkpoints:
    """Read and written as offsets of a group without members."""

    def __init__(self, kafka: Kafka) -> None:
        self._topic = kafka.name_of(topics.ATTEMPTS)
        self._offsets = kafka.offsets(GROUP_CHECKPOINTS)

    async def read(self, partitions: set[int]) -> dict[int, Checkpoint]:
        """The checkpoints that exist. A missing one means: from the beginning. Raises NotCaughtUp."""
        asked = [TopicPartition(self._topic, partition) for partition in partitions]
        found = await self._offsets.committed(asked, seconds=SECONDS)
        return {place.partition: made for place in found if (made := checkpoint_of(place)) is not None}

    async def write(self, checkpoints: dict[int, Checkpoint]) -> None:
        """Commit checkpoints, in one try. A failure only means that more is read again, so it is swallowed."""
        with suppress(NotCaughtUp):
            await self.write_surely(checkpoints, seconds=0)

    async def write_surely(self, checkpoints: dict[int, Checkpoint], *, seconds: float = SECONDS) -> None:
        """Commit checkpoints. Raises NotCaughtUp when they may not be there."""
        offsets = []
        for partition, made in checkpoints.items():
            metadata = json.dumps({"writer": made.writer, "status_end": made.status_end})
            offsets.append(TopicPartition(self._topic, partition, made.offset, metadata))
        if offsets:
            await self._offsets.commit(offsets, seconds=seconds)

    async def close(self) -> None:
        """Close the client."""
        await self._offsets.close()
