"""The real programs, as processes: started with settings, waited for, stopped, killed and paused by their pid."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import httpx

from dev.ports import free_port
from dev.process import Process, Running
from mailstream.settings import Settings
from tests.support.forks import shared_forks
from tests.support.system import as_environment

#: From the start of Python to the first ready answer: imports, table, group.
READY_SECONDS = 40.0
#: Longer than the drain that contract and guarantees allow.
STOP_SECONDS = 30.0


class Program(Process):
    """One running part of mailstream."""

    def __init__(
        self,
        name: str,
        arguments: list[str],
        settings: Settings,
        port: int,
        *,
        probe: str,
        folder: Path,
        is_forked: bool = True,
    ) -> None:
        self.settings, self.port, self._probe = settings, port, probe
        self._folder, self._is_forked = folder, is_forked
        self.url = f"http://127.0.0.1:{port}"
        self._module = ["cli.main", *arguments]
        super().__init__(
            name,
            [sys.executable, "-m", *self._module],
            log=folder / "logs" / f"{name}.log",
            env=as_environment(settings),
            cwd=folder,
        )

    def _spawned(self, log: BinaryIO) -> Running:
        if not self._is_forked:
            return super()._spawned(log)
        return shared_forks().start(self._module, env=as_environment(self.settings), log=self.log, cwd=self._folder)

    def is_ready(self) -> bool:
        """Whether its probe says so."""
        try:
            return httpx.get(self.url + self._probe, timeout=1.0).is_success
        except httpx.HTTPError:
            return False

    def ready(self, *, seconds: float = READY_SECONDS) -> "Program":
        """Wait until it is ready. Raises NotStarted with the end of its log."""
        self.wait_until(self.is_ready, seconds=seconds)
        return self


class Programs:
    """Starts parts of one system. What still runs at the end of the test is stopped.

    ``is_forked=False``: as a user starts them, for whoever looks at their memory.
    """

    def __init__(self, folder: Path, *, is_forked: bool = True) -> None:
        self.folder, self._is_forked = folder, is_forked
        self.started: list[Program] = []

    def api(self, settings: Settings) -> Program:
        """Start ``mailstream api`` on a free port. Wait for ``ready()``."""
        port = free_port()
        return self._start("api", ["api"], settings.model_copy(update={"api_port": port}), port)

    def worker(self, settings: Settings) -> Program:
        """Start ``mailstream worker`` with an id of its own, probes on a free port. Wait for ``ready()``."""
        port, name = free_port(), self._name("worker")
        mine = settings.model_copy(update={"worker_port": port, "worker_id": name})
        return self._start("worker", ["worker"], mine, port)

    def sendgrid(self, settings: Settings) -> Program:
        """Start the emulator ``mailstream dev sendgrid`` on a free port. Wait for ``ready()``."""
        port = free_port()
        arguments = ["dev", "sendgrid", "--port", str(port)]
        return self._start("sendgrid", arguments, settings, port, probe="/ledger")

    def stop(self) -> None:
        """Stop all that runs, the last started first."""
        for program in reversed(self.started):
            if program.is_running():
                program.stop(seconds=STOP_SECONDS)

    def _start(self, kind: str, arguments: list[str], settings: Settings, port: int, probe: str = "/readyz") -> Program:
        program = Program(
            self._name(kind), arguments, settings, port, probe=probe, folder=self.folder, is_forked=self._is_forked
        )
        self.started.append(program)
        program.start()
        return program

    def _name(self, kind: str) -> str:
        return f"{kind}-{sum(program.name.startswith(kind) for program in self.started) + 1}"


@contextmanager
def programs_in(folder: Path, *, is_forked: bool = True) -> Iterator[Programs]:
    """Programs that stop at the end of the block."""
    programs = Programs(folder, is_forked=is_forked)
    try:
        yield programs
    finally:
        programs.stop()


def command(
    *arguments: str, settings: Settings, folder: Path, seconds: float = 60.0
) -> "subprocess.CompletedProcess[str]":
    """Run ``mailstream …`` to its end, as in a terminal that stands in ``folder``."""
    return subprocess.run(
        [sys.executable, "-m", "cli.main", *arguments],
        env=as_environment(settings),
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
