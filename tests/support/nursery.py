"""Worker processes that start in a tenth of a second, so that hundreds of them can be killed.

``python -m tests.support.nursery`` imports the worker once and forks a process for each order on its standard input.
Each child runs a module as ``python -m`` would, in a session of its own: it is a real process with its own pid, killed
and stopped as any other. The nursery reports who ended on its standard output.
"""

import gc
import json
import os
import queue
import runpy
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn, Self

import httpx

from dev.ports import free_port
from mailstream.settings import Settings
from tests.support.system import as_environment

ROOT = Path(__file__).parents[2]
#: The real thing, as `mailstream worker` runs it.
REAL = ("cli.main", "worker")
LOOK_SECONDS = 0.01


class Child:
    """One worker: a process to kill, pause and stop by its pid. ``code`` is set when it has ended."""

    def __init__(self, name: str, port: int, log: Path) -> None:
        self.name, self.port, self.log = name, port, log
        self.url = f"http://127.0.0.1:{port}"
        self.pid, self.born_at = 0, 0.0
        self.code: int | None = None
        self.born, self.ended = threading.Event(), threading.Event()

    def is_running(self) -> bool:
        """Whether it has not ended; a paused one runs."""
        return not self.ended.is_set()

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        self.send(signal.SIGKILL)
        self.wait(10)

    def send(self, number: signal.Signals) -> None:
        """Any signal; none when it has ended."""
        if self.is_running():
            os.kill(self.pid, number)

    def wait(self, seconds: float) -> int | None:
        """Its exit code (minus the signal that ended it), or None when it still runs after that many seconds."""
        self.ended.wait(seconds)
        return self.code

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
        self._expected: queue.SimpleQueue[Child] = queue.SimpleQueue()

    def __enter__(self) -> Self:
        (self.folder / "logs").mkdir(parents=True, exist_ok=True)
        self._log = (self.folder / "logs" / "nursery.log").open("wb")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.nursery"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )
        self._listener = threading.Thread(target=self._listen, name="nursery", daemon=True)
        self._listener.start()
        return self

    def __exit__(self, *_: object) -> None:
        for child in self.children:
            child.kill()
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()  # the end of its input tells it to leave
        self._listener.join(10)
        self._process.stdout.close()
        self._process.wait(10)
        self._log.close()

    def worker(self, settings: Settings, program: Sequence[str] = REAL, *, name: str | None = None) -> Child:
        """Start a worker and return at once. ``program`` is a module of ours and its arguments.

        With a name it is the same member again: id, port and log go on.
        """
        before = next((child for child in reversed(self.children) if child.name == name), None)
        name = name or f"worker-{len(self.children) + 1}"
        port = before.port if before else free_port()
        log = self.folder / "logs" / f"{name}.log"
        mine = settings.model_copy(update={"worker_id": name, "worker_port": port, "data_dir": str(self.folder)})
        order = {
            "program": list(program),
            "env": as_environment(mine) | {"PYTHONPATH": str(ROOT)},
            "log": str(log),
            "cwd": str(self.folder),
        }
        child = Child(name, port, log)
        self._expected.put(child)
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        assert child.born.wait(60), "the nursery does not answer"
        self.children.append(child)
        return child

    def _listen(self) -> None:
        """Hear who was born, in the order of the orders, and who ended."""
        living: dict[int, Child] = {}
        assert self._process.stdout is not None
        for line in self._process.stdout:
            what, *numbers = line.split()
            if what == "born":
                child = self._expected.get()
                child.pid, child.born_at = int(numbers[0]), time.time()
                living[child.pid] = child
                child.born.set()
            elif what == "ended":
                child = living.pop(int(numbers[0]))
                child.code = int(numbers[1])
                child.ended.set()


# -- the process itself -----------------------------------------------------------------------------------


def serve() -> None:
    """Fork a child for each line, until the input ends; then leave."""
    import cli.main  # noqa: F401  what every child needs is imported once, here
    import streams.worker  # noqa: F401

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
        module, *arguments = order["program"]
        sys.argv = [module, *arguments]
        runpy.run_module(module, run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException as error:
        print(f"the worker broke: {error!r}", file=sys.stderr)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)  # the nursery's own ending is not this child's


if __name__ == "__main__":
    serve()
