"""A child process with a log file: started, watched and ended by its pid, and nothing else is."""

import contextlib
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, Protocol

import psutil

from mailstream.domain.errors import NotStarted

#: Seconds between two looks at a process that is starting.
LOOK_SECONDS = 0.05
#: Lines of its log that an error shows.
LAST_LINES = 5


class Running(Protocol):
    """What of ``subprocess.Popen`` is used here."""

    @property
    def pid(self) -> int:
        """The process id."""

    def poll(self) -> int | None:
        """The exit code (minus the signal that ended it); None while it runs."""

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the exit code. Raises subprocess.TimeoutExpired."""

    def send_signal(self, sig: signal.Signals, /) -> None:
        """Any signal; none when it has ended."""

    def kill(self) -> None:
        """SIGKILL."""


class Process:
    """One program, which may be started again after it ended.

    It gets a session of its own: a Ctrl-C on the terminal reaches us alone, and we end our parts in order.
    ``pid_file`` remembers it beyond our own death, so that the next start ends what a kill -9 left over.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        log: Path,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        pid_file: Path | None = None,
    ) -> None:
        self.name, self.command, self.log = name, list(command), log
        self._env, self._cwd, self._pid_file = env, cwd, pid_file
        self._child: Running | None = None
        self._is_new_log = True

    @property
    def pid(self) -> int:
        """The process id. Only of a process that was started."""
        assert self._child is not None, f"{self.name} was not started"
        return self._child.pid

    @property
    def exit_code(self) -> int | None:
        """The exit code (minus the signal that ended it), or None while it runs or before its first start."""
        return None if self._child is None else self._child.poll()

    def is_running(self) -> bool:
        """Whether it was started and has not ended; a paused one runs."""
        return self._child is not None and self._child.poll() is None

    def start(self) -> None:
        """Start it. The first start empties the log, later ones append."""
        assert not self.is_running(), f"{self.name} runs already"
        if self._pid_file is not None:
            end_leftover(self._pid_file)
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("wb" if self._is_new_log else "ab") as log:
            self._child = self._spawned(log)
        self._is_new_log = False
        if self._pid_file is not None:
            _remember(self._pid_file, self._child.pid)

    def _spawned(self, log: BinaryIO) -> Running:
        return subprocess.Popen(
            self.command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=None if self._env is None else dict(self._env),
            cwd=self._cwd,
            start_new_session=True,
        )

    def wait_until(self, is_ready: Callable[[], bool], *, seconds: float) -> None:
        """Wait until it is ready. Raises NotStarted when it ends before, or does not make it in time."""
        deadline = time.monotonic() + seconds
        while not is_ready():
            if not self.is_running():
                raise NotStarted(f"{self.name} ended with exit code {self.exit_code}. {self.where_to_read()}")
            if time.monotonic() > deadline:
                raise NotStarted(f"{self.name} was not ready within {seconds:g} s. {self.where_to_read()}")
            time.sleep(LOOK_SECONDS)

    def wait(self, *, seconds: float) -> int:
        """Wait until it ends by itself. Returns the exit code; raises TimeoutError when it does not end in time."""
        assert self._child is not None, f"{self.name} was not started"
        try:
            return self._child.wait(seconds)
        except subprocess.TimeoutExpired:
            raise TimeoutError(f"{self.name} did not end within {seconds:g} s. {self.where_to_read()}") from None

    def stop(self, *, seconds: float = 30.0) -> int:
        """SIGTERM; SIGKILL when it has not ended after that many seconds. Returns the exit code."""
        self._signal(signal.SIGTERM)
        self._signal(signal.SIGCONT)  # a paused one would never see the first
        return self._ended(seconds)

    def kill(self) -> int:
        """SIGKILL: it gets no chance to tidy up. Returns the exit code."""
        self._signal(signal.SIGKILL)
        return self._ended(10.0)

    def pause(self) -> None:
        """SIGSTOP: it keeps its connections and does nothing."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        self._signal(signal.SIGCONT)

    def last_lines(self, count: int = LAST_LINES) -> str:
        """The end of its log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-count:]) if self.log.exists() else ""

    def where_to_read(self) -> str:
        """A sentence for people: which log, and how it ends."""
        return f"Read {self.log}:\n{self.last_lines()}"

    def _signal(self, number: signal.Signals) -> None:
        if self._child is not None:
            self._child.send_signal(number)  # does nothing once the process has ended

    def _ended(self, seconds: float) -> int:
        assert self._child is not None, f"{self.name} was not started"
        try:
            code = self._child.wait(seconds)
        except subprocess.TimeoutExpired:
            self._child.kill()
            code = self._child.wait()
        if self._pid_file is not None:
            self._pid_file.unlink(missing_ok=True)
        return code


def _remember(pid_file: Path, pid: int) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):  # it ended at once: nothing to remember
        pid_file.write_text(f"{pid} {psutil.Process(pid).create_time()}")


def end_leftover(pid_file: Path) -> None:
    """End the process that this file remembers, if it is still the same one.

    Call it only while holding the lock that keeps a second one of us out: then its parent is gone.
    """
    try:
        pid, created = pid_file.read_text().split()
        left = psutil.Process(int(pid))
        if abs(left.create_time() - float(created)) < 1:  # a pid may be used again
            left.terminate()
            try:
                left.wait(10)
            except psutil.TimeoutExpired:
                left.kill()
                left.wait(10)
    except (FileNotFoundError, ValueError, psutil.NoSuchProcess):
        pass
    pid_file.unlink(missing_ok=True)
