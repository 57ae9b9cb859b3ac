"""What the brokers say about the log right now: where it begins and ends, and how far the workers have read."""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from typing import Any

from confluent_kafka import IsolationLevel, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]  # exported only at run time

from mailstream.domain.errors import NotCaughtUp
from mailstream.kafka.config import admin
from mailstream.kafka.group_offsets import GroupOffsets
from mailstream.settings import Settings

#: Topic and partition.
Partition = tuple[str, int]

_PAUSE_SECONDS = 0.05
_FIRST, _LAST = OffsetSpec.earliest(), OffsetSpec.latest()  # type: ignore[no-untyped-call]


class LogEnds:
    """Questions to the brokers. Each raises NotCaughtUp when no answer comes in time."""

    def __init__(self, settings: Settings, *, seconds: float = 1.5) -> None:
        self._settings, self._partitions, self._seconds = settings, settings.partitions, seconds
        self._admin: AdminClient = admin(settings)
        self._one_try = min(seconds, 5.0)
        self._groups: dict[str, GroupOffsets] = {}

    async def first(self, topic: str, partitions: Iterable[int] | None = None) -> dict[Partition, int]:
        """The first offset that is kept, of these partitions or of all."""
        return await self._offsets(topic, partitions, _FIRST)

    async def last(self, topic: str, partitions: Iterable[int] | None = None) -> dict[Partition, int]:
        """The offset behind the last record that can be read now, of these partitions or of all.

        Records behind the begin of an open transaction, its own and those of others, can be read when it has ended.
        """
        return await self._offsets(topic, partitions, _LAST)

    async def high(self, topic: str, partitions: Iterable[int] | None = None) -> dict[Partition, int]:
        """The offset behind the last record that was acknowledged, whether it can be read now or not.

        A reader that has come so far has seen every record that was acknowledged.
        """
        return await self._offsets(topic, partitions, _LAST, IsolationLevel.READ_UNCOMMITTED)

    async def committed(self, topic: str, group: str) -> dict[Partition, int]:
        """How far the group has read; only partitions for which it ever said so."""
        if group not in self._groups:
            self._groups[group] = GroupOffsets(self._settings, group)
        asked = [TopicPartition(topic, partition) for partition in range(self._partitions)]
        found = await self._groups[group].committed(asked, seconds=self._seconds)
        return {(part.topic, part.partition): part.offset for part in found if part.offset >= 0}

    async def _offsets(
        self,
        topic: str,
        partitions: Iterable[int] | None,
        spec: Any,
        isolation: IsolationLevel = IsolationLevel.READ_COMMITTED,
    ) -> dict[Partition, int]:
        wanted = range(self._partitions) if partitions is None else partitions
        asked = {TopicPartition(topic, partition): spec for partition in wanted}
        answers = await self._answers(
            lambda: self._admin.list_offsets(asked, isolation_level=isolation, request_timeout=self._one_try)
        )
        return {(topic, part.partition): answer.offset for part, answer in zip(asked, answers, strict=True)}

    async def _answers(self, question: "Callable[[], Mapping[Any, Future[Any]]]") -> list[Any]:
        """Ask until there is an answer: a partition may be without a leader for a moment."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._seconds
        while True:
            try:
                asked = asyncio.gather(*(asyncio.wrap_future(answer) for answer in question().values()))
                asked.add_done_callback(_seen)
                # not wait_for: Python 3.11's swallows a cancellation that comes together with the answer
                async with asyncio.timeout(max(0.1, deadline - loop.time())):
                    return await asyncio.shield(asked)
            except TimeoutError:
                raise NotCaughtUp("the brokers do not answer in time") from None
            except KafkaException as error:
                if error.args[0].code() == KafkaError.FENCED_LEADER_EPOCH:
                    # an admin client remembers the epoch of a leader that was replaced, and never asks for the new one
                    self._admin = admin(self._settings)
                if loop.time() > deadline:
                    raise NotCaughtUp(f"the brokers do not answer ({error.args[0].name()})") from None
            await asyncio.sleep(_PAUSE_SECONDS)


def _seen(done: "asyncio.Future[Any]") -> None:
    """Mark a failure as seen that comes when no caller waits for it."""
    if not done.cancelled():
        done.exception()
