"""A child process is watched and ended by its pid, and what a kill -9 of ours left over is found again."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from dev.process import Process
from mailstream.domain.errors import NotStarted
from tests.support.eventually import eventually_here

GREETS_AND_STAYS = "import time; print('hello', flush=True); time.sleep(60)"
GREETS_AND_ENDS = "print('hello'); raise SystemExit(3)"
IGNORES_SIGTERM = "import signal, time; signal.signal(15, signal.SIG_IGN); print('hello', flush=True); time.sleep(60)"


class Programs:
    """Makes processes that end with the test."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._made = folder, list[Process]()

    def running(self, text: str) -> Process:
        """One that has greeted, with a pid file."""
        program = Process(
            "greeter", [sys.executable, "-c", text], log=self._folder / "log", pid_file=self._folder / "pid"
        )
        self._made.append(program)
        program.start()
        program.wait_until(lambda: "hello" in program.last_lines(), seconds=20)
        return program

    def end(self) -> None:
        for program in self._made:
            if program.is_running():
                program.kill()


@pytest.fixture
def programs(tmp_path: Path) -> Iterator[Programs]:
    made = Programs(tmp_path)
    yield made
    made.end()


def test_a_stop_is_a_sigterm_and_leaves_no_pid_behind(programs: Programs, tmp_path: Path) -> None:
    program = programs.running(GREETS_AND_STAYS)
    assert (tmp_path / "pid").exists()

    assert program.stop() == -15

    assert not program.is_running()
    assert not (tmp_path / "pid").exists()


def test_what_ignores_a_sigterm_is_killed_in_the_end(programs: Programs) -> None:
    assert programs.running(IGNORES_SIGTERM).stop(seconds=0.5) == -9


def test_a_paused_process_can_be_resumed_and_stopped(programs: Programs) -> None:
    program = programs.running(GREETS_AND_STAYS)
    status = psutil.Process(program.pid).status

    program.pause()
    eventually_here(lambda: status() == psutil.STATUS_STOPPED, waiting_for="a pause")
    program.resume()
    eventually_here(lambda: status() != psutil.STATUS_STOPPED, waiting_for="its end")
    program.pause()

    assert program.stop() == -15


def test_one_that_ends_instead_of_getting_ready_is_told_with_the_end_of_its_log(tmp_path: Path) -> None:
    program = Process("greeter", [sys.executable, "-c", GREETS_AND_ENDS], log=tmp_path / "log")
    program.start()

    with pytest.raises(NotStarted) as told:
        program.wait_until(lambda: False, seconds=20)

    assert "greeter ended with exit code 3" in str(told.value)
    assert "hello" in str(told.value)
    assert program.wait(seconds=1) == 3


def test_one_that_is_not_ready_in_time_is_told_too(programs: Programs) -> None:
    program = programs.running(GREETS_AND_STAYS)

    with pytest.raises(NotStarted, match=r"not ready within 0\.1 s"):
        program.wait_until(lambda: False, seconds=0.1)
    with pytest.raises(TimeoutError):
        program.wait(seconds=0.1)


def test_the_next_start_ends_what_was_left_over(programs: Programs, tmp_path: Path) -> None:
    left = programs.running(GREETS_AND_STAYS)

    after = programs.running(GREETS_AND_STAYS)  # as a later process of ours would: it only has the file

    assert not left.is_running()
    assert (tmp_path / "pid").read_text().split()[0] == str(after.pid)


def test_a_pid_that_belongs_to_somebody_else_by_now_is_left_alone(programs: Programs, tmp_path: Path) -> None:
    other = subprocess.Popen([sys.executable, "-c", GREETS_AND_STAYS], stdout=subprocess.DEVNULL)
    try:
        (tmp_path / "pid").write_text(f"{other.pid} 1000000000.0")

        programs.running(GREETS_AND_STAYS)

        assert other.poll() is None
    finally:
        other.kill()
        other.wait()
