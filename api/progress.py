"""How far each followed partition has been applied, and a way to wait for it."""

import asyncio
import heapq
from collections.abc import Mapping

from mailstream.log.ends import Partition


class Progress:
    """The next offset of each partition; waiting costs nothing until that partition has come far enough."""

    def __init__(self) -> None:
        self._next: dict[Partition, int] = {}
        self._waiting: dict[Partition, list[tuple[int, int, asyncio.Future[None]]]] = {}
        self._serial = 0
        self._awaited = 0

    def advance(self, partition: Partition, offset: int) -> None:
        """All below this offset has been applied."""
        self._next[partition] = offset
        if waiting := self._waiting.get(partition):
            while waiting and waiting[0][0] <= offset:
                future = heapq.heappop(waiting)[2]
                if not future.done():
                    future.set_result(None)

    def has_reached(self, partition: Partition, offset: int) -> bool:
        """Whether all below this offset has been applied."""
        return self._next.get(partition, -1) >= offset

    def is_awaited(self) -> bool:
        """Whether anybody waits; may be asked from any thread."""
        return self._awaited > 0

    async def reach(self, ends: Mapping[Partition, int]) -> None:
        """Wait until all below these offsets has been applied."""
        for partition, offset in ends.items():
            if not self.has_reached(partition, offset):
                await self._wait(partition, offset)

    async def _wait(self, partition: Partition, offset: int) -> None:
        self._serial += 1
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting.setdefault(partition, []), (offset, self._serial, future))
        self._awaited += 1
        try:
            await future
        finally:
            self._awaited -= 1
