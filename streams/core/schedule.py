"""Which email is next: lane, due time, order among the emails of one recipient, gap per recipient.

A recipient that waits parks only itself. At most one email of a recipient is in work at a time, and those of its
partition that are due go in the order of the log, so two that are both due are called in the order of their requests.
"""

import heapq
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice

from mailstream.domain.lanes import Lanes
from mailstream.domain.request import Lane
from streams.core.ready import SPARE, Ready, first_ones, head_of
from streams.core.timed import Timed
from streams.core.waiting import Waiting

LANES = tuple(Lane)
#: Emails that may be parked, or come due, before the caller gets a word in.
AT_ONCE = 2000


class Schedule:
    """Told the time. Each id is in it at most once. All of it is in memory (ADR-0027)."""

    def __init__(self, *, recipient_gap: float = 0.0) -> None:
        self._recipient_gap = recipient_gap
        self._lanes = Lanes()
        self._known: dict[object, Waiting] = {}  #: asked by id, or by the email itself
        self._counts: Counter[Lane] = Counter()  #: of these
        self._later = Timed(self._is_waiting)  #: not due yet, by due time
        self._ready = Ready(self._is_waiting)
        self._expiring = Timed(self._is_waiting)
        self._busy: set[int] = set()  #: recipients with an email in work, or in their gap
        self._parked: dict[int, dict[Lane, list[Waiting]]] = {}  #: due emails of a recipient behind its first one
        self._resting: list[tuple[float, int]] = []  #: recipients in their gap, by its end
        self._untidied = 0  #: how often dead entries were left where they are
        self._woken_at: float | None = None  #: when emails last came due

    def __len__(self) -> int:
        return len(self._known)

    def __contains__(self, email_id: str) -> bool:
        return email_id in self._known

    def __iter__(self) -> Iterator[Waiting]:
        return iter(self._known.values())

    def add(self, email: Waiting, now: float) -> None:
        """Let an email wait, instead of its former place when it has one."""
        self.remove(email.id)  # what stood behind its former place comes forward
        self._known[email] = email
        self._counts[email.lane] += 1
        if email.expires is not None:
            self._expiring.put(email.expires, email)
        if email.due > now:
            self._later.put(email.due, email)
        else:
            self._ready.put(email)
        self._tidy()

    def remove(self, email_id: str) -> Waiting | None:
        """Take an email out. Its entries in the heaps die when they come up."""
        email = self._known.pop(email_id, None)
        if email is not None:
            self._counts[email.lane] -= 1
            self._come_forward(email.recipient)
        return email

    def lose(self, partitions: Iterable[int]) -> None:
        """Take out the emails of these partitions."""
        lost = set(partitions)
        for email_id in [email.id for email in self._known.values() if email.partition in lost]:
            self.remove(email_id)
        self._ready.lose(lost)

    def next(self, now: float) -> Waiting | None:
        """Take the next email out and mark its recipient as in work; ``done`` must follow.

        None: no email is due, or so many had to be parked that the rest is looked at in another call.
        """
        self._wake(now)
        for _ in range(AT_ONCE):
            firsts = {lane: first for lane in LANES if (first := self._ready.first_of(lane)) is not None}
            if not firsts:
                return None
            lane = self._lanes.choose(firsts)
            email = firsts[lane]
            self._ready.take(email)
            if email.recipient in self._busy:
                heapq.heappush(self._parked.setdefault(email.recipient, {}).setdefault(lane, []), email)
                continue
            del self._known[email]
            self._counts[lane] -= 1
            self._busy.add(email.recipient)
            self._lanes.started(lane)
            return email
        return None

    def done(self, recipient: int, now: float) -> None:
        """The work for an email of this recipient has ended; the next one may go, after the recipient's gap."""
        if self._recipient_gap > 0 and recipient in self._busy:
            heapq.heappush(self._resting, (now + self._recipient_gap, recipient))
        else:
            self._release(recipient)

    def wakes_at(self, now: float) -> float | None:
        """When ``next`` may have an email: ``now``, a time to come, or None while there is none to wait for."""
        self._wake(now)
        if any(self._ready.first_of(lane) is not None for lane in LANES):
            return now
        resting = self._resting[0][0] if self._resting else None
        return min((at for at in (self._later.first(), resting) if at is not None), default=None)

    def expired(self, now: float, *, at_most: int | None = None) -> list[Waiting]:
        """Take out the emails whose ``expires_at`` has passed, or the first few of them."""
        found: list[Waiting] = []
        while (at_most is None or len(found) < at_most) and (email := self._expiring.take(now)) is not None:
            self.remove(email.id)
            found.append(email)
        return found

    def due_next(self, count: int) -> list[str]:
        """About the next ``count`` due emails, for reading their bodies ahead; their order is not exact."""
        found = [email_id for lane in LANES for email_id in self._ready.next_of(lane, count)]
        each = 1 + count // (1 + len(self._busy))
        for recipient in islice(self._busy, count):  # with few recipients all the others wait behind these
            if len(found) >= count:
                break
            for behind in self._parked.get(recipient, {}).values():
                found += first_ones(behind, each, self._is_waiting)
        return found[:count]

    def backlog(self) -> dict[Lane, int]:
        """How many emails wait, by lane."""
        return {lane: self._counts[lane] for lane in LANES}

    def oldest(self) -> dict[Lane, float]:
        """Since when the oldest email of each lane has been due: the one that was asked for first; lanes without one are left out."""
        found: dict[Lane, float] = {}
        for lane in LANES:
            firsts = [self._ready.first_of(lane)]
            firsts += [head_of(lanes[lane], self._is_waiting) for lanes in self._parked.values() if lane in lanes]
            if since := [max(email.created, email.due) for email in firsts if email is not None]:
                found[lane] = min(since)
        return found

    def _is_waiting(self, email: Waiting) -> bool:
        return self._known.get(email) is email

    def _tidy(self) -> None:
        """Drop dead entries: they would die when they come up, which may be a year ahead."""
        self._untidied += 1
        if self._untidied < SPARE:
            return
        self._untidied = 0
        most = 2 * len(self._known) + SPARE
        for heaps in (self._later, self._expiring, self._ready):
            heaps.tidy(most)

    def _wake(self, now: float) -> None:
        """Let those be ready that are due. Many at once come in several moments, so that nothing stands still."""
        self._tidy()
        if now != self._woken_at:
            self._woken_at = now
            for email in islice(iter(lambda: self._later.take(now), None), AT_ONCE):
                self._ready.put(email)
        while self._resting and self._resting[0][0] <= now:
            self._release(heapq.heappop(self._resting)[1])

    def _release(self, recipient: int) -> None:
        self._busy.discard(recipient)
        self._come_forward(recipient)

    def _come_forward(self, recipient: int) -> None:
        """Move the first parked email of each lane to the ready ones; the rest stays behind it."""
        if recipient in self._busy or (lanes := self._parked.get(recipient)) is None:
            return
        for lane, behind in list(lanes.items()):
            if head_of(behind, self._is_waiting) is not None:
                self._ready.put(heapq.heappop(behind))
            if not behind:
                del lanes[lane]
        if not lanes:
            del self._parked[recipient]
