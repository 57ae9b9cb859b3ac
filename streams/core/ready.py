"""The due emails in memory: a queue for each lane and partition, and of a lane's queues the one that is next.

In a queue the place in the log decides and nothing else, so the emails of a recipient keep their order however the
brokers' clocks went. Between two queues the stamps of their first ones decide.
"""

import heapq
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from itertools import product

from mailstream.request import Lane
from streams.core.cold import ready_in
from streams.core.waiting import Waiting

SPARE = 64  #: so many dead entries more than live ones are left where they are

_Front = tuple[float, int, int]  #: stamp and order of a queue's first one, as far as known, and the queue


class Ready:
    """``first_in`` says who is the first in a queue, with those that wait in the cold; None: it is empty."""

    def __init__(self, is_waiting: Callable[[Waiting], bool], first_in: Callable[[int, list[Waiting]], Waiting | None]):
        self._is_waiting, self._first_in = is_waiting, first_in
        self._queues: dict[Lane, defaultdict[int, list[Waiting]]] = {lane: defaultdict(list) for lane in Lane}
        self._front: dict[int, _Front] = {}  #: of each queue that may have an email
        self._fronts: dict[Lane, list[_Front]] = {lane: [] for lane in Lane}  #: the same as heaps, with replaced ones

    def __len__(self) -> int:
        """How many queues there are."""
        return sum(map(len, self._queues.values()))

    def queues_of(self, lane: Lane) -> dict[int, list[Waiting]]:
        """The heaps of a lane by queue; entries may be dead."""
        return self._queues[lane]

    def put(self, email: Waiting) -> None:
        """Let an email stand in the queue of its lane and partition."""
        queue = ready_in(email.partition, email.lane)
        emails = self._queues[email.lane][queue]
        heapq.heappush(emails, email)
        if emails[0] is email:
            self._stand(queue, email)

    def is_cold(self, queue: int, first: Waiting) -> None:
        """Emails of a queue wait in the cold; ``first`` is the first of them."""
        if queue not in self._front:
            self._queues[first.lane].setdefault(queue, [])
            self._stand(queue, first)

    def first_of(self, lane: Lane) -> Waiting | None:
        """Who is next of a lane, and stays where it is."""
        fronts = self._fronts[lane]
        while fronts:
            front = created, order, queue = fronts[0]
            if self._front.get(queue) is not front:
                heapq.heappop(fronts)  # replaced, or lost with its partition
                continue
            first = self._first_in(queue, self._queues[lane][queue])
            if first is not None and (first.created, first.order) == (created, order):
                return first
            heapq.heappop(fronts)
            del self._front[queue]
            if first is not None:
                self._stand(queue, first)
        return None

    def take(self, first: Waiting) -> None:
        """Take out what ``first_of`` said."""
        heapq.heappop(self._queues[first.lane][ready_in(first.partition, first.lane)])

    def lose(self, partitions: Iterable[int]) -> None:
        """Drop the queues of these partitions."""
        for partition, lane in product(partitions, Lane):
            queue = ready_in(partition, lane)
            self._queues[lane].pop(queue, None)
            self._front.pop(queue, None)

    def longest(self) -> int:
        """Entries of the longest queue, dead ones too."""
        return max((len(emails) for _, emails in self._items()), default=0)

    def take_last_half(self) -> tuple[int, list[Waiting]]:
        """Take out the last half of the longest queue; its first one stays."""
        queue, emails = max(self._items(), key=lambda item: len(item[1]))
        living = sorted(filter(self._is_waiting, emails))
        kept = (len(living) + 1) // 2
        emails[:] = living[:kept]
        return queue, living[kept:]

    def tidy(self, most: int) -> None:
        """Drop dead entries where there are more than ``most`` entries."""
        for _, emails in self._items():
            if len(emails) > most:
                emails[:] = filter(self._is_waiting, emails)
                heapq.heapify(emails)
        for lane, fronts in self._fronts.items():
            if len(fronts) > 2 * len(self._queues[lane]) + SPARE:
                fronts[:] = [front for front in fronts if self._front.get(front[2]) is front]
                heapq.heapify(fronts)

    def _items(self) -> Iterator[tuple[int, list[Waiting]]]:
        for queues in self._queues.values():
            yield from queues.items()

    def _stand(self, queue: int, first: Waiting) -> None:
        self._front[queue] = front = (first.created, first.order, queue)
        heapq.heappush(self._fronts[first.lane], front)
