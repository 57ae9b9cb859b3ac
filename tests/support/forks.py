"""Real processes of our programs that start in a tenth of a second, so that hundreds of them can be started and killed.

``python -m tests.support.forks`` imports what every program needs once (a second of CPU) and forks a process for each order on
its standard input. Each runs a module as ``python -m`` would, in a session of its own, with a pid to kill and pause.
Who ended is reported on standard output.
"""

import atexit
import faulthandler
import gc
import importlib
import json
import os
import queue
import runpy
import select
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NoReturn, Self

ROOT = Path(__file__).parents[2]
LOOK_SECONDS = 0.01


class Fork:
    """One process, with what ``subprocess.Popen`` offers to watch and end it."""

    def __init__(self, name: str) -> None:
        self._name = name
        self.pid = 0
        self.code: int | None = None
        self.born, self.ended = threading.Event(), threading.Event()

    def poll(self) -> int | None:
        """Its exit code (minus the signal that ended it); None while it runs."""
        return self.code if self.ended.is_set() else None

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end. Raises subprocess.TimeoutExpired."""
        if not self.ended.wait(timeout):
            raise subprocess.TimeoutExpired(self._name, timeout or 0.0)
        assert self.code is not None
        return self.code

    def send_signal(self, number: signal.Signals) -> None:
        """Any signal; none when it has ended."""
        if not self.ended.is_set():
            os.kill(self.pid, number)

    def kill(self) -> None:
        """SIGKILL."""
        self.send_signal(signal.SIGKILL)


class Forks:
    """The process that forks. What was started runs on when this ends."""

    def __init__(self, log: Path) -> None:
        self._log_path = log
        self._expected: queue.SimpleQueue[Fork] = queue.SimpleQueue()

    def __enter__(self) -> Self:
        self._log = self._log_path.open("wb")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.forks"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )
        self._listener = threading.Thread(target=self._listen, name="forks", daemon=True)
        self._listener.start()
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()  # the end of its input tells it to leave
        self._process.wait(10)
        self._listener.join(10)
        self._process.stdout.close()
        self._log.close()

    def start(self, program: Sequence[str], *, env: Mapping[str, str], log: Path, cwd: Path) -> Fork:
        """Start a module of ours with its arguments; it appends to the log."""
        fork = Fork(" ".join(program))
        self._expected.put(fork)
        order = {
            "program": list(program),
            "env": {**env, "PYTHONPATH": str(ROOT)},
            "log": str(log),
            "cwd": str(cwd),
        }
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        assert fork.born.wait(60), f"nothing is forked: {self._log_path.read_text(errors='replace')}"
        return fork

    def _listen(self) -> None:
        """Hear who was born, in the order of the orders, and who ended."""
        living: dict[int, Fork] = {}
        assert self._process.stdout is not None
        for line in self._process.stdout:
            what, *numbers = line.split()
            if what == "born":
                fork = self._expected.get()
                fork.pid = int(numbers[0])
                living[fork.pid] = fork
                fork.born.set()
            elif what == "ended":
                fork = living.pop(int(numbers[0]))
                fork.code = int(numbers[1])
                fork.ended.set()


@cache
def shared_forks() -> Forks:
    """One for all tests of this process: imports are paid once, not by every program."""
    folder = tempfile.TemporaryDirectory(prefix="forks-")
    forks = Forks(Path(folder.name) / "log").__enter__()
    atexit.register(folder.cleanup)
    atexit.register(forks.__exit__)  # called first
    return forks


# -- the process itself -----------------------------------------------------------------------------------


def serve() -> None:
    """Fork a child for each line, until the input ends; then leave."""
    for needed in ("cli.verbs", "cli.main", "api.server", "streams.worker", "dev.sendgrid.app"):
        importlib.import_module(needed)
    gc.collect()
    gc.freeze()
    unread = b""
    while True:
        _report_ended()
        if not select.select([0], [], [], LOOK_SECONDS)[0]:
            continue
        if not (piece := os.read(0, 65_536)):
            return
        *lines, unread = (unread + piece).split(b"\n")
        for line in lines:
            pid = os.fork()
            if pid == 0:
                _live(json.loads(line))
            print("born", pid, flush=True)


def _report_ended() -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        print("ended", pid, os.waitstatus_to_exitcode(status), flush=True)


def _live(order: dict[str, Any]) -> NoReturn:
    code = 1
    try:
        os.setsid()
        log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.chdir(order["cwd"])
        os.environ.clear()
        os.environ.update(order["env"])
        if "PYTHONFAULTHANDLER" in os.environ:  # Python has looked for it before the fork
            faulthandler.enable()
        module, *arguments = order["program"]
        sys.argv = [module, *arguments]
        sys.modules.pop(module, None)  # it is run anew, as the main module
        runpy.run_module(module, run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException as error:
        print(f"the program broke: {error!r}", file=sys.stderr)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)  # the ending of the process that forks is not this child's


if __name__ == "__main__":
    serve()
