"""The broker's disk is full: nothing is accepted or sent, nobody dies, and nothing is lost when there is room (row 21)."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from dev.kafka import java
from dev.kafka.java import JavaBroker
from mailstream.kafka import admin, config
from tests.support.broker import JARS, a_node
from tests.support.eventually import eventually
from tests.support.mail_system import KEY, MailSystem, an_address, twice
from tests.support.processes import Programs
from tests.support.run_log import all_calls
from tests.support.small_disk import SmallDisk, small_disk
from tests.support.system import some_settings

pytestmark = [pytest.mark.long, pytest.mark.timeout(200)]

DISK_MEBIBYTES = 128
#: What may start after an acknowledgement fails to come, and the calls that were won before.
SILENT_SECONDS = 6.0


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """The disk of the broker, and of nobody else."""
    with small_disk(tmp_path / "kafka", mebibytes=DISK_MEBIBYTES) as disk:
        yield disk


@pytest.fixture
def broker(disk: SmallDisk) -> Iterator[JavaBroker]:
    """A broker whose data are on that disk; its own log is not."""
    if (found := java.find_java()) is None:
        pytest.skip(f"No Java {java.LEAST_JAVA}+: install one to run this")
    java.fetch_jars(JARS)
    broker = JavaBroker(a_node(), disk.folder, java=found, jars=JARS)
    broker.start()
    broker.wait()
    try:
        yield broker
    finally:
        broker.kill()


async def test_a_full_disk_stops_mails_and_loses_none(disk: SmallDisk, broker: JavaBroker, programs: Programs) -> None:
    settings = some_settings(broker.node.bootstrap, send_gap=0.2, session_timeout=6)
    admin.apply(config.admin(settings), settings)  # they go with the broker
    system = MailSystem(programs, settings).start()
    assert system.api is not None
    ids = [system.ask() for _ in range(20)] + await system.publish(60)
    await system.accepted(10, within_seconds=30)

    disk.fill()
    await eventually(lambda: _code(system) == 503, within_seconds=20, waiting_for="an API that takes nothing")
    await asyncio.sleep(SILENT_SECONDS)
    print("the broker runs on" if broker.is_running() else "the broker has ended")
    calls, begun = len(all_calls(system.emulator.url)), time.monotonic()
    while time.monotonic() - begun < 10:
        assert _code(system) == 503
        await asyncio.sleep(1)
    assert len(all_calls(system.emulator.url)) == calls, "nothing is called while claims cannot be written"
    worker = system.workers[0]
    assert httpx.get(f"{worker.url}/healthz", timeout=5).status_code == 200, "alive: a restart would mend nothing"
    ready = httpx.get(f"{worker.url}/readyz", timeout=5)
    assert ready.status_code == 503
    print("not ready:", ready.json()["reasons"])

    disk.make_room()
    if not broker.is_running():  # Kafka ends when its only folder cannot be written
        broker.start()
        await asyncio.to_thread(broker.wait)
    await system.all_have(ids, "SENT", within_seconds=90)
    assert not twice(system.ledger())
    assert worker.is_running()
    await eventually(lambda: _code(system) == 202, within_seconds=20, waiting_for="an API that takes mail")


def _code(system: MailSystem) -> int:
    assert system.api is not None
    body = {"to": an_address(), "subject": "Hello", "text": "Hello there"}
    return httpx.post(f"{system.api.url}/v1/emails", json=body, headers=KEY, timeout=10).status_code
