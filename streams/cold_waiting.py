"""Emails of the schedule that memory has no room for, in the scratch file (``streams.core.cold.Cold``)."""

import json
import math
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from typing import Any

from mailstream.request import Lane
from streams.core.cold import NUMBER, Key, key_in
from streams.core.waiting import Waiting
from streams.scratch import Scratch

_LANES = tuple(NUMBER)
_ALL = "SELECT serial, id, partition, recipient, lane, created, place, due, expires FROM waiting "
_NEXT = _ALL + "WHERE queue = ? AND key <= ? ORDER BY key, place LIMIT ?"
_IDS = "SELECT id FROM waiting WHERE queue = ? ORDER BY key, place LIMIT ?"
_ONE = _ALL + "WHERE id = ?"
_EXPIRED = _ALL + "WHERE expires <= ? ORDER BY expires LIMIT ?"
_WALK = _ALL + "WHERE serial > ? ORDER BY serial LIMIT 500"
_INSERT = (
    "INSERT INTO waiting (id, partition, recipient, lane, created, place, due, expires, queue, key) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)


class ColdWaiting:
    """Each id is in it at most once."""

    def __init__(self, scratch: Scratch) -> None:
        self._scratch = scratch
        self._counts: Counter[int] = Counter()  #: by number of the lane
        scratch.execute(
            "CREATE TABLE waiting (serial INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, partition INTEGER, "
            "recipient INTEGER, lane INTEGER, created REAL, place INTEGER, due REAL, expires REAL, "
            "queue INTEGER, key REAL)"
        )
        scratch.execute("CREATE INDEX waiting_next ON waiting (queue, key, place)")
        scratch.execute("CREATE INDEX waiting_expires ON waiting (expires) WHERE expires IS NOT NULL")

    def __len__(self) -> int:
        return self._counts.total()

    def __contains__(self, email_id: str) -> bool:
        return self._scratch.row("SELECT 1 FROM waiting WHERE id = ?", (email_id,)) is not None

    def __iter__(self) -> Iterator[Waiting]:
        last = 0
        while rows := self._scratch.rows(_WALK, (last,)):
            for row in rows:
                yield _waiting(row)
            last = rows[-1][0]

    def put(self, queue: int, emails: Collection[Waiting]) -> None:
        """Take in emails that are not in it."""
        rows = [
            (e.id, e.partition, e.recipient, NUMBER[e.lane], e.created, e.order, e.due, e.expires, queue, key_in(queue, e)[0])
            for e in emails
        ]  # fmt: skip
        self._counts.update(NUMBER[e.lane] for e in emails)
        self._scratch.many(_INSERT, rows)

    def first(self, queue: int) -> Key | None:
        """The lowest key of a queue, None when it is empty."""
        row = self._scratch.row("SELECT key, place FROM waiting WHERE queue = ? ORDER BY key, place LIMIT 1", (queue,))
        return None if row is None else (row[0], row[1])

    def ids(self, queue: int, at_most: int) -> list[str]:
        """The first ones of a queue, which stay where they are."""
        return [row[0] for row in self._scratch.rows(_IDS, (queue, at_most))]

    def take(self, queue: int, at_most: int, *, until: float | None = None) -> list[Waiting]:
        """Take out the first ones of a queue; with ``until`` only those whose key begins with no more than it."""
        last = math.inf if until is None else until
        return self._take(_NEXT, (queue, last, at_most))

    def remove(self, email_id: str) -> Waiting | None:
        """Take one out."""
        taken = self._take(_ONE, (email_id,))
        return taken[0] if taken else None

    def first_expiry(self) -> float | None:
        """When the first of all expires, None when none does."""
        expiry: float | None = self._scratch.row("SELECT min(expires) FROM waiting WHERE expires IS NOT NULL")[0]
        return expiry

    def expired(self, now: float, at_most: int) -> list[Waiting]:
        """Take out those that have expired, or the first few of them; all when ``at_most`` is below 0."""
        return self._take(_EXPIRED, (now, at_most))

    def lose(self, partitions: Iterable[int]) -> None:
        """Drop the emails of these partitions."""
        if len(self):
            self._scratch.execute(
                "DELETE FROM waiting WHERE partition IN (SELECT value FROM json_each(?))",
                (json.dumps(list(partitions)),),
            )
            self._counts = Counter(dict(self._scratch.rows("SELECT lane, count(*) FROM waiting GROUP BY lane")))

    def backlog(self) -> dict[Lane, int]:
        """How many there are, by lane."""
        return {_LANES[lane]: count for lane, count in self._counts.items()}

    def _take(self, query: str, values: tuple[Any, ...]) -> list[Waiting]:
        rows = self._scratch.rows(query, values)
        self._counts.subtract(row[4] for row in rows)
        self._scratch.many("DELETE FROM waiting WHERE serial = ?", [(row[0],) for row in rows])
        return [_waiting(row) for row in rows]


def _waiting(row: tuple[Any, ...]) -> Waiting:
    _, email_id, partition, recipient, lane, created, order, due, expires = row
    return Waiting(email_id, partition, recipient, _LANES[lane], created, order, due, expires)
