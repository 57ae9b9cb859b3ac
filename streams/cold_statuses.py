"""Statuses that memory has no room for, packed, in the scratch file."""

import json
from collections.abc import Iterable, Iterator

from streams.scratch import Scratch

#: One step of a walk over all of them.
_WALK = (
    "SELECT serial, id FROM status WHERE serial > ? AND serial <= ? "
    "AND partition IN (SELECT value FROM json_each(?)) ORDER BY serial LIMIT 500"
)


class ColdStatuses:
    """Packed statuses by email id. What is hot may be here too, older: who asks looks there first."""

    def __init__(self, scratch: Scratch) -> None:
        self._scratch = scratch
        self._is_empty = True
        scratch.execute(
            "CREATE TABLE status (serial INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, partition INTEGER, packed BLOB)"
        )

    def __bool__(self) -> bool:
        """Whether there may be any."""
        return not self._is_empty

    def get(self, email_id: str) -> bytes | None:
        """The packed status of an email."""
        if self._is_empty:
            return None
        row = self._scratch.row("SELECT packed FROM status WHERE id = ?", (email_id,))
        return None if row is None else row[0]

    def put(self, statuses: Iterable[tuple[str, int, bytes]]) -> None:
        """Keep these: id, partition, packed status."""
        self._is_empty = False
        self._scratch.many(  # keeps its serial, so that a walk meets no email twice and leaves none out
            "INSERT INTO status (id, partition, packed) VALUES (?, ?, ?) "
            "ON CONFLICT (id) DO UPDATE SET packed = excluded.packed",
            statuses,
        )

    def drop(self, email_id: str) -> None:
        """Forget an email."""
        if not self._is_empty:
            self._scratch.execute("DELETE FROM status WHERE id = ?", (email_id,))

    def lose(self, partitions: Iterable[int]) -> None:
        """Forget the emails of these partitions."""
        if not self._is_empty:
            self._scratch.execute(
                "DELETE FROM status WHERE partition IN (SELECT value FROM json_each(?))",
                (json.dumps(list(partitions)),),
            )
            self._is_empty = self._scratch.row("SELECT 1 FROM status LIMIT 1") is None

    def ids(self, partitions: Iterable[int]) -> Iterator[str]:
        """The emails of these partitions that are here now; they may be put and dropped meanwhile."""
        if self._is_empty:
            return
        wanted = json.dumps(list(partitions))
        last, end = 0, self._scratch.row("SELECT max(serial) FROM status")[0] or 0
        while rows := self._scratch.rows(_WALK, (last, end, wanted)):
            yield from (email_id for _, email_id in rows)
            last = rows[-1][0]
