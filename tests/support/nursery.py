"""Workers and APIs that are killed by the hundred: forked, so that each is there in a tenth of a second."""

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

#: The real things, as `mailstream worker` and `mailstream api` run them.
REAL = ("cli.main", "worker")
REAL_API = ("cli.main", "api")


class Child:
    """One worker or API: a process to kill, pause and stop by its pid."""

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

    def is_stopped(self) -> bool:
        """Whether a SIGSTOP holds it."""
        try:
            return Path(f"/proc/{self.pid}/stat").read_text().rpartition(") ")[2].startswith("T")
        except OSError:
            return False

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
        """Whether it owns partitions and works; an API: whether it follows the log."""
        state = self.state() or {}
        return bool(state.get("ready")) or state.get("status") == "ok"

    def last_lines(self, count: int) -> str:
        """The end of its log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-count:])


class Nursery:
    """Starts workers and APIs. What still runs at its end is killed."""

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
        name = name or f"worker-{len(self.children) + 1}"
        port = self._port_of(name)
        data_dir = settings.data_dir if "data_dir" in settings.model_fields_set else str(self.folder)
        mine = settings.model_copy(update={"worker_id": name, "worker_port": port, "data_dir": data_dir})
        return self._start(mine, program, name, port)

    def api(self, settings: Settings, program: Sequence[str] = REAL_API, *, name: str) -> Child:
        """Start an API and return at once. With the same name it is the same replica again: port and log go on."""
        port = self._port_of(name)
        return self._start(settings.model_copy(update={"api_port": port}), program, name, port)

    def _port_of(self, name: str) -> int:
        before = next((child for child in reversed(self.children) if child.name == name), None)
        return before.port if before else free_port()

    def _start(self, settings: Settings, program: Sequence[str], name: str, port: int) -> Child:
        log = self.folder / "logs" / f"{name}.log"
        fork = shared_forks().start(program, env=as_environment(settings), log=log, cwd=self.folder)
        child = Child(fork, name, port, log)
        self.children.append(child)
        return child
