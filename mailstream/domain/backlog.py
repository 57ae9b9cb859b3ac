"""The emails that wait, counted so that a place among a million is found in microseconds. Pure: it is told the time."""

from collections import Counter
from typing import NamedTuple

from sortedcontainers import SortedList

from mailstream.domain.request import Lane


class Waiting(NamedTuple):
    """One email that waits. Moments are microseconds since 1970."""

    lane: Lane
    created: int
    due: int  #: not before; 0: due since ever
    partition: int


class Backlog:
    """Emails that are due, by lane and age; those that are due later, by time."""

    def __init__(self) -> None:
        self._ready: dict[Lane, SortedList[int]] = {lane: SortedList() for lane in Lane}
        self._later: SortedList[tuple[int, Lane, int]] = SortedList()
        self._later_counts = dict.fromkeys(Lane, 0)
        self._partitions: dict[Lane, Counter[int]] = {lane: Counter() for lane in Lane}
        self._woken = 0  #: emails due at or before this are among the ready ones

    def add(self, email: Waiting) -> None:
        """Count an email that begins to wait."""
        if email.due <= self._woken:
            self._ready[email.lane].add(email.created)
        else:
            self._later.add((email.due, email.lane, email.created))
            self._later_counts[email.lane] += 1
        self._partitions[email.lane][email.partition] += 1

    def remove(self, email: Waiting) -> None:
        """Stop counting it: the same email as it was added."""
        if email.due <= self._woken:
            self._ready[email.lane].discard(email.created)
        else:
            self._later.discard((email.due, email.lane, email.created))
            self._later_counts[email.lane] -= 1
        self._partitions[email.lane][email.partition] -= 1

    def wake(self, now: int) -> None:
        """Let those whose time has come be ready."""
        self._woken = max(self._woken, now)
        while self._later and self._later[0][0] <= now:
            _, lane, created = self._later.pop(0)
            self._later_counts[lane] -= 1
            self._ready[lane].add(created)

    def ahead(self, email: Waiting) -> int:
        """How many ready emails of its lane are older."""
        return int(self._ready[email.lane].bisect_left(email.created))

    def due_before(self, due: int) -> int:
        """How many emails that are not ready will be before this moment."""
        return int(self._later.bisect_left((due, Lane.BULK, 0)))

    def ready(self) -> dict[Lane, int]:
        """How many emails could start now, by lane."""
        return {lane: len(ready) for lane, ready in self._ready.items()}

    def later(self) -> dict[Lane, int]:
        """How many wait for their time, by lane."""
        return dict(self._later_counts)

    def oldest(self, lane: Lane) -> int | None:
        """When the oldest ready email of the lane was created."""
        ready = self._ready[lane]
        return int(ready[0]) if ready else None

    def by_partition(self, lane: Lane) -> dict[int, int]:
        """How many emails of the lane wait in each partition."""
        return {partition: count for partition, count in sorted(self._partitions[lane].items()) if count}
