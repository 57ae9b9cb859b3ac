"""The due emails: a queue for each lane and partition, and of a lane's queues the one that is next.

In a queue the place in the log decides and nothing else, so the emails of a recipient keep their order however the
brokers' clocks went. Between two queues the stamps of their first ones decide.
"""

import heapq
from collections.abc import Callable, Iterable
from itertools import product

from mailstream.domain.request import Lane
from streams.core.waiting import Waiting

IsWaiting = Callable[[Waiting], bool]

SPARE = 64  #: so many dead entries more than live ones are left where they are


class Ready:
    """Heaps whose entries may be dead: an email for which ``is_waiting`` is false is passed over when it comes up."""

    def __init__(self, is_waiting: IsWaiting) -> None:
        self._is_waiting = is_waiting
        self._queues: dict[Lane, dict[int, list[Waiting]]] = {lane: {} for lane in Lane}  #: by partition
        self._fronts: dict[Lane, list[tuple[float, Waiting]]] = {lane: [] for lane in Lane}
        #: stamp and email of each queue's first one, as a heap; those that another one has replaced are in it too

    def put(self, email: Waiting) -> None:
        """Let an email stand in the queue of its lane and partition."""
        lane = email.lane
        emails = self._queues[lane].setdefault(email.partition, [])
        heapq.heappush(emails, email)
        if emails[0] is email:
            heapq.heappush(self._fronts[lane], (email.created, email))

    def first_of(self, lane: Lane) -> Waiting | None:
        """Who is next of a lane, and stays where it is."""
        fronts = self._fronts[lane]
        while fronts:
            front = fronts[0][1]
            emails = self._queues[lane].get(front.partition)
            if emails and emails[0] is front:
                if self._is_waiting(front):
                    return front
                self._pass(emails, fronts)
            else:
                heapq.heappop(fronts)  # replaced, or lost with its partition
        return None

    def take(self, first: Waiting) -> None:
        """Take out what ``first_of`` said."""
        lane = first.lane
        self._pass(self._queues[lane][first.partition], self._fronts[lane])

    def _pass(self, emails: list[Waiting], fronts: list[tuple[float, Waiting]]) -> None:
        """Take out the first email of the queue that is in front; the next that waits stands there now."""
        heapq.heappop(emails)
        heapq.heappop(fronts)
        if (first := head_of(emails, self._is_waiting)) is not None:
            heapq.heappush(fronts, (first.created, first))

    def next_of(self, lane: Lane, count: int) -> list[str]:
        """The first ones of each queue of a lane, about so many together."""
        queues = self._queues[lane].values()
        each = 1 + count // max(1, len(queues))
        return [email_id for emails in queues for email_id in first_ones(emails, each, self._is_waiting)]

    def lose(self, partitions: Iterable[int]) -> None:
        """Drop the queues of these partitions."""
        for partition, queues in product(partitions, self._queues.values()):
            queues.pop(partition, None)

    def tidy(self, most: int) -> None:
        """Drop dead entries where there are more than ``most`` entries."""
        for lane, queues in self._queues.items():
            swollen = [emails for emails in queues.values() if len(emails) > most]
            for emails in swollen:
                emails[:] = filter(self._is_waiting, emails)
                heapq.heapify(emails)
            if swollen or len(self._fronts[lane]) > 2 * len(queues) + SPARE:
                firsts = [head_of(emails, self._is_waiting) for emails in queues.values()]
                self._fronts[lane] = [(first.created, first) for first in firsts if first is not None]
                heapq.heapify(self._fronts[lane])


def head_of(emails: list[Waiting], is_waiting: IsWaiting) -> Waiting | None:
    """The first email of a heap that still waits. Dead ones before it are dropped."""
    while emails and not is_waiting(emails[0]):
        heapq.heappop(emails)
    return emails[0] if emails else None


def first_ones(emails: list[Waiting], count: int, is_waiting: IsWaiting) -> list[str]:
    """The ids of the first emails of a heap that still wait, in order. They stay where they are."""
    found: list[str] = []
    ahead = [(emails[0], 0)] if emails else []
    while ahead and len(found) < count:
        email, at = heapq.heappop(ahead)
        if is_waiting(email):
            found.append(email.id)
        for child in (2 * at + 1, 2 * at + 2):
            if child < len(emails):
                heapq.heappush(ahead, (emails[child], child))
    return found
