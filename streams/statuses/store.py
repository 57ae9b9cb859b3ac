"""The store behind the table of statuses: SQLite in a file without a name, emptied by the end of its process (ADR-0027).

Faust makes it for ``store="statuses://"``, by the entry point in ``faust.stores``. Kafka has everything that is in it, so
nothing is ever committed, synced or journaled, and no start finds an old one.
"""

import os
import sqlite3
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Iterator, MutableMapping
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

from faust.stores import memory
from faust.types import EventT

from mailstream.domain import codec
from mailstream.domain.email_id import partition_in
from mailstream.domain.errors import BadEmailId, NoScratch
from mailstream.domain.packed import Packer, unpack
from mailstream.domain.status import EmailStatus
from mailstream.settings import Settings

MOST_RECENT, AT_ONCE = 20_000, 500  #: statuses that wait to be written to the file, and that are written together
AT_HAND = 2500  #: statuses that are kept decoded: more than those whose bodies are read ahead together
CACHE_KIB = 16_384
#: One process owns the file and none reads it afterwards, so all that makes a database durable is switched off.
PRAGMAS = (
    "journal_mode = OFF",
    "synchronous = OFF",
    "locking_mode = EXCLUSIVE",
    "temp_store = MEMORY",
    "mmap_size = 0",  # mapped pages would count as memory of the process
)

#: A table for each partition, which goes in one step. In the order of the serials emails that were asked for together are
#: together; an email keeps its own, so that a walk meets none twice.
_CREATE = "CREATE TABLE IF NOT EXISTS status_{} (serial INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, packed BLOB)"
_KEEP = "INSERT INTO status_{} (id, packed) VALUES (?, ?) ON CONFLICT (id) DO UPDATE SET packed = excluded.packed"


class StatusStore(memory.Store):  # type: ignore[misc]
    """Email id to status. What is written last waits in memory, so an email in work does not touch the file.

    Raises NoScratch when the disk does not do its part, and then ends the app: what is raised in callbacks of the loop is
    swallowed, and after a write that failed nothing here can be trusted.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        settings: Settings = self.app.mailstream_settings
        self._folder, self._partitions = folder_in(settings), settings.partitions
        self._base = _opened(self._folder)
        self._packer = Packer()
        self._recent: dict[str, bytes] = {}  #: as they are in the log; the file may hold older ones of these emails
        self._at_hand: dict[str, EmailStatus] = {}  #: the last few that were asked for or written
        self._filled: set[int] = set()  #: partitions that have something in the file

    # -- one email ----------------------------------------------------------------------------------------

    def get(self, email_id: str, default: EmailStatus | None = None) -> EmailStatus | None:
        """What is known of an email."""
        if (status := self._at_hand.get(email_id)) is not None:
            return status
        if (value := self.value_of(email_id)) is None:
            return default
        return self._hold(codec.decode_status(value))

    def value_of(self, email_id: str) -> bytes | None:
        """The record that says what is known of an email."""
        if (value := self._recent.get(email_id)) is not None:
            return value
        if (partition := self._partition_of(email_id)) not in self._filled:
            return None
        rows = self._run(f"SELECT packed FROM status_{partition} WHERE id = ?", (email_id,))  # noqa: S608  # a number
        return unpack(rows[0][0]) if rows else None

    def keep(self, email_id: str, value: bytes, status: EmailStatus | None = None) -> None:
        """Take a record of ``email.status``; ``status``, when it is decoded already."""
        self._recent[email_id] = value
        self._at_hand.pop(email_id, None)
        if status is not None:
            self._hold(status)
        if len(self._recent) > MOST_RECENT:
            self._write(list(islice(self._recent, AT_ONCE)))  # those that came first

    def __getitem__(self, email_id: str) -> EmailStatus:
        if (status := self.get(email_id)) is None:
            raise KeyError(email_id)
        return status

    def __contains__(self, email_id: object) -> bool:
        return isinstance(email_id, str) and self.get(email_id) is not None

    def __setitem__(self, email_id: str, status: EmailStatus) -> None:
        self.keep(email_id, codec.encode(status), status)

    def __delitem__(self, email_id: str) -> None:
        self._recent.pop(email_id, None)
        self._at_hand.pop(email_id, None)
        if (partition := self._partition_of(email_id)) in self._filled:
            self._run(f"DELETE FROM status_{partition} WHERE id = ?", (email_id,))  # noqa: S608

    # -- many ---------------------------------------------------------------------------------------------

    def ids(self, partitions: Iterable[int]) -> Iterator[str]:
        """The emails of these partitions, each once; they may change, come and go meanwhile."""
        wanted = set(partitions)
        recent = {email_id for email_id in self._recent if self._partition_of(email_id) in wanted}
        yield from recent
        for partition in wanted & self._filled:
            step = f"SELECT id, serial FROM status_{partition} WHERE serial > ? ORDER BY serial LIMIT {AT_ONCE}"  # noqa: S608
            last = 0
            while rows := self._run(step, (last,)):
                yield from (email_id for email_id, _ in rows if email_id not in recent)
                last = rows[-1][1]

    def __iter__(self) -> Iterator[str]:
        return self.ids(range(self._partitions))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    keys, values, items = MutableMapping.keys, MutableMapping.values, MutableMapping.items

    def lose(self, partitions: Iterable[int]) -> None:
        """Forget all emails of these partitions."""
        lost = set(partitions)
        held: dict[str, Any]
        for held in (self._recent, self._at_hand):
            for email_id in [id_ for id_ in held if self._partition_of(id_) in lost]:
                del held[email_id]
        for partition in lost & self._filled:
            self._run(f"DROP TABLE status_{partition}")
        self._filled -= lost

    def apply_changelog_batch(self, batch: Iterable[EventT], to_key: Any, to_value: Any) -> None:
        """Faust reads the end of the changelog a second time; the tail brings the same records, merged by rank."""

    def close(self) -> None:
        """Give the space back."""
        self._base.close()

    # -- inside -------------------------------------------------------------------------------------------

    def _hold(self, status: EmailStatus) -> EmailStatus:
        """Keep a status at hand: on its way from the schedule to SENT an email is asked for again and again."""
        self._at_hand[status.id] = status
        if len(self._at_hand) > AT_HAND:
            del self._at_hand[next(iter(self._at_hand))]
        return status

    def _write(self, email_ids: list[str]) -> None:
        packed = self._packer.pack_all([self._recent[email_id] for email_id in email_ids])
        rows: defaultdict[int | None, list[tuple[str, bytes]]] = defaultdict(list)
        for email_id, each in zip(email_ids, packed, strict=True):
            rows[self._partition_of(email_id)].append((email_id, each))
        try:
            for partition, those in rows.items():
                if partition is not None:
                    self._base.execute(_CREATE.format(partition))
                    self._base.executemany(_KEEP.format(partition), those)
                    self._filled.add(partition)
        except sqlite3.Error as error:
            raise self._broken(error) from error
        for email_id in email_ids:
            del self._recent[email_id]

    def _run(self, statement: str, values: tuple[Any, ...] = ()) -> list[Any]:
        try:
            return self._base.execute(statement, values).fetchall()
        except sqlite3.Error as error:
            raise self._broken(error) from error

    def _broken(self, error: sqlite3.Error) -> NoScratch:
        told = _no_scratch(self._folder, error)
        if not self.app.has_failed:
            self.app.fail(told)
        return told

    def _partition_of(self, email_id: str) -> int | None:
        """None for what another program wrote under a key that is no email id: that is forgotten."""
        try:
            return partition_in(email_id, self._partitions)
        except BadEmailId:
            return None


def folder_in(settings: Settings) -> Path:
    """Where the file of a worker is made."""
    return Path(settings.data_dir, "scratch")


def try_out(settings: Settings) -> None:
    """Raises NoScratch before anything is joined, when the folder cannot be used."""
    _opened(folder_in(settings)).close()


def _opened(folder: Path) -> sqlite3.Connection:
    path: str | None = None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file, path = tempfile.mkstemp(prefix="statuses-", suffix=".sqlite", dir=folder)
        os.close(file)
        base = sqlite3.connect(path, isolation_level=None, cached_statements=1024)
        for pragma in (*PRAGMAS, f"cache_size = -{CACHE_KIB}"):
            base.execute(f"PRAGMA {pragma}")
        base.execute("BEGIN EXCLUSIVE")
    except (OSError, sqlite3.Error) as error:
        raise _no_scratch(folder, error) from error
    finally:
        if path is not None:  # open, it lives on without a name: any end of the process gives the space back
            with suppress(OSError):
                Path(path).unlink()
    return base


def _no_scratch(folder: Path, error: Exception) -> NoScratch:
    return NoScratch(
        f"{folder} cannot be written and read: {error}. The statuses of emails are there, in a file of this worker. "
        "Nothing is lost, Kafka has all of them. Give MAILSTREAM_DATA_DIR a folder with free space, about 400 bytes "
        "for each email that waits or was sent within STATUS_RETENTION, and start the worker again"
    )
