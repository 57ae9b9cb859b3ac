"""Which email is next: lane, due time, order among the emails of one recipient, gap per recipient.

A recipient that waits parks only itself. At most one email of a recipient is in work at a time, so two that are both
due are called in the order of their requests.
"""

import heapq
from collections.abc import Iterator

from msgspec import Struct

from mailstream.request import Lane
from mailstream.status import EmailStatus
from streams.core.lanes import Lanes

#: A heap is made anew when it holds more than twice the emails that wait, and this many more.
SPARE = 64


class Waiting(Struct, eq=False, gc=False):
    """One email that waits for its turn. Times are seconds since 1970. A million of them are nothing to the collector."""

    id: str
    partition: int
    recipient: int  #: recipient hash; two recipients that share one only wait for each other
    lane: Lane
    created: float
    order: int
    due: float  #: not before this; 0 when due since ever
    expires: float | None = None

    def __lt__(self, other: "Waiting") -> bool:
        return (self.created, self.order) < (other.created, other.order)


def waiting(status: EmailStatus, partition: int) -> Waiting:
    """The place in the schedule of an email that is QUEUED or RETRYING."""
    return Waiting(
        id=status.id,
        partition=partition,
        recipient=int(status.recipient, 16),
        lane=status.lane,
        created=status.created_at.timestamp(),
        order=status.order,
        due=status.due_at.timestamp() if status.due_at else 0.0,
        expires=status.expires_at.timestamp() if status.expires_at else None,
    )


class Schedule:
    """Told the time, asks nobody. Each id is in it at most once."""

    def __init__(self, *, recipient_gap: float = 0.0) -> None:
        self._recipient_gap = recipient_gap
        self._lanes = Lanes()
        self._known: dict[str, Waiting] = {}
        self._later: list[tuple[float, int, Waiting]] = []  #: not due yet, by due time
        self._ready: dict[Lane, list[Waiting]] = {lane: [] for lane in Lane}
        self._expiring: list[tuple[float, int, Waiting]] = []
        self._busy: set[int] = set()  #: recipients with an email in work, or in their gap
        self._parked: dict[int, dict[Lane, list[Waiting]]] = {}  #: due emails of a recipient behind its first one
        self._resting: list[tuple[float, int]] = []  #: recipients in their gap, by its end
        self._serial = 0

    def __len__(self) -> int:
        return len(self._known)

    def __contains__(self, email_id: str) -> bool:
        return email_id in self._known

    def __iter__(self) -> Iterator[Waiting]:
        return iter(self._known.values())

    def add(self, email: Waiting, now: float) -> None:
        """Let an email wait, instead of its former place when it has one."""
        self.remove(email.id)  # whoever stood behind its former place comes forward
        self._known[email.id] = email
        self._serial += 1
        if email.due > now:
            heapq.heappush(self._later, (email.due, self._serial, email))
        else:
            heapq.heappush(self._ready[email.lane], email)
        if email.expires is not None:
            heapq.heappush(self._expiring, (email.expires, self._serial, email))
        self._tidy()

    def remove(self, email_id: str) -> Waiting | None:
        """Take an email out. Its entries in the heaps die when they come up."""
        email = self._known.pop(email_id, None)
        if email is not None:
            self._come_forward(email.recipient)
        return email

    def next(self, now: float) -> Waiting | None:
        """Take the next email out and mark its recipient as in work; ``done`` must follow. None: nobody is due."""
        self._wake(now)
        while True:
            lanes = [lane for lane, ready in self._ready.items() if self._head_of(ready) is not None]
            if not lanes:
                return None
            lane = self._lanes.choose(lanes)
            email = heapq.heappop(self._ready[lane])
            if email.recipient in self._busy:
                heapq.heappush(self._parked.setdefault(email.recipient, {}).setdefault(lane, []), email)
                continue
            del self._known[email.id]
            self._busy.add(email.recipient)
            self._lanes.started(lane)
            return email

    def done(self, recipient: int, now: float) -> None:
        """The work for an email of this recipient has ended; the next one may go, after the recipient's gap."""
        if self._recipient_gap > 0 and recipient in self._busy:
            heapq.heappush(self._resting, (now + self._recipient_gap, recipient))
        else:
            self._release(recipient)

    def wakes_at(self, now: float) -> float | None:
        """When ``next`` may have somebody: ``now``, a time to come, or None while there is nobody to wait for."""
        self._wake(now)
        if any(self._head_of(ready) is not None for ready in self._ready.values()):
            return now
        times = [heap[0][0] for heap in (self._later, self._resting) if heap]
        return min(times, default=None)

    def expired(self, now: float, *, at_most: int | None = None) -> list[Waiting]:
        """Take out the emails whose ``expires_at`` has passed, or the first few of them."""
        found: list[Waiting] = []
        while self._expiring and self._expiring[0][0] <= now and (at_most is None or len(found) < at_most):
            email = heapq.heappop(self._expiring)[2]
            if self._is_waiting(email):
                self.remove(email.id)
                found.append(email)
        return found

    def due_next(self, count: int) -> list[Waiting]:
        """About the next ``count`` due emails, for reading their bodies ahead; their order is not exact."""
        found: list[Waiting] = []
        for ready in self._ready.values():
            found += filter(self._is_waiting, ready[:count])  # a heap: roughly sorted
        return found[:count]

    def backlog(self) -> dict[Lane, int]:
        """How many emails wait, by lane."""
        counts = dict.fromkeys(Lane, 0)
        for email in self._known.values():
            counts[email.lane] += 1
        return counts

    def _head_of(self, ready: list[Waiting]) -> Waiting | None:
        while ready and not self._is_waiting(ready[0]):
            heapq.heappop(ready)
        return ready[0] if ready else None

    def _is_waiting(self, email: Waiting) -> bool:
        return self._known.get(email.id) is email

    def _tidy(self) -> None:
        """Drop dead entries: they would die when they come up, which may be a year ahead."""
        most = 2 * len(self._known) + SPARE
        for timed in (self._later, self._expiring):
            if len(timed) > most:
                timed[:] = [entry for entry in timed if self._is_waiting(entry[2])]
                heapq.heapify(timed)
        for ready in self._ready.values():
            if len(ready) > most:
                ready[:] = filter(self._is_waiting, ready)
                heapq.heapify(ready)

    def _wake(self, now: float) -> None:
        self._tidy()
        while self._later and self._later[0][0] <= now:
            email = heapq.heappop(self._later)[2]
            if self._is_waiting(email):
                heapq.heappush(self._ready[email.lane], email)
        while self._resting and self._resting[0][0] <= now:
            self._release(heapq.heappop(self._resting)[1])

    def _release(self, recipient: int) -> None:
        self._busy.discard(recipient)
        self._come_forward(recipient)

    def _come_forward(self, recipient: int) -> None:
        """Move the first parked email of each lane to the ready ones; the rest stays behind it."""
        if recipient in self._busy or (lanes := self._parked.get(recipient)) is None:
            return
        for lane, parked in list(lanes.items()):
            if self._head_of(parked) is not None:
                heapq.heappush(self._ready[lane], heapq.heappop(parked))
            if not parked:
                del lanes[lane]
        if not lanes:
            del self._parked[recipient]
