"""A clock beside the processes: how long each of them, and the whole machine, got no processor."""

import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Self

from tests.support.history_logs import Sample

LOOK_SECONDS = 0.02
#: A stall that is noted. Shorter ones explain nothing.
LEAST_SECONDS = 0.01
MACHINE = "machine"


class Stalls:
    """A thread that looks at the kernel's own account of each process's waiting, and at how late it is itself."""

    def __init__(self, processes: Callable[[], Mapping[str, int]], samples: list[Sample]) -> None:
        """``processes`` gives the pid of each by its name, as they are now."""
        self._processes, self._samples = processes, samples
        self._waited: dict[int, float] = {}  #: seconds that each pid was ready to run and did not, so far
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="stalls", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        before = time.monotonic()
        while not self._ended.wait(LOOK_SECONDS):
            now, at = time.monotonic(), time.time()
            self._note(at, MACHINE, now - before - LOOK_SECONDS)
            for name, pid in self._processes().items():
                if (waited := _waited_seconds(pid)) is not None:
                    self._note(at, name, waited - self._waited.get(pid, waited))
                    self._waited[pid] = waited
            before = time.monotonic()

    def _note(self, at: float, process: str, seconds: float) -> None:
        if seconds >= LEAST_SECONDS:
            self._samples.append(Sample(at, process, "stall_seconds", seconds))


def _waited_seconds(pid: int) -> float | None:
    """Of its main thread, which has the loop; None when it is gone."""
    try:
        return int(Path(f"/proc/{pid}/schedstat").read_text().split()[1]) / 1e9
    except (OSError, IndexError):
        return None
