"""A file for what memory has no room for: SQLite, of this process only, gone with it (ADR-0016).

Kafka has everything that is in it, so nothing is ever committed, synced or journaled.
"""

import os
import sqlite3
import tempfile
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from mailstream.errors import NoScratch
from mailstream.settings import Settings

CACHE_KIB = 16_384
#: One process owns the file and nobody reads it after it, so all that makes a database durable is switched off.
PRAGMAS = (
    "journal_mode = OFF",
    "synchronous = OFF",
    "locking_mode = EXCLUSIVE",
    "temp_store = MEMORY",
    "mmap_size = 0",  # mapped pages would count as memory of the process
)


class Scratch:
    """Tables on disk. Raises NoScratch when the disk does not do its part; ``failed`` is told too, once.

    Callbacks of the loop swallow what is raised in them; after a write that failed nothing here can be trusted.
    """

    def __init__(self, folder: Path, failed: Callable[[BaseException], None]) -> None:
        self._folder, self._failed = folder, failed
        path: str | None = None
        try:
            folder.mkdir(parents=True, exist_ok=True)
            file, path = tempfile.mkstemp(prefix="waiting-", suffix=".sqlite", dir=folder)
            os.close(file)
            self._base = sqlite3.connect(path, isolation_level=None)
            for pragma in (*PRAGMAS, f"cache_size = -{CACHE_KIB}"):
                self._base.execute(f"PRAGMA {pragma}")
            self._base.execute("BEGIN EXCLUSIVE")
        except (OSError, sqlite3.Error) as error:
            raise self._no_scratch(error) from error
        finally:
            if path is not None:  # open, it lives on without a name: whatever ends the process gives the space back
                with suppress(OSError):
                    Path(path).unlink()

    def execute(self, statement: str, values: Iterable[Any] = ()) -> sqlite3.Cursor:
        """Run one statement."""
        try:
            return self._base.execute(statement, tuple(values))
        except sqlite3.Error as error:
            raise self._broken(error) from error

    def rows(self, statement: str, values: Iterable[Any] = ()) -> list[Any]:
        """All rows of a query."""
        try:
            return self._base.execute(statement, tuple(values)).fetchall()
        except sqlite3.Error as error:
            raise self._broken(error) from error

    def row(self, statement: str, values: Iterable[Any] = ()) -> Any:
        """The first row of a query, or None."""
        try:
            return self._base.execute(statement, tuple(values)).fetchone()
        except sqlite3.Error as error:
            raise self._broken(error) from error

    def many(self, statement: str, values: Iterable[tuple[Any, ...]]) -> None:
        """Run one statement for each."""
        try:
            self._base.executemany(statement, values)
        except sqlite3.Error as error:
            raise self._broken(error) from error

    def close(self) -> None:
        """Give the space back."""
        self._base.close()

    def _broken(self, error: sqlite3.Error) -> NoScratch:
        failed, told = self._failed, self._no_scratch(error)
        self._failed = _nothing
        failed(told)
        return told

    def _no_scratch(self, error: Exception) -> NoScratch:
        return NoScratch(
            f"{self._folder} cannot be written and read: {error}. Emails that wait are put there when memory has no room. "
            "Nothing is lost, Kafka has all of them. Give MAILSTREAM_DATA_DIR a folder with free space, about 600 bytes "
            "for each email that waits or was sent within STATUS_RETENTION, and start the worker again"
        )


def folder_in(settings: Settings) -> Path:
    """Where the scratch file of a worker is."""
    return Path(settings.data_dir, "scratch")


def try_out(settings: Settings) -> None:
    """Raises NoScratch before anything is joined, when the folder cannot be used."""
    Scratch(folder_in(settings), _nothing).close()


def _nothing(error: BaseException) -> None:
    """It was told, or is raised only."""
