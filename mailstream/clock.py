"""Time, as a thing that is handed in: nothing else reads it, so that tests can set it."""

import asyncio
import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """Where a part of mailstream gets its time from."""

    def now(self) -> float:
        """Wall time in seconds since 1970 (UTC)."""

    def monotonic(self) -> float:
        """Seconds of a clock that never steps; only differences mean anything."""

    async def sleep(self, seconds: float) -> None:
        """Give the loop away for at least about that long."""


class SystemClock:
    """The machine's clocks."""

    def now(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


def boot_time() -> float:
    """Seconds since boot, time asleep included: a paused machine sees here how long it was away."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def moment(seconds: float) -> datetime:
    """A UTC moment from seconds since 1970."""
    return datetime.fromtimestamp(seconds, UTC)
