"""How far this machine's wall clock is off the brokers', as far as that is proven.

The topics are stamped by the brokers, so each acknowledgement says what time it was there between two moments of our
monotonic clock. From then on the monotonic clock tells the brokers' time, even when the wall clock steps.
"""

#: Beyond this, in seconds, nothing is sent: expiry, due times and turns would be judged by a wrong clock.
ALLOWED_SECONDS = 300.0


class ClockError:
    """Told what was heard of the brokers; asked with one look at both clocks, in seconds."""

    def __init__(self) -> None:
        self._least: float | None = None  #: the brokers' time minus our monotonic time is between these two
        self._most = 0.0

    @property
    def is_measured(self) -> bool:
        """Whether anything is known at all."""
        return self._least is not None

    def measured(self, brokers: float, sent: float, acknowledged: float) -> None:
        """A record sent and acknowledged at these monotonic times was stamped ``brokers``, in seconds since 1970.

        A slow acknowledgement proves less, and the newest one counts: the brokers' clock may be set right as well.
        """
        self._least, self._most = brokers - acknowledged, brokers - sent

    def seconds(self, wall: float, monotonic: float) -> float:
        """By how much the wall clock is surely ahead (above 0) or behind (below 0); 0 when it may be right."""
        if self._least is None:
            return 0.0
        offset = wall - monotonic
        return max(0.0, offset - self._most) + min(0.0, offset - self._least)

    def is_right(self, wall: float, monotonic: float) -> bool:
        """Whether the wall clock can be trusted: ``seconds`` is within what is allowed. What was never measured cannot."""
        if self._least is None:
            return False
        return self._least - ALLOWED_SECONDS <= wall - monotonic <= self._most + ALLOWED_SECONDS

    def brokers_now(self, monotonic: float) -> float:
        """The brokers' time. Only when it was measured."""
        assert self._least is not None
        return monotonic + (self._least + self._most) / 2
