"""Which email is next: lane, due time, order among the emails of one recipient, gap per recipient.

A recipient that waits parks only itself. At most one email of a recipient is in work at a time, and those of its
partition that are due go in the order of the log, so two that are both due are called in the order of their requests.

With a cold place only a bounded number of emails is in memory: the first ones of each queue. Of every other queue the
*floor* is known, a key that no cold one comes before; what is wanted behind it is taken from there first (ADR-0016).
"""

import heapq
import math
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice

from mailstream.request import Lane
from streams.core.cold import LATER, Cold, Key, key_in, parked_behind, ready_in
from streams.core.lanes import Lanes
from streams.core.ready import SPARE, Ready
from streams.core.timed import Timed
from streams.core.waiting import Waiting

LANES = tuple(Lane)
#: Emails that may be parked, or come due out of the cold, before the caller gets a word in.
AT_ONCE = 2000
COMING_FORWARD = 16  #: emails of one recipient that are taken from the cold together
_HIGHEST: Key = (math.inf, 0)


class Schedule:
    """Told the time, asks nobody. Each id is in it at most once."""

    def __init__(self, *, recipient_gap: float = 0.0, cold: Cold | None = None, most_hot: int = sys.maxsize) -> None:
        """``most_hot`` (8 or more): emails in memory when there is a ``cold`` place for the rest; each queue may keep one."""
        self._recipient_gap = recipient_gap
        self._lanes = Lanes()
        self._known: dict[str, Waiting] = {}
        self._later = Timed(self._is_waiting)  #: not due yet, by due time
        self._ready = Ready(self._is_waiting, self._first_in)
        self._expiring = Timed(self._is_waiting)
        self._busy: set[int] = set()  #: recipients with an email in work, or in their gap
        self._parked: dict[int, dict[Lane, list[Waiting]]] = {}  #: due emails of a recipient behind its first one
        self._resting: list[tuple[float, int]] = []  #: recipients in their gap, by its end
        self._untidied = 0  #: how often nobody looked for dead entries
        self._cold, self._most_hot = cold, most_hot
        self._floors: dict[int, Key] = {}  #: of the cold queues, but for those behind a recipient
        self._is_parked_cold = False  #: whether some of those may be there
        self._cold_expiry: float | None = None  #: no cold email expires before this
        self._came_due: float | None = None  #: when cold ones last came due

    def __len__(self) -> int:
        return len(self._known) + (len(self._cold) if self._cold else 0)

    def __contains__(self, email_id: str) -> bool:
        return email_id in self._known or (self._cold is not None and bool(self._cold) and email_id in self._cold)

    def __iter__(self) -> Iterator[Waiting]:
        yield from self._known.values()
        if self._cold:
            yield from self._cold

    def add(self, email: Waiting, now: float) -> None:
        """Let an email wait, instead of its former place when it has one."""
        self.remove(email.id)  # whoever stood behind its former place comes forward
        queue = LATER if email.due > now else ready_in(email.partition, email.lane)
        if self._floors and self._is_behind(queue, email):
            self._put_cold(queue, [email])
            return
        self._put_hot(queue, email)
        self._tidy()
        self._spill()

    def remove(self, email_id: str) -> Waiting | None:
        """Take an email out. Its entries in the heaps die when they come up."""
        email = self._known.pop(email_id, None)
        if email is None and self._cold:
            email = self._cold.remove(email_id)
        if email is not None:
            self._come_forward(email.recipient)
        return email

    def lose(self, partitions: Iterable[int]) -> None:
        """Take out the emails of these partitions."""
        lost = set(partitions)
        if self._cold:
            self._cold.lose(lost)
        for email_id in [email.id for email in self._known.values() if email.partition in lost]:
            self.remove(email_id)
        self._ready.lose(lost)
        self._floors = {queue: floor for queue, floor in self._floors.items() if self._cold and self._cold.first(queue)}

    def next(self, now: float) -> Waiting | None:
        """Take the next email out and mark its recipient as in work; ``done`` must follow.

        None: nobody is due, or so many had to be parked that the rest is looked at in another call.
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
            del self._known[email.id]
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
        """When ``next`` may have somebody: ``now``, a time to come, or None while there is nobody to wait for."""
        self._wake(now)
        if any(self._ready.first_of(lane) is not None for lane in LANES):
            return now
        resting = self._resting[0][0] if self._resting else None
        floor = self._floors.get(LATER, (None, 0))[0]
        return min((at for at in (self._later.first(), resting, floor) if at is not None), default=None)

    def expired(self, now: float, *, at_most: int | None = None) -> list[Waiting]:
        """Take out the emails whose ``expires_at`` has passed, or the first few of them."""
        found: list[Waiting] = []
        while (at_most is None or len(found) < at_most) and (email := self._expiring.take(now)) is not None:
            self.remove(email.id)
            found.append(email)
        if self._cold and self._cold_expiry is not None and self._cold_expiry <= now:
            cold = self._cold.expired(now, -1 if at_most is None else at_most - len(found))
            self._cold_expiry = self._cold.first_expiry()
            for each in cold:
                self._come_forward(each.recipient)
            found += cold
        return found

    def due_next(self, count: int) -> list[str]:
        """About the next ``count`` due emails, for reading their bodies ahead; their order is not exact."""
        found: list[str] = []
        for lane in LANES:
            queues = self._ready.queues_of(lane)
            for queue, emails in queues.items():
                found += self._first_ones(emails, queue, 1 + count // len(queues))
        each = 1 + count // (1 + len(self._busy))
        for recipient in islice(self._busy, count):  # with few recipients all the others wait behind these
            if len(found) >= count:
                break
            for lane in Lane:
                behind = self._parked.get(recipient, {}).get(lane, [])
                found += self._first_ones(behind, parked_behind(recipient, lane), each)
        return found[:count]

    def backlog(self) -> dict[Lane, int]:
        """How many emails wait, by lane."""
        counts = dict.fromkeys(Lane, 0) | (self._cold.backlog() if self._cold else {})
        for lane, count in Counter(email.lane for email in self._known.values()).items():
            counts[lane] += count
        return counts

    def oldest(self) -> dict[Lane, float]:
        """Since when the oldest email of each lane has been due: the one that was asked for first; lanes without one are left out."""
        found: dict[Lane, float] = {}
        for lane in LANES:
            firsts = [self._ready.first_of(lane)]
            firsts += [self._head_of(lanes[lane]) for lanes in self._parked.values() if lane in lanes]
            if since := [max(email.created, email.due) for email in firsts if email is not None]:
                found[lane] = min(since)
        return found

    def _first_in(self, queue: int, ready: list[Waiting]) -> Waiting | None:
        while True:
            first, floor = self._head_of(ready), self._floors.get(queue)
            if floor is None or (first is not None and key_in(queue, first) <= floor):
                return first
            self._warm(queue)

    def _first_ones(self, hot: list[Waiting], queue: int, count: int) -> list[str]:
        hot.sort()  # still a heap; one that was not would hide many of the next, and each costs a look-up of its own
        found = [email.id for email in hot[:count] if self._is_waiting(email)]
        if len(found) < count and self._cold and (queue in self._floors if queue < 0 else self._is_parked_cold):
            found += self._cold.ids(queue, count)
        return found[:count]

    def _head_of(self, ready: list[Waiting]) -> Waiting | None:
        while ready and not self._is_waiting(ready[0]):
            heapq.heappop(ready)
        return ready[0] if ready else None

    def _is_waiting(self, email: Waiting) -> bool:
        return self._known.get(email.id) is email

    def _tidy(self) -> None:
        """Drop dead entries: they would die when they come up, which may be a year ahead."""
        self._untidied += 1
        if self._untidied < SPARE:
            return
        self._untidied = 0
        most = 2 * len(self._known) + SPARE
        for timed in (self._later, self._expiring):
            timed.tidy(most)
        self._ready.tidy(most)

    def _wake(self, now: float) -> None:
        self._tidy()
        while (email := self._later.take(now)) is not None:
            self._ready.put(email)
        if self._floors and now != self._came_due:
            self._wake_cold(now)
        while self._resting and self._resting[0][0] <= now:
            self._release(heapq.heappop(self._resting)[1])

    def _release(self, recipient: int) -> None:
        self._busy.discard(recipient)
        self._come_forward(recipient)

    def _come_forward(self, recipient: int) -> None:
        """Move the first parked email of each lane to the ready ones; the rest stays behind it."""
        if recipient in self._busy:
            return
        if self._is_parked_cold:
            self._warm_parked(recipient)
        if (lanes := self._parked.get(recipient)) is None:
            return
        for lane, behind in list(lanes.items()):
            if self._head_of(behind) is not None:
                self._ready.put(heapq.heappop(behind))
            if not behind:
                del lanes[lane]
        if not lanes:
            del self._parked[recipient]

    # -- hot and cold -------------------------------------------------------------------------------------

    def _put_hot(self, queue: int, email: Waiting) -> None:
        self._know(email)
        if queue == LATER:
            self._later.put(email.due, email)
        else:
            self._ready.put(email)

    def _know(self, email: Waiting) -> None:
        self._known[email.id] = email
        if email.expires is not None:
            self._expiring.put(email.expires, email)

    def _put_cold(self, queue: int, emails: list[Waiting]) -> None:
        assert self._cold is not None
        self._cold.put(queue, emails)
        if queue < 0:
            if queue != LATER:
                self._ready.is_cold(queue, min(emails))
            self._floors[queue] = min(self._floors.get(queue, _HIGHEST), *(key_in(queue, email) for email in emails))
        else:
            self._is_parked_cold = True
        for email in emails:
            if email.expires is not None and (self._cold_expiry is None or email.expires < self._cold_expiry):
                self._cold_expiry = email.expires

    def _is_behind(self, queue: int, email: Waiting) -> bool:
        """Whether emails in the cold may come before it."""
        floor = self._floors.get(queue)
        return floor is not None and key_in(queue, email) >= floor

    def _warm(self, queue: int) -> None:
        """Take the first ones of a cold queue into memory."""
        assert self._cold is not None
        count = self._most_hot // 4 // len(self._ready)  # each queue may have so many
        for email in self._cold.take(queue, max(1, count)):
            self._put_hot(queue, email)
        self._find_floor(queue)
        self._spill()

    def _warm_parked(self, recipient: int) -> None:
        """Take the first ones behind a recipient into memory, if the very first is cold."""
        assert self._cold is not None
        for lane in Lane:
            queue = parked_behind(recipient, lane)
            if (floor := self._cold.first(queue)) is None:
                continue
            behind = self._parked.setdefault(recipient, {}).setdefault(lane, [])
            first = self._head_of(behind)
            if first is None or floor < key_in(queue, first):
                for email in self._cold.take(queue, COMING_FORWARD):
                    self._know(email)
                    heapq.heappush(behind, email)
        self._is_parked_cold = len(self._cold) > 0

    def _wake_cold(self, now: float) -> None:
        """Let cold ones become ready that are due: many at once come in several calls, so that nothing stands still."""
        floor = self._floors.get(LATER)
        if floor is None or floor[0] > now:
            return
        assert self._cold is not None
        self._came_due = now
        behind: dict[int, list[Waiting]] = {}
        for email in self._cold.take(LATER, AT_ONCE, until=now):
            queue = ready_in(email.partition, email.lane)
            if self._is_behind(queue, email):
                behind.setdefault(queue, []).append(email)
            else:
                self._put_hot(queue, email)
        for queue, emails in behind.items():
            self._put_cold(queue, emails)
        self._find_floor(LATER)
        self._spill()

    def _find_floor(self, queue: int) -> None:
        assert self._cold is not None
        if (first := self._cold.first(queue)) is None:
            self._floors.pop(queue, None)
        else:
            self._floors[queue] = first

    def _spill(self) -> None:
        """Keep memory bounded: the last half of the longest queue waits in the cold, then of the next longest."""
        if self._cold is None or len(self._known) <= self._most_hot:
            return
        while len(self._known) > self._most_hot * 3 // 4:
            behind = sum(len(emails) for lanes in self._parked.values() for emails in lanes.values())
            longest = max(behind, len(self._later), self._ready.longest())
            if longest <= 1:
                break  # the first one of each queue stays
            if longest == behind:
                self._spill_parked()
            elif longest == len(self._later):
                self._leave(LATER, self._later.take_last_half())
            else:
                self._leave(*self._ready.take_last_half())
        self._tidy()

    def _spill_parked(self) -> None:
        """Let all who wait behind a recipient do so in the cold: who is next of them is asked when its turn comes."""
        everybody, self._parked = self._parked, {}
        for recipient, lanes in everybody.items():
            for lane, emails in lanes.items():
                self._leave(parked_behind(recipient, lane), list(filter(self._is_waiting, emails)))

    def _leave(self, queue: int, emails: list[Waiting]) -> None:
        for email in emails:
            del self._known[email.id]
        if emails:
            self._put_cold(queue, emails)
