"""The fixed gap between the starts of two provider calls, for the account as a whole.

One worker: the next start is the last start plus the gap, on the monotonic clock. Several: time is cut into turns of
gap + guard; turn n belongs to partition n mod P, and its owner may start one call inside the guard at the turn's
beginning. Below 100 ms with several workers: shares. No state is saved or agreed: owners are known from Kafka.
"""

from collections.abc import Collection
from dataclasses import dataclass
from enum import Enum

SECOND = 1_000_000_000  #: in nanoseconds
MILLISECOND = 1_000_000
#: Below this gap, in seconds, several workers keep shares of the rate instead of turns.
LEAST_TURN_GAP = 0.1


@dataclass(frozen=True, slots=True)
class Now:
    """One look at both clocks. Wall time in whole nanoseconds: a float of that size is good to a quarter µs only."""

    monotonic: float
    wall_ns: int


@dataclass(frozen=True, slots=True)
class Turns:
    """All workers must agree on both numbers; a worker knows its turns from the partitions that it owns."""

    gap_ns: int
    partitions: int

    @property
    def guard_ns(self) -> int:
        """How late in its turn a call may still start. The clock error between hosts is not in it: it eats the gap."""
        return max(5 * MILLISECOND, self.gap_ns // 400)

    @property
    def length_ns(self) -> int:
        """From the beginning of one turn to that of the next."""
        return self.gap_ns + self.guard_ns

    def start_ns(self, turn: int) -> int:
        """The beginning of a turn, since 1970."""
        return turn * self.length_ns

    def is_open(self, turn: int, wall_ns: int) -> bool:
        """Whether a call of this turn may start now: after the guard it would be too near to the next turn."""
        return self.start_ns(turn) <= wall_ns < self.start_ns(turn) + self.guard_ns

    def next(self, owned: Collection[int], wall_ns: int, used: int) -> int | None:
        """The first turn of an owned partition that is open or to come, after ``used``. A missed turn is gone."""
        first = max((wall_ns - self.guard_ns) // self.length_ns + 1, used + 1)
        return min((first + (partition - first) % self.partitions for partition in owned), default=None)


class Mode(Enum):
    """How the gap is kept at the moment."""

    UNPACED = "unpaced"  #: SEND_GAP=0
    NOTHING = "nothing"  #: no partition is owned
    SOLE = "sole"  #: this worker owns all partitions
    TURNS = "turns"  #: several workers
    SHARES = "shares"  #: several workers and a gap below 100 ms


class Pace:
    """When the next call may start. Told the time; keeps the last start and nothing else.

    The loop: ``next_start`` says when to look again, ``may_start`` is the last gate, ``started`` notes the call.
    """

    def __init__(self, *, gap: float, burst: int, partitions: int) -> None:
        self.gap, self.burst = gap, burst
        self.mode = Mode.UNPACED if gap == 0 else Mode.NOTHING
        self._partitions = partitions
        self._turns = Turns(round(gap * SECOND), partitions)
        self._owned: frozenset[int] = frozenset()
        self._last_mode = Mode.NOTHING  #: the newest mode in which this worker could start calls
        self._free_at = 0.0  #: monotonic: when the bucket is full again (sole, shares)
        self._not_before = 0.0  #: monotonic: pauses and waits after a change
        self._used_turn = -1
        self._offset: int | None = None  #: wall minus monotonic time at the last look, in ns

    def owns(self, owned: Collection[int], now: Now, *, without_break: bool = False) -> None:
        """Say which partitions this worker owns from now on.

        ``without_break``: it owned some in the group's previous generation too, so no other worker can have kept the
        gap in another way meanwhile. Otherwise it waits one gap: a worker that was cut off does not
        know that another owned all of them, and called between the turns, until just now.
        """
        self._owned = frozenset(owned)
        if self.gap == 0:
            return
        if not owned:
            self.mode = Mode.NOTHING
        elif len(self._owned) == self._partitions:
            self.mode = Mode.SOLE
        else:
            self.mode = Mode.TURNS if self.gap >= LEAST_TURN_GAP else Mode.SHARES
        if self.mode is Mode.TURNS:  # the open turn may have been used by its former owner
            self._used_turn = max(self._used_turn, now.wall_ns // self._turns.length_ns)
        if self.mode is Mode.NOTHING or (without_break and self.mode is self._last_mode):
            return
        self._last_mode = self.mode
        self._free_at = now.monotonic + self._interval() * self._tokens()
        if self.mode is Mode.TURNS:
            self._not_before = max(self._not_before, now.monotonic + self.gap)

    def pause_until(self, monotonic: float) -> None:
        """Start nothing before this moment (429, account fault)."""
        self._not_before = max(self._not_before, monotonic)

    def is_paused(self, now: Now) -> bool:
        """Whether a pause, and not the gap, is what the next start waits for."""
        return self._not_before > now.monotonic

    def next_start(self, now: Now) -> float | None:
        """The earliest monotonic time at which ``may_start`` can be true; None while no partition is owned."""
        match self.mode:
            case Mode.UNPACED:
                return max(now.monotonic, self._not_before)
            case Mode.NOTHING:
                return None
            case Mode.SOLE | Mode.SHARES:
                return max(now.monotonic, self._not_before, self._next_token())
            case Mode.TURNS:
                self._mind_steps(now)
                waits = max(0.0, self._not_before - now.monotonic)
                turn = self._turns.next(self._owned, now.wall_ns + round(waits * SECOND), self._used_turn)
                if turn is None:
                    return None
                begins = now.monotonic + (self._turns.start_ns(turn) - now.wall_ns) / SECOND
                return max(now.monotonic, self._not_before, begins)

    def may_start(self, now: Now) -> bool:
        """The last gate, asked right before the call."""
        if now.monotonic < self._not_before:
            return False
        match self.mode:
            case Mode.UNPACED:
                return True
            case Mode.NOTHING:
                return False
            case Mode.SOLE | Mode.SHARES:
                return now.monotonic >= self._next_token()
            case Mode.TURNS:
                if self._mind_steps(now):
                    return False
                turn = now.wall_ns // self._turns.length_ns
                return (
                    turn > self._used_turn
                    and turn % self._partitions in self._owned
                    and self._turns.is_open(turn, now.wall_ns)
                )

    def started(self, now: Now) -> int | None:
        """Note that a call starts now. Returns the number of its turn, when there are turns."""
        self._free_at = max(self._free_at, now.monotonic) + self._interval()
        if self.mode is not Mode.TURNS:
            return None
        self._used_turn = now.wall_ns // self._turns.length_ns
        return self._used_turn

    def seconds_per_start(self) -> float:
        """The distance of this worker's starts on average: more than the gap when others have turns too."""
        if self.mode is Mode.TURNS and self._owned:
            return self._turns.length_ns / SECOND * self._partitions / len(self._owned)
        return self._interval()

    def _interval(self) -> float:
        if self.mode is Mode.SHARES:
            return self.gap * self._partitions / len(self._owned)
        return self.gap

    def _tokens(self) -> int:
        """How many unused starts this worker may save up: of the account's tokens the same part as of its rate."""
        if self.mode is Mode.SHARES:
            return max(1, self.burst * len(self._owned) // self._partitions)
        return self.burst

    def _next_token(self) -> float:
        return self._free_at - self._interval() * (self._tokens() - 1)

    def _mind_steps(self, now: Now) -> bool:
        """A step of wall against monotonic time above half the guard costs two gaps of turns."""
        offset = now.wall_ns - round(now.monotonic * SECOND)
        before, self._offset = self._offset, offset
        if before is None or abs(offset - before) <= self._turns.guard_ns // 2:
            return False
        self._not_before = max(self._not_before, now.monotonic + 2 * self.gap)
        self._used_turn = -1  # turn numbers of the old wall time mean nothing now
        return True
