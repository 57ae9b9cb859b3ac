"""Emails by a time: when each is due, or expires."""

import heapq
from collections.abc import Callable

from streams.core.waiting import Waiting


class Timed:
    """Forgets lazily: an email for which ``is_waiting`` is false any more is passed over when it comes up."""

    def __init__(self, is_waiting: Callable[[Waiting], bool]) -> None:
        self._is_waiting = is_waiting
        self._entries: list[tuple[float, Waiting]] = []  #: of two with the same time the lower order comes first

    def put(self, at: float, email: Waiting) -> None:
        """Let an email come up at a time."""
        heapq.heappush(self._entries, (at, email))

    def first(self) -> float | None:
        """No email comes up before this; None: none comes up."""
        return self._entries[0][0] if self._entries else None

    def take(self, now: float) -> Waiting | None:
        """Take out the next email whose time has come."""
        while self._entries and self._entries[0][0] <= now:
            email = heapq.heappop(self._entries)[1]
            if self._is_waiting(email):
                return email
        return None

    def tidy(self, most: int) -> None:
        """Drop what is passed over, when there are more than ``most`` entries."""
        if len(self._entries) > most:
            self._entries = [entry for entry in self._entries if self._is_waiting(entry[1])]
            heapq.heapify(self._entries)
