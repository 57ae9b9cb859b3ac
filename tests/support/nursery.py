"""Worker processes that are killed by the hundred: forked, so that each is there in a tenth of a second."""

import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import httpx

from dev.ports import free_port
from mailstream.settings import Settings
from tests.support.forks import Fork, shared_forks
from tests.support.system import as_environment

#: The real thing, as `mailstream worker` runs it.
REAL = ("cli.main", "worker")


class Child:
    """One worker: a process to kill, pause and stop by its pid."""

    def __init__(self, fork: Fork, name: str, port: int, log: Path) -> None:
        self._fork = fork
        self.name, self.port, self.log = name, port, log
        self.url = f"http://127.0.0.1:{port}"

    @property
    def pid(self) -> int:
        """The process id."""
        return self._fork.pid

    @property
    def code(self) -> int | None:
        """Its exit code (minus the signal that ended it); None while it runs."""
        return self._fork.poll()

    def is_running(self) -> bool:
        """Whether it has not ended; a paused one runs."""
        return self._fork.poll() is None

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        self.send(signal.SIGKILL)
        self.wait(10)

    def send(self, number: signal.Signals) -> None:
        """Any signal; none when it has ended."""
        self._fork.send_signal(number)

    def wait(self, seconds: float) -> int | None:
        """Its exit code, or None when it still runs after that many seconds."""
        try:
            return self._fork.wait(seconds)
        except subprocess.TimeoutExpired:
            return None

    def state(self) -> dict[str, Any] | None:
        """What its probe says; None when it does not answer."""
        try:
            found: dict[str, Any] = httpx.get(f"{self.url}/readyz", timeout=1.0).json()
        except (httpx.HTTPError, ValueError):
            return None
        return found

    def is_ready(self) -> bool:
        """Whether it owns partitions and works."""
        return bool((self.state() or {}).get("ready"))

    def last_lines(self, count: int) -> str:
        """The end of its log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-count:])


class Nursery:
    """Starts workers. What still runs at its end is killed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.children: list[Child] = []

    def __enter__(self) -> Self:
        (self.folder / "logs").mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(self, *_: object) -> None:
        for child in self.children:
            child.kill()

    def worker(self, settings: Settings, program: Sequence[str] = REAL, *, name: str | None = None) -> Child:
        """Start a worker and return at once. ``program`` is a module of ours and its arguments.

        With a name it is the same member again: id, port and log go on.
        """
        before = next((child for child in reversed(self.children) if child.name == name), None)
        name = name or f"worker-{len(self.children) + 1}"
        port = before.port if before else free_port()
        log = self.folder / "logs" / f"{name}.log"
        data_dir = settings.data_dir if "data_dir" in settings.model_fields_set else str(self.folder)
        mine = settings.model_copy(update={"worker_id": name, "worker_port": port, "data_dir": data_dir})
        fork = shared_forks().start(program, env=as_environment(mine), log=log, cwd=self.folder)
        child = Child(fork, name, port, log)
        self.children.append(child)
        return child
