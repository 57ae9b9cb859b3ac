"""A loop whose time passes only when nothing is left to do: an hour takes as long as what happens in it."""

import asyncio
import selectors
from collections.abc import Callable
from typing import Any

from tests.support.builders import NOW

#: What one turn of the loop takes: code that yields until a moment comes must see it come.
TURN_SECONDS = 0.000_01
#: Turns until a test is taken for one that never comes to rest; the longest take a quarter of them.
MOST_TURNS = 200_000
#: The loop's time at ``NOW``.
BEGINNING = 1000.0


class InstantLoop(asyncio.SelectorEventLoop):
    """Threads are none: what is handed to one is done at once, as nothing says how long it would have taken."""

    def __init__(self) -> None:
        self._seconds = BEGINNING
        super().__init__(_Waits(self._pass))

    def time(self) -> float:
        """Seconds that have passed for those in the loop."""
        return self._seconds

    def _pass(self, seconds: float) -> None:
        self._seconds += seconds

    def run_in_executor(  # type: ignore[override]
        self, executor: Any, func: Callable[..., Any], *args: Any
    ) -> "asyncio.Future[Any]":
        """Do it now."""
        done = self.create_future()
        try:
            done.set_result(func(*args))
        except Exception as error:
            done.set_exception(error)
        return done


class _Waits(selectors.DefaultSelector):
    """Waits for no time: it passes it."""

    def __init__(self, passed: Callable[[float], None]) -> None:
        super().__init__()
        self._passed, self._turns = passed, 0

    def select(self, timeout: float | None = None) -> Any:
        """What is ready now; when nothing is, the time until the next timer has passed."""
        ready = super().select(0)
        if not ready and timeout is None:
            raise AssertionError("the test waits for what never comes: nothing is left to do, and no timer is set")
        self._turns += 1
        if self._turns > MOST_TURNS:  # here, as what a timer of the test run raises in a callback is only logged
            self._turns = 0
            raise AssertionError("the test does not come to rest")
        self._passed(TURN_SECONDS if ready or not timeout else timeout)
        return ready


class InstantClock:
    """A machine's clock in an ``InstantLoop``, which began at ``NOW``. The test may set the wall clock."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._ahead = 0.0

    def now(self) -> float:
        """Wall time."""
        return NOW.timestamp() + self._loop.time() - BEGINNING + self._ahead

    def monotonic(self) -> float:
        """The loop's time."""
        return self._loop.time()

    def time_ns(self) -> int:
        """Wall time in nanoseconds."""
        return round(self.now() * 1e9)

    async def sleep(self, seconds: float) -> None:
        """Give the loop away."""
        await asyncio.sleep(seconds)

    def step(self, seconds: float) -> None:
        """Set the wall clock ahead, or back."""
        self._ahead += seconds
