"""How often a key may ask: a sliding window, counted by each API process for itself."""

import math
from functools import cache

from limits import parse_many
from limits.storage import MemoryStorage
from limits.strategies import SlidingWindowCounterRateLimiter

from api.keys import Key
from api.problems import Code, Problem
from mailstream.clock import Clock

_parsed = cache(parse_many)


class Rates:
    """Counts requests by key."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._limiter = SlidingWindowCounterRateLimiter(MemoryStorage())

    def take(self, caller: Key) -> dict[str, str]:
        """Count one request; returns the headers that tell what is left. Raises Problem 429 when nothing is."""
        if caller.rate is None:
            return {}
        limits = _parsed(caller.rate)
        passed = [self._limiter.hit(limit, caller.sha256) for limit in limits]
        windows = [(self._limiter.get_window_stats(limit, caller.sha256), limit) for limit in limits]
        window, limit = min(windows, key=lambda each: each[0].remaining)
        seconds = max(1, math.ceil(window.reset_time - self._clock.now()))
        headers = {
            "RateLimit-Limit": str(limit.amount),
            "RateLimit-Remaining": str(window.remaining),
            "RateLimit-Reset": str(seconds),
        }
        if not all(passed):
            raise Problem(
                Code.RATE_LIMITED,
                f"This key may ask {caller.rate}. Nothing was accepted.",
                headers=headers | {"Retry-After": str(seconds)},
            )
        return headers
