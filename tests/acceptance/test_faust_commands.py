"""The worker under Faust's own command and under ours: both send, drain at SIGTERM and end with 0."""

import re
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import httpx
import psutil
import pytest

from dev.ports import free_port
from dev.process import Process
from mailstream.settings import Settings
from tests.support.mail_system import MailSystem
from tests.support.processes import READY_SECONDS, STOP_SECONDS, Programs
from tests.support.system import as_environment

PROJECT = Path(__file__).parents[2]
FAUST = (sys.executable, "-m", "faust", "-A", "streams.main")


def faust(*arguments: str, settings: Settings) -> "subprocess.CompletedProcess[str]":
    """Run a command of Faust to its end, as a developer does in the project."""
    return subprocess.run(
        [*FAUST, *arguments], env=as_environment(settings), cwd=PROJECT, capture_output=True, text=True, timeout=60
    )


@pytest.mark.parametrize(
    ("command", "named"),
    [("agents", {"@accept", "@feedback", "email.requested", "email.events"}), ("tables", {"status"})],
)
def test_agents_and_tables_are_listed_without_a_key_and_without_a_broker(command: str, named: set[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as broker:
        broker.setblocking(False)
        settings = Settings(_env_file=None, kafka_bootstrap=f"127.0.0.1:{broker.getsockname()[1]}")

        listed = faust(command, settings=settings)

        with pytest.raises(BlockingIOError):
            broker.accept()
    assert listed.returncode == 0, listed.stderr
    assert named <= set(re.findall(r"[@\w.]+", listed.stdout))


@pytest.mark.parametrize(
    ("arguments", "changes", "told"),
    [
        pytest.param(("agents",), {"log_level": "LOUD"}, ["MAILSTREAM_LOG_LEVEL"], id="wrong"),
        pytest.param(("worker",), {}, ["MAILSTREAM_SENDGRID_API_KEY", "MAILSTREAM_SENDER"], id="missing"),
    ],
)
def test_a_setting_that_is_wrong_or_missing_is_a_line_and_no_traceback(
    arguments: Sequence[str], changes: dict[str, str], told: list[str]
) -> None:
    settings = Settings(_env_file=None, kafka_bootstrap=f"127.0.0.1:{free_port()}").model_copy(update=changes)
    settings.model_fields_set.update(changes)

    refused = faust(*arguments, settings=settings)

    assert refused.returncode == 1
    assert [line.partition(":")[0] for line in refused.stderr.splitlines()] == told


@pytest.mark.parametrize(
    ("command", "level"),
    [
        pytest.param((*FAUST, "worker", "-l", "info"), "info", id="faust"),
        pytest.param((sys.executable, "-m", "cli.main", "worker"), "info", id="mailstream"),
        pytest.param((*FAUST, "worker"), "warning", id="faust, without a level"),
    ],
)
async def test_a_worker_sends_drains_at_sigterm_and_ends_with_0(
    programs: Programs, settings: Settings, tmp_path: Path, command: Sequence[str], level: str
) -> None:
    system, port = MailSystem(programs, settings, send_gap=0), free_port()
    mine = system.settings.model_copy(update={"worker_port": port, "worker_id": "worker", "data_dir": str(tmp_path)})
    worker = Process("worker", command, log=tmp_path / "worker.log", env=as_environment(mine), cwd=PROJECT)
    worker.start()
    try:
        worker.wait_until(lambda: _is_ready(port), seconds=READY_SECONDS)
        ids = await system.publish(20)
        await system.accepted(1, within_seconds=20)
        listening = {
            c.laddr.port for c in psutil.Process(worker.pid).net_connections() if c.status == psutil.CONN_LISTEN
        }
    finally:
        code = worker.stop(seconds=STOP_SECONDS)

    log = worker.log.read_text()
    assert code == 0, log
    assert listening == {port}, "only probes and metrics are served"
    calls = [call["id"] for call in system.ledger(refused=True)]
    assert len(calls) == len(set(calls))
    assert set(calls) <= set(ids)
    assert ('"level": "info"' in log) is (level == "info")
    assert "Traceback" not in log


def _is_ready(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/readyz", timeout=1.0).is_success
    except httpx.HTTPError:
        return False
