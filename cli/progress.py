"""How far a long command is: a bar on a terminal, now and then a line elsewhere. Always on stderr."""

import sys
import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

LINE_SECONDS = 10.0


class Meter:
    """Counts what went by, towards what was planned. Use it as a context manager."""

    def __init__(self, what: str) -> None:
        self._what, self._planned, self._done = what, 0, 0
        self._next_line = time.monotonic() + LINE_SECONDS
        columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
        is_terminal = sys.stderr.isatty()
        self._bar = Progress(*columns, console=Console(stderr=True), transient=True) if is_terminal else None
        self._task = self._bar.add_task(what, total=None) if self._bar else None

    def __enter__(self) -> Self:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._bar:
            self._bar.stop()

    def planned(self, count: int) -> None:
        """There are so many in all."""
        self._planned = count
        if self._bar and self._task is not None:
            self._bar.update(self._task, total=count)

    def progress(self, count: int) -> None:
        """So many more are done."""
        self._done += count
        if self._bar and self._task is not None:
            self._bar.update(self._task, advance=count)
        elif time.monotonic() >= self._next_line:
            self._next_line = time.monotonic() + LINE_SECONDS
            print(f"{self._what}: {self._done:,} of {self._planned:,}", file=sys.stderr, flush=True)
