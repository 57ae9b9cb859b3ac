"""Wait for facts, not for time."""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

Fact = TypeVar("Fact")

#: Seconds between two looks.
LOOK_SECONDS = 0.02


async def eventually(
    fact: Callable[[], Fact | Awaitable[Fact]],
    *,
    within_seconds: float = 10.0,
    waiting_for: str,
    every_seconds: float = LOOK_SECONDS,
) -> Fact:
    """Look until the fact is true, and return it; the loop runs on meanwhile.

    A fact that is false, or asserts something that does not hold yet, is asked again. The failure says what was
    waited for and what was seen last.
    """
    deadline = time.monotonic() + within_seconds
    while True:
        try:
            seen = fact()
            found: Fact = await seen if inspect.isawaitable(seen) else seen
            if found:
                return found
            last = f"last seen: {found!r}"
        except AssertionError as error:
            last = f"last refused: {error}"
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {within_seconds:g} s for {waiting_for}; {last}")
        await asyncio.sleep(every_seconds)


def eventually_here(fact: Callable[[], Fact], *, within_seconds: float = 10.0, waiting_for: str) -> Fact:
    """The same for tests without a loop."""
    return asyncio.run(eventually(fact, within_seconds=within_seconds, waiting_for=waiting_for))
