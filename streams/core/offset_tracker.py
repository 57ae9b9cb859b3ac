"""The finished head of a partition, never past a hole.

Faust 0.15.3 commits past events that are still in flight, and its recovery may drop events that it has fetched
(docs/faust.md). Committing only the contiguous head makes the first harmless; checking that offsets are dense
makes the second visible.
"""

from collections import deque
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from mailstream.domain.errors import OffsetGap

Place = TypeVar("Place")  #: what names a partition of a topic


@dataclass(slots=True)
class InFlight(Generic[Place]):
    """One record in work; hand it back to ``OffsetTracker.done``."""

    place: Place
    offset: int
    is_finished: bool = False


@dataclass(slots=True)
class _Line:
    last: int
    slots: deque[InFlight] = field(default_factory=deque)  # type: ignore[type-arg]
    head: int | None = None  #: next offset to commit, once one record is finished


class OffsetTracker(Generic[Place]):
    """Per partition, the records in work in log order. One thread only."""

    def __init__(self) -> None:
        self._lines: dict[Place, _Line] = {}
        self._pending = 0

    def last(self, place: Place) -> int | None:
        """Offset of the newest record added since the last ``forget``."""
        line = self._lines.get(place)
        return line.last if line else None

    def add(self, place: Place, offset: int) -> InFlight[Place] | None:
        """Register a record, in log order, before anything can skip it. None: it was added before, drop it.

        Raises OffsetGap when offsets are missing since the previous record of the partition.
        """
        line = self._lines.get(place)
        if line is None:
            line = self._lines[place] = _Line(offset)
        elif offset <= line.last:
            return None
        elif offset != line.last + 1:
            raise OffsetGap(f"{place}: offset {offset} follows {line.last}; nothing behind {line.last} was committed")
        else:
            line.last = offset
        slot = InFlight(place, offset)
        line.slots.append(slot)
        self._pending += 1
        return slot

    def begin(self, place: Place, offset: int) -> None:
        """Say where the reading of a partition starts: below it nothing needs to be read again."""
        self.forget_one(place)
        self._lines[place] = _Line(offset - 1, head=offset)

    def skip_to(self, place: Place, offset: int) -> None:
        """Say that the log holds no record between the last one and ``offset`` (transaction markers)."""
        if line := self._lines.get(place):
            line.last = offset - 1

    def done(self, slot: InFlight[Place]) -> None:
        """Mark a record finished. Does nothing for one from before ``forget``."""
        slot.is_finished = True
        if (line := self._lines.get(slot.place)) is None:
            return
        slots = line.slots
        while slots and slots[0].is_finished:
            line.head = slots.popleft().offset + 1
            self._pending -= 1

    def committable(self) -> dict[Place, int]:
        """Next offset to commit of each partition that has finished records since the last ``forget``."""
        return {place: line.head for place, line in self._lines.items() if line.head is not None}

    def head(self, place: Place) -> int | None:
        """Next offset to commit of one partition; None when no record of it is finished since the last ``forget``."""
        line = self._lines.get(place)
        return line.head if line else None

    def pending(self) -> int:
        """How many records were added and stand at or behind an unfinished one."""
        return self._pending

    def unfinished(self, place: Place) -> int:
        """How many records of one partition stand at or behind an unfinished one."""
        line = self._lines.get(place)
        return len(line.slots) if line else 0

    def forget(self) -> None:
        """Drop everything: the partitions were revoked, and unfinished records are delivered again."""
        self._lines.clear()
        self._pending = 0

    def forget_one(self, place: Place) -> None:
        """Drop one partition."""
        if (line := self._lines.pop(place, None)) is not None:
            self._pending -= len(line.slots)
