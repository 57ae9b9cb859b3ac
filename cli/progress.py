"""How far a long command is: a bar on a terminal, now and then a line elsewhere. Always on stderr."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from mailstream.settings import Settings

if TYPE_CHECKING:
    from mailstream.kafka.reader import Reader

LINE_SECONDS = 10.0


class Meter:
    """Counts what went by, towards what was planned. Use it as a context manager."""

    def __init__(self, what: str) -> None:
        self._what, self._planned, self._done = what, 0, 0
        self._next_line = time.monotonic() + LINE_SECONDS
        columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
        # without a terminal there is no bar: it would be printed once, at the end
        self._bar = Progress(*columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty())
        self._task = self._bar.add_task(what, total=None)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._bar.stop()

    def planned(self, count: int) -> None:
        """There are so many in all."""
        self._planned = count
        self._bar.update(self._task, total=count)

    def progress(self, count: int) -> None:
        """So many more are done."""
        self._done += count
        if not self._bar.disable:
            self._bar.update(self._task, advance=count)
        elif time.monotonic() >= self._next_line:
            self._next_line = time.monotonic() + LINE_SECONDS
            print(f"{self._what}: {self._done:,} of {self._planned:,}", file=sys.stderr, flush=True)


@contextmanager
def reading(settings: Settings, what: str) -> "Iterator[Reader]":
    """A reader whose progress is shown."""
    from mailstream.kafka.reader import Reader  # commands that read nothing start without it

    with Meter(what) as meter, Reader(settings, planned=meter.planned, progress=meter.progress) as reader:
        yield reader
