"""The emails that wait for their call: the schedule, kept in step with their statuses, and which of them are barred."""

from collections import Counter
from collections.abc import Callable, Set

from mailstream.clock import Clock
from mailstream.domain.email_id import partition_in
from mailstream.domain.status import Coordinates, EmailStatus, Status
from streams.core.schedule import Schedule
from streams.core.waiting import waiting
from streams.metrics import BACKLOG, OLDEST
from streams.statuses.table import StatusTable

READ_AHEAD = 2000  #: bodies of due emails that are read together


class Queue:
    """Who may be next. An email that an unread or undecided record names is barred: it waits, and is not claimed."""

    def __init__(self, schedule: Schedule, table: StatusTable, clock: Clock) -> None:
        self.schedule = schedule
        self._table, self._clock = table, clock
        self._barred: Counter[str] = Counter()  #: how many reasons there are for each
        self._resends: set[str] = set()  #: of these, the HELD ones that go once more when the last reason is gone
        self.listener: Callable[[], None] = lambda: None  #: called whenever an email has come to wait

    def changed(self, before: EmailStatus | None, after: EmailStatus, partition: int) -> None:
        """Keep the schedule in step with a status."""
        if after.status in (Status.QUEUED, Status.RETRYING) and after.id not in self._barred:
            self._add(after, partition)
        elif before is not None or not after.final:  # else it ended before it was known here, so it never waited
            self.schedule.remove(after.id)

    def lost(self, partitions: Set[int]) -> None:
        """Forget the emails of partitions that belong to others now."""
        self.schedule.lose(partitions)

    def resend(self, status: EmailStatus, partition: int) -> None:
        """Let a HELD email go once more, marked, as soon as it may be claimed."""
        self.wait_again(status.id, partition, resend_of=status.attempt)

    def bar(self, email_id: str) -> None:
        """Claim this email for no call until ``unbar`` was called as often."""
        self._barred[email_id] += 1
        if self.schedule.remove(email_id) is not None:
            status = self._table.get_status(email_id)
            if status is not None and status.status is Status.HELD:
                self._resends.add(email_id)

    def unbar(self, email_id: str) -> None:
        """Let the email wait again, if it still does and nothing else bars it."""
        self._barred[email_id] -= 1
        if self._barred[email_id] > 0:
            return
        del self._barred[email_id]
        is_resend = email_id in self._resends
        self._resends.discard(email_id)
        partition = partition_in(email_id, self._table.partition_count)
        status = self._table.get_status(email_id) if partition in self._table.owned() else None
        self.wait_again(email_id, partition, resend_of=status.attempt if is_resend and status else None)

    def is_barred(self, email_id: str) -> bool:
        """Whether an unread or undecided record names this email."""
        return email_id in self._barred

    def wait_again(self, email_id: str, partition: int, resend_of: int | None = None) -> None:
        """Put an email back that is still to be sent: also the marked resend of this attempt, if it was not claimed."""
        status = self._table.get_status(email_id) if partition in self._table.owned() else None
        if status is None or email_id in self.schedule:
            return
        is_resend = status.status is Status.HELD and status.attempt == resend_of
        if email_id in self._barred:
            if is_resend:
                self._resends.add(email_id)
        elif is_resend or status.status in (Status.QUEUED, Status.RETRYING):
            self._add(status, partition)

    def bodies_due_next(self) -> list[Coordinates]:
        """Where the bodies of the next emails stand."""
        statuses = (self._table.get_status(email_id) for email_id in self.schedule.due_next(READ_AHEAD))
        return [status.request for status in statuses if status is not None and status.request is not None]

    def measure(self) -> None:
        """Set the gauges of what waits: they are true only for the moment."""
        oldest, now = self.schedule.oldest(), self._clock.now()
        for lane, count in self.schedule.backlog().items():
            BACKLOG.labels(lane.value).set(count)
            OLDEST.labels(lane.value).set(max(0.0, now - oldest[lane]) if lane in oldest else 0.0)

    def _add(self, status: EmailStatus, partition: int) -> None:
        self.schedule.add(waiting(status, partition), self._clock.now())
        self.listener()
