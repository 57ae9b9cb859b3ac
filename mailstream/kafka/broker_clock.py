"""A process's clock, held against the brokers': a wall clock that is far off is noticed, told, and not believed.

A step of the wall clock must not end a million emails as EXPIRED, refuse every request as too old or forget what was
sent. So ``now`` is the brokers' time while ours is wrong; a worker's calls wait until it is right again.
"""

from collections.abc import Callable

import structlog

from mailstream.clock import Clock
from mailstream.domain.clock_error import ClockError
from mailstream.domain.errors import NotPublished
from mailstream.kafka.producer import Publisher

log = structlog.get_logger(__name__)

LOOK_SECONDS = 1.0
#: Every reader ignores a record without a value; the brokers stamp it all the same.
KEY, PARTITION = b"clock", 0


class BrokersClock:
    """A ``Clock``. ``topic`` takes a record now and then that only asks for the time.

    ``alarm`` is what the log says while the clock is wrong; ``looked`` is told at each look the proven error in seconds,
    and what is wrong, if anything is.
    """

    def __init__(
        self,
        clock: Clock,
        publisher: Publisher,
        topic: str,
        *,
        alarm: str,
        looked: Callable[[float, str | None], None],
    ) -> None:
        self._clock, self._publisher, self._topic = clock, publisher, topic
        self._alarm, self._looked = alarm, looked
        self._error = ClockError()
        self._is_told = False
        publisher.stamped = self._error.measured

    # -- as a clock ---------------------------------------------------------------------------------------

    def now(self) -> float:
        """Wall time; the brokers' while the wall clock is wrong."""
        wall, monotonic = self._clock.now(), self._clock.monotonic()
        if self._error.is_right(wall, monotonic) or not self._error.is_measured:
            return wall
        return self._error.brokers_now(monotonic)

    def monotonic(self) -> float:
        """As the machine has it: it never steps."""
        return self._clock.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Give the loop away."""
        await self._clock.sleep(seconds)

    # -- against the brokers' -----------------------------------------------------------------------------

    def why_wrong(self) -> str | None:
        """What is wrong with the wall clock and what to do, for people; None: it can be trusted."""
        wall, monotonic = self._clock.now(), self._clock.monotonic()
        if self._error.is_right(wall, monotonic):
            return None
        if not self._error.is_measured:
            return "this machine's clock was not yet compared with the brokers'"
        seconds = self._error.seconds(wall, monotonic)
        return (
            f"this machine's clock is {abs(seconds):.0f} s {'ahead of' if seconds > 0 else 'behind'} the brokers'. "
            "Set it right (NTP), or theirs; until then theirs counts"
        )

    async def measure(self) -> None:
        """Ask the brokers for the time, until they answer: before that nothing may be judged by it."""
        while True:
            try:
                await self._publisher.publish(self._topic, None, key=KEY, partition=PARTITION)
                return
            except NotPublished as error:
                log.warning("the brokers were not heard about the time, asked again", error=str(error))
                await self._clock.sleep(LOOK_SECONDS)

    async def run(self) -> None:
        """Tell people. While the clock is wrong ask the brokers again: it, or theirs, may have been set right."""
        if not self._error.is_measured:
            await self.measure()
        while True:
            await self._clock.sleep(LOOK_SECONDS)
            why = self.why_wrong()
            self._looked(self._error.seconds(self._clock.now(), self._clock.monotonic()), why)
            if (why is not None) != self._is_told:
                self._is_told = why is not None
                log.error(self._alarm, reason=why) if why else log.info("the clock is right again")
            if why is not None:
                await self.measure()
