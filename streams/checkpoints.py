"""Per partition, how much of ``email.attempts`` need never be read again (K7, amendment 15).

Kept as committed offsets of a group without members. The metadata say who wrote the checkpoint, and where
``email.status`` ended then: foreign records behind that place may hide a higher status that compaction removed.
"""

import asyncio
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from confluent_kafka import Consumer, KafkaException, TopicPartition

from mailstream.log.client import connection
from mailstream.settings import Settings
from mailstream.topics import GROUP_CHECKPOINTS, Naming

#: Behind any end of ``email.status``: its records are gone, and being made anew. Until that is done, whoever owns the
#: partition next begins again.
IN_REBUILD = 1 << 62

Answer = TypeVar("Answer")


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


class Checkpoints:
    """One client on a thread of its own: confluent-kafka's is not for two, and a call outlives a caller that is cancelled."""

    def __init__(self, settings: Settings, topic: str) -> None:
        self._topic = topic
        group = Naming(settings.topic_prefix).of(GROUP_CHECKPOINTS)
        self._consumer = Consumer({**connection(settings), "group.id": group, "enable.auto.commit": False})
        self._thread = ThreadPoolExecutor(1, "checkpoints")

    async def read(self, partitions: set[int], seconds: float = 10.0) -> dict[int, Checkpoint]:
        """The checkpoints that exist. A missing one means: from the beginning. Raises KafkaException."""
        asked = [TopicPartition(self._topic, partition) for partition in partitions]
        found = await self._on_thread(partial(self._consumer.committed, asked, seconds))
        return {place.partition: made for place in found if (made := checkpoint_of(place)) is not None}

    async def write(self, checkpoints: dict[int, Checkpoint]) -> None:
        """Commit checkpoints. A failure only means that more is read again, so it is swallowed."""
        with suppress(KafkaException):
            await self.write_surely(checkpoints)

    async def write_surely(self, checkpoints: dict[int, Checkpoint]) -> None:
        """Commit checkpoints. Raises KafkaException when they may not be there."""
        offsets = []
        for partition, made in checkpoints.items():
            metadata = json.dumps({"writer": made.writer, "status_end": made.status_end})
            offsets.append(TopicPartition(self._topic, partition, made.offset, metadata))
        if not offsets:
            return
        await self._on_thread(partial(self._consumer.commit, offsets=offsets, asynchronous=False))

    async def close(self) -> None:
        """Close the client."""
        await self._on_thread(self._consumer.close)
        self._thread.shutdown()

    async def _on_thread(self, call: Callable[[], Answer]) -> Answer:
        return await asyncio.get_running_loop().run_in_executor(self._thread, call)
