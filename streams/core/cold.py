"""What the schedule asks of the place where those emails wait that memory has no room for (ADR-0016)."""

from collections.abc import Collection, Iterable, Iterator
from typing import Protocol

from mailstream.request import Lane
from streams.core.waiting import Waiting

Key = tuple[float, int]

#: The queues: those that are not due yet; below it those that are ready, by lane and partition; from 0 on those that are
#: parked behind a recipient.
LATER = -1
NUMBER = {lane: number for number, lane in enumerate(Lane)}


def ready_in(partition: int, lane: Lane) -> int:
    """The queue of a partition's due emails of one lane."""
    return LATER - 1 - partition * len(NUMBER) - NUMBER[lane]


def parked_behind(recipient: int, lane: Lane) -> int:
    """The queue of a recipient's emails of one lane that wait behind its first one."""
    return recipient * len(NUMBER) + NUMBER[lane]


def key_in(queue: int, email: Waiting) -> Key:
    """What a queue is ordered by: those that are not due yet by time, all others by their place in the log."""
    return (email.due if queue == LATER else 0.0), email.order


class Cold(Protocol):
    """Emails that wait outside of memory, in queues. Each id is in it at most once."""

    def __len__(self) -> int: ...

    def __contains__(self, email_id: str) -> bool: ...

    def __iter__(self) -> Iterator[Waiting]: ...

    def put(self, queue: int, emails: Collection[Waiting]) -> None:
        """Take in emails that are not in it."""

    def first(self, queue: int) -> Key | None:
        """The lowest key of a queue, None when it is empty."""

    def ids(self, queue: int, at_most: int) -> list[str]:
        """The first ones of a queue, which stay where they are."""

    def take(self, queue: int, at_most: int, *, until: float | None = None) -> list[Waiting]:
        """Take out the first ones of a queue; with ``until`` only those whose key begins with no more than it."""

    def remove(self, email_id: str) -> Waiting | None:
        """Take one out."""

    def first_expiry(self) -> float | None:
        """When the first of all expires, None when none does."""

    def expired(self, now: float, at_most: int) -> list[Waiting]:
        """Take out those that have expired, or the first few of them."""

    def lose(self, partitions: Iterable[int]) -> None:
        """Drop the emails of these partitions."""

    def backlog(self) -> dict[Lane, int]:
        """How many there are, by lane."""
