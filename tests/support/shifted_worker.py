"""A worker whose wall clock is wrong: ``python -m tests.support.shifted_worker FILE``.

It is the real worker. The file says by how many seconds its clock is ahead, and may be written at any time; a second
number lets the clock jump there and back ten times a second.
"""

import sys
import time
from pathlib import Path

from mailstream.clock import SystemClock
from streams.worker import run

READ_SECONDS = 0.02
JUMP_SECONDS = 0.1


class ShiftedClock(SystemClock):
    """The machine's clocks, the wall clock with an error that a file names."""

    def __init__(self, file: Path) -> None:
        self._file, self._read_at, self._shifts = file, 0.0, [0.0]

    def now(self) -> float:
        """Wall time as a machine has it that lost its NTP."""
        at = self.monotonic()
        if at - self._read_at > READ_SECONDS:
            self._read_at, self._shifts = at, [float(word) for word in self._file.read_text().split()] or self._shifts
        return time.time() + self._shifts[int(at / JUMP_SECONDS) % len(self._shifts)]


def shift(file: Path, *seconds: float) -> None:
    """Set the clock of the worker that reads this file, all at once."""
    new = file.with_suffix(".new")
    new.write_text(" ".join(map(str, seconds)))
    new.replace(file)


if __name__ == "__main__":
    sys.exit(run(clock=ShiftedClock(Path(sys.argv[1]))))
