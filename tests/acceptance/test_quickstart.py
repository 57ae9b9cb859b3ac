"""What a new user does first: the whole system with one command, a mail from each source, and a clean end."""

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from dev.kafka.find import THREE_WAYS
from dev.ports import free_port, is_free
from dev.process import Process
from mailstream.settings import Settings
from tests.support.broker import JARS, can_start
from tests.support.processes import command
from tests.support.system import as_environment

#: Kafka, three processes and two mails on a machine that may be busy.
UP_SECONDS = 100.0

starts_kafka = pytest.mark.skipif(not (can_start() or os.environ.get("CI")), reason=THREE_WAYS)


def local() -> Settings:
    """Settings of a local system with a Kafka of its own, on free ports."""
    ports: dict[str, Any] = {
        name: free_port() for name in ("api_port", "worker_port", "dev_kafka_port", "dev_sendgrid_port")
    }
    return Settings(_env_file=None, dev=True, **ports)


class Terminal:
    """A terminal in a folder with settings: what was started in it ends with the test."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.settings = folder, local()
        self._started: list[Process] = []

    def start(self, *arguments: str) -> Process:
        """``mailstream …`` as a process that goes on."""
        process = Process(
            " ".join(arguments),
            [sys.executable, "-m", "cli.main", *arguments],
            log=self.folder / f"terminal-{len(self._started)}.log",
            env=as_environment(self.settings),
            cwd=self.folder,
        )
        self._started.append(process)
        process.start()
        return process

    def run(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """``mailstream …`` to its end."""
        return command(*arguments, settings=self.settings, folder=self.folder)

    def type(self, line: str) -> "subprocess.CompletedProcess[str]":
        """A line as it was read on the screen."""
        return subprocess.run(
            line,
            shell=True,
            cwd=self.folder,
            env=as_environment(self.settings),
            capture_output=True,
            text=True,
            timeout=60,
        )

    def close(self) -> None:
        for process in self._started:
            if process.is_running():
                process.stop(seconds=60)
        if self._started:
            self.run("dev", "clean")  # in a container the data are in a volume of the engine


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    opened = Terminal(tmp_path)
    yield opened
    opened.close()


def folder_of(tmp_path: Path) -> Path:
    """The data folder, with the jars if they are on this machine: fetched once is enough for a test run."""
    data = tmp_path / ".mailstream"
    data.mkdir()
    if JARS.exists():
        (data / JARS.name).symlink_to(JARS)
    return data


def sent_mails(told: str) -> int:
    """How many of the timelines on the screen came to SENT."""
    return sum(bool(re.search(r"\d\d:\d\d:\d\d\.\d{3}  SENT", shown)) for shown in told.split("  By ")[1:])


@starts_kafka
@pytest.mark.timeout(300)
def test_a_new_user_runs_it_asks_for_one_more_stops_it_and_runs_the_demo(terminal: Terminal) -> None:
    data = folder_of(terminal.folder)

    running = terminal.start("dev", "up")
    running.wait_until(lambda: "Ctrl-C stops" in running.last_lines(), seconds=UP_SECONDS)
    parts = psutil.Process(running.pid).children(recursive=True)
    told = running.log.read_text()
    assert sent_mails(told) == 2
    assert "Kafka 4.3.1" in told
    assert f"http://127.0.0.1:{terminal.settings.dev_sendgrid_port}/" in told

    [hint] = [line.strip() for line in told.splitlines() if " send --to " in line]
    one_more = terminal.type(hint)
    assert one_more.returncode == 0, one_more.stderr
    email_id, *timeline = one_more.stdout.splitlines()
    assert [line.split()[1] for line in timeline][:3] == ["QUEUED", "PROCESSING", "SENT"]
    seen = terminal.run("status", email_id)
    assert seen.stdout.splitlines()[:3] == timeline[:3]

    for refused in (["dev", "up"], ["dev", "clean"]):
        answer = terminal.run(*refused)
        assert answer.returncode == 1
        assert len(answer.stderr.splitlines()) == 1
        assert "runs in this folder" in answer.stderr

    psutil.Process(running.pid).send_signal(signal.SIGINT)
    assert running.wait(seconds=60) == 0
    assert len(parts) >= 3
    assert not [part for part in parts if part.is_running()]
    assert "Kafka stopped; its data are kept" in running.log.read_text()

    demo = terminal.start("dev", "up", "--demo")
    assert demo.wait(seconds=UP_SECONDS) == 0, demo.log.read_text()
    told = demo.log.read_text()
    assert sent_mails(told) == 2
    assert "none of them new" in told, "the data of the first run are kept"

    cleaned = terminal.run("dev", "clean")
    assert cleaned.returncode == 0, cleaned.stderr
    assert not [kept for kept in data.glob("*") if not kept.is_symlink()]


@starts_kafka
def test_a_kafka_that_a_kill_9_left_over_is_ended_by_the_next_start(terminal: Terminal) -> None:
    folder_of(terminal.folder)
    killed = terminal.start("dev", "kafka")
    killed.wait_until(lambda: "takes records" in killed.last_lines(), seconds=UP_SECONDS)
    killed.kill()

    again = terminal.start("dev", "kafka")
    again.wait_until(lambda: "takes records" in again.last_lines(), seconds=UP_SECONDS)

    assert again.stop(seconds=30) == 0
    assert is_free(terminal.settings.dev_kafka_port)


@pytest.mark.parametrize("name", ["api_port", "worker_port", "dev_sendgrid_port", "dev_kafka_port"])
def test_a_port_that_is_taken_is_one_line_with_the_setting_that_moves_it(terminal: Terminal, name: str) -> None:
    with socket.create_server(("127.0.0.1", getattr(terminal.settings, name))):
        refused = terminal.run("dev", "up", "--demo")

    assert refused.returncode == 1
    assert len(refused.stderr.splitlines()) == 1
    assert f"MAILSTREAM_{name.upper()}" in refused.stderr


def test_without_an_api_a_command_says_how_to_start_one(terminal: Terminal) -> None:
    refused = terminal.run("send", "--to", "ada@example.com")

    assert refused.returncode == 1
    assert len(refused.stderr.splitlines()) == 1
    assert "mailstream dev up" in refused.stderr
