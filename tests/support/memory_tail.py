"""The tail of a ``MemoryLog``: what ``mailstream.kafka.tail.Tail`` is to a real one."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from confluent_kafka import Message

from mailstream.domain.errors import NotCaughtUp
from mailstream.kafka.tail import End
from tests.support.memory_log import MemoryLog, Place


class MemoryTail:
    """Make it inside the running loop. One batch in a turn of the loop."""

    def __init__(
        self,
        log: MemoryLog,
        on_batch: Callable[[Any], None],
        *,
        name: str,
        failed: Callable[[Exception], None],
        batch: int = 1000,
        patience: Callable[[], float] | None = None,
        prepare: Callable[[Sequence[Message | End]], Any] | None = None,
        **_: Any,
    ) -> None:
        self._log, self._on_batch, self._failed = log, on_batch, failed
        self._batch, self._patience, self._prepare = batch, patience, prepare
        self._next: dict[Place, int] = {}
        self._told_end: dict[Place, int] = {}
        self._is_stopped = self._is_scheduled = False
        self._loop = asyncio.get_running_loop()
        log.listeners.append(self._wake)

    async def follow(self, positions: Iterable[tuple[str, int, int]]) -> None:
        """Also deliver these."""
        self._require_open()
        for topic, partition, start in positions:
            self._next[topic, partition] = self._log.first(topic, partition) if start < 0 else start
            self._told_end.pop((topic, partition), None)
        self._wake()

    async def leave(self, partitions: Iterable[Place]) -> None:
        """Deliver these no more."""
        self._require_open()
        for place in partitions:
            self._next.pop(place, None)

    async def close(self) -> None:
        """Stop reading."""
        self.die()

    def die(self) -> None:
        """Deliver nothing any more."""
        self._is_stopped = True
        if self._wake in self._log.listeners:
            self._log.listeners.remove(self._wake)

    def _require_open(self) -> None:
        if self._is_stopped:
            raise NotCaughtUp("the tail has ended: it follows nothing any more")

    def _wake(self) -> None:
        if not self._is_scheduled and not self._is_stopped:
            self._is_scheduled = True
            self._loop.call_later(self._patience() if self._patience is not None else 0.0, self._deliver)

    def _deliver(self) -> None:
        self._is_scheduled = False
        if self._is_stopped:
            return
        try:
            if not (batch := self._next_batch()):
                return
            self._on_batch(batch if self._prepare is None else self._prepare(batch))
        except Exception as error:
            self._is_stopped = True
            why = NotCaughtUp(str(error) if isinstance(error, _Hole) else f"what was read of {self._topics()} could "
                              f"not be taken ({type(error).__name__})")  # fmt: skip
            why.__cause__ = error
            self._failed(why)
        else:
            self._wake()

    def _next_batch(self) -> list[Message | End]:
        batch: list[Message | End] = []
        for place, start in self._next.items():
            topic, partition = place
            if not self._log.can_read(topic):
                continue
            if not self._log.first(*place) <= start <= self._log.end(*place):
                raise _Hole(f"{topic}/{partition} can be followed no more (_AUTO_OFFSET_RESET)")
            records = self._log.read(topic, partition, start, self._batch - len(batch))
            batch += records
            self._next[place] = end = start + len(records)
            if end == self._log.end(*place) and self._told_end.get(place) != end and len(batch) < self._batch:
                batch.append(End(topic, partition, end))
                self._told_end[place] = end
        return batch

    def _topics(self) -> str:
        return " and ".join(sorted({topic for topic, _ in self._next}))


class _Hole(Exception):
    """Records are gone that were to be delivered."""
