"""What waits for its turn, and when that should come: the backlog as the statuses tell it."""

from dataclasses import dataclass
from datetime import datetime

from pydantic import BaseModel, Field

from api.view.brief import Seen
from api.view.listing import microseconds
from mailstream.clock import Clock, moment
from mailstream.domain import estimate
from mailstream.domain.backlog import Backlog, Waiting
from mailstream.domain.recipient import partition_of
from mailstream.domain.request import Lane
from mailstream.domain.status import EmailStatus, Status
from mailstream.settings import Settings

#: The rate is that of the starts of the last minute.
RATE_SECONDS = 60
#: Statuses in which an email waits for its turn.
WAITING = frozenset({Status.QUEUED, Status.RETRYING})
#: What an email that waited becomes when its turn was taken; the first may be overtaken by the second.
_STARTED = frozenset({Status.PROCESSING, Status.SENT, Status.HELD})


@dataclass(frozen=True, slots=True)
class Turn:
    """Where an email stands in the queue."""

    position: int  #: emails that start before it
    starts_at: float  #: seconds since 1970


class LaneAnswer(BaseModel):
    """What waits in one lane."""

    ready: int = Field(description="could start now")
    scheduled: int = Field(description="wait for their time")
    oldest_age_seconds: float
    partitions: dict[str, int]


class QueueAnswer(BaseModel):
    """What waits in all, for the account as a whole: the gap belongs to it."""

    lanes: dict[Lane, LaneAnswer]
    ready: int
    scheduled: int
    rate_per_second: float = Field(description="starts of calls, over the last minute")
    next_turn_at: datetime | None = None
    drained_at: datetime | None = Field(None, description="when the last ready email should start")


class QueueView:
    """Follows every email that waits."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self._partitions, self._gap, self._clock = settings.partitions, settings.send_gap, clock
        self._backlog = Backlog()
        self._starts: dict[int, int] = {}  #: by second, of the last minute
        self._last_start: float | None = None

    def changed(self, key: bytes, before: Seen | None, after: Seen | None) -> None:
        """Count an email in or out."""
        if before is not None and before.status in WAITING:
            self._backlog.remove(self._waiting(before))
        if after is None:
            return
        if after.status in WAITING:
            self._backlog.add(self._waiting(after))
        elif after.status in _STARTED and (before is None or before.status in WAITING):
            self._started(after.updated_at.timestamp())

    def turn_of(self, status: EmailStatus) -> Turn | None:
        """Position and estimate of an email; None when it does not wait."""
        if status.status not in WAITING:
            return None
        now = self._clock.now()
        self._backlog.wake(int(now * 1e6))
        waiting, ready = self._waiting(status), self._backlog.ready()
        if waiting.due > now * 1e6:
            before = sum(ready.values()) + self._backlog.due_before(waiting.due)
        else:
            before = estimate.position(waiting.lane, self._backlog.ahead(waiting), ready)
        due = waiting.due / 1e6 or None
        starts_at = estimate.starts_at(
            before, now=now, last_start=self._last_start, interval=self._interval(now), due=due
        )
        return Turn(before, starts_at)

    def state(self) -> QueueAnswer:
        """The whole queue."""
        now = self._clock.now()
        self._backlog.wake(int(now * 1e6))
        ready, later = self._backlog.ready(), self._backlog.later()
        count = sum(ready.values())
        interval = self._interval(now)
        next_turn = (
            estimate.starts_at(0, now=now, last_start=self._last_start, interval=interval, due=None) if count else None
        )
        return QueueAnswer(
            lanes={
                lane: LaneAnswer(
                    ready=ready[lane],
                    scheduled=later[lane],
                    oldest_age_seconds=round(max(0.0, now - (self._backlog.oldest(lane) or now * 1e6) / 1e6), 3),
                    partitions={str(partition): n for partition, n in self._backlog.by_partition(lane).items()},
                )
                for lane in Lane
            },
            ready=count,
            scheduled=sum(later.values()),
            rate_per_second=round(self._rate(now), 3),
            next_turn_at=None if next_turn is None else moment(next_turn),
            drained_at=None if next_turn is None else moment(next_turn + (count - 1) * interval),
        )

    def _waiting(self, brief: Seen) -> Waiting:
        return Waiting(
            lane=brief.lane,
            created=microseconds(brief.created_at),
            due=microseconds(brief.due_at) if brief.due_at else 0,
            partition=partition_of(int(brief.recipient, 16), self._partitions),
        )

    def _started(self, at: float) -> None:
        if self._last_start is not None and at < self._last_start - RATE_SECONDS:
            return  # while the view loads most are as old as that
        self._last_start = at if self._last_start is None else max(self._last_start, at)
        second = int(at)
        self._starts[second] = self._starts.get(second, 0) + 1
        while len(self._starts) > RATE_SECONDS + 1:
            del self._starts[min(self._starts)]

    def _rate(self, now: float) -> float:
        return sum(count for second, count in self._starts.items() if second > now - RATE_SECONDS) / RATE_SECONDS

    def _interval(self, now: float) -> float:
        """Seconds between two starts: the gap, or without one what the last minute shows."""
        if self._gap > 0:
            return self._gap
        rate = self._rate(now)
        return 1 / rate if rate > 0 else 0.0
