"""How far each followed partition has been applied, and a way to wait for it."""

import asyncio
import heapq
import threading
from collections.abc import Mapping

from mailstream.kafka.offsets import Partition


class Progress:
    """The next offset of each partition; waiting costs nothing until that partition has come far enough."""

    def __init__(self) -> None:
        self._next: dict[Partition, int] = {}
        self._waiting: dict[Partition, list[tuple[int, int, asyncio.Future[None]]]] = {}
        self._serial = 0
        self._count = 0
        self.awaited = threading.Event()  #: set while a caller waits; for other threads, too

    def advance(self, partition: Partition, offset: int) -> None:
        """All below this offset has been applied."""
        self._next[partition] = offset
        if waiting := self._waiting.get(partition):
            while waiting and waiting[0][0] <= offset:
                future = heapq.heappop(waiting)[2]
                if not future.done():
                    future.set_result(None)

    async def reach(self, ends: Mapping[Partition, int]) -> None:
        """Wait until all below these offsets has been applied."""
        for partition, offset in ends.items():
            if self._next.get(partition, -1) < offset:
                await self._wait(partition, offset)

    async def _wait(self, partition: Partition, offset: int) -> None:
        self._serial += 1
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting.setdefault(partition, []), (offset, self._serial, future))
        self._count += 1
        self.awaited.set()
        try:
            await future
        finally:
            self._count -= 1
            if self._count == 0:
                self.awaited.clear()
