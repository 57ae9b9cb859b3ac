"""The last gate: keeps the starts of calls in line and a gap apart, and asks once more whether a call may start at all.

It is passed when the connection is ready, so nothing that can block stands between it and the first byte.
"""

import asyncio
import time
from collections.abc import Callable

from streams.core.pace import Mode, Now, Pace
from streams.metrics import GAP, TURNS

#: A winner keeps its claim for its next turn, but not through a pause of the provider that is longer than this.
PATIENCE_SECONDS = 5.0
LOOK_SECONDS = 0.25  #: how often a waiting gate asks whether it must close


def read_clocks() -> Now:
    """Both clocks."""
    return Now(time.monotonic(), time.time_ns())


class Gate:
    """``closed`` says why no call may start now, or None."""

    def __init__(self, pace: Pace, closed: Callable[[], str | None]) -> None:
        self._pace, self._closed = pace, closed
        self._line = asyncio.Lock()  # first come, first served
        self._last: float | None = None

    async def passed(self, is_recalled: Callable[[], bool]) -> Now | None:
        """Wait for the next start of the account. None: the gate is closed or the claim recalled; release it."""
        if self._pace.mode is Mode.UNPACED:
            now = read_clocks()
            return None if self._closed() or is_recalled() or not self._pace.may_start(now) else now
        async with self._line:
            while True:
                if self._closed() or is_recalled():
                    return None
                now = read_clocks()
                if self._pace.may_start(now):
                    self._start(now)
                    return now
                at = self._pace.next_start(now)
                if at is None or (at - now.monotonic > PATIENCE_SECONDS and self._pace.is_paused(now)):
                    return None
                await sleep_until(at, LOOK_SECONDS)

    async def is_near(self) -> bool:
        """Wait until a connection need not be held for long until the next start. False: the gate is closed or paused."""
        while self._closed() is None:
            now = read_clocks()
            at = self._pace.next_start(now)
            if at is None or (at - now.monotonic > PATIENCE_SECONDS and self._pace.is_paused(now)):
                return False
            if (left := at - now.monotonic) <= LOOK_SECONDS:
                return True
            await asyncio.sleep(min(left - LOOK_SECONDS / 2, LOOK_SECONDS))
        return False

    def _start(self, now: Now) -> None:
        if self._pace.started(now) is not None:
            TURNS.inc()
        if self._last is not None:
            GAP.observe(now.monotonic - self._last)
        self._last = now.monotonic


async def sleep_until(deadline: float, longest: float) -> None:
    """Return at the monotonic deadline or just after it, never before; or after ``longest`` seconds.

    A single loop timer misses on both sides: early by up to 1 ms, late by up to 2 ms of rounding and by the kernel's
    slack, 0.1 % of the wait. So wait short of the deadline, look at the clock, and yield through the last two
    milliseconds.
    """
    if deadline - time.monotonic() > longest + 0.05:
        await asyncio.sleep(longest)
        return
    while (left := deadline - time.monotonic()) > 0:
        if left > 0.020:
            await asyncio.sleep(left * 0.99 - 0.001)
        else:
            await asyncio.sleep(left - 0.0022 if left > 0.0032 else 0)
