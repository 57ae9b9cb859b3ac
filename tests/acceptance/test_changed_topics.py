"""Topics that are changed under a running worker: it stops claiming and says so (rows 29 and 30)."""

import asyncio
from pathlib import Path

import httpx
import pytest
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    ResourceType,
)

from mailstream.domain import topics
from mailstream.domain.topics import Naming
from mailstream.kafka import config
from mailstream.settings import Settings
from tests.support.eventually import eventually
from tests.support.mail_system import MailSystem, twice
from tests.support.processes import Program, Programs, command
from tests.support.run_log import all_calls

pytestmark = [pytest.mark.long, pytest.mark.timeout(120)]

NOTICED_SECONDS = 20.0


async def test_a_partition_that_is_added_stops_claims_and_nothing_is_lost(
    programs: Programs, settings: Settings, tmp_path: Path
) -> None:
    system = MailSystem(programs, settings, send_gap=0.2, session_timeout=6)
    (worker,) = system.add_workers(1)
    ids = await system.publish(300)
    await system.accepted(5, within_seconds=20)

    name = Naming(settings.topic_prefix).of(topics.REQUESTED)
    _add_partition(config.admin(settings), name, settings.partitions + 1)
    reason = await _reason(worker, "has 5 partitions")
    assert "email ids were made for 4" in reason
    assert "mailstream topics plan" in reason
    await _no_call(system)
    assert httpx.get(f"{worker.url}/healthz", timeout=5).status_code == 200
    metrics = httpx.get(f"{worker.url}/metrics", timeout=5).text
    assert 'mailstream_paused{reason="topics"} 1.0' in metrics
    await asyncio.sleep(7)  # by then the group has found the new partition, and assigned it
    await _no_call(system)
    assert worker.is_running()
    assert worker.stop() == 0

    refused = command("worker", settings=system.settings, folder=tmp_path)
    assert refused.returncode != 0
    assert "has 5 partitions; email ids were made for 4" in refused.stderr
    assert not twice(system.ledger())
    assert {call["id"] for call in system.ledger()} < {*ids}


async def test_a_policy_that_lets_claims_vanish_stops_claims_until_it_is_mended(
    programs: Programs, settings: Settings
) -> None:
    system = MailSystem(programs, settings, send_gap=0.1, session_timeout=6)
    (worker,) = system.add_workers(1)
    ids = await system.publish(150)
    await system.accepted(5, within_seconds=20)
    admin, name = config.admin(settings), Naming(settings.topic_prefix).of(topics.ATTEMPTS)

    _set_policy(admin, name, "compact")
    reason = await _reason(worker, "cleanup.policy=compact")
    assert "Set cleanup.policy=delete on it" in reason
    await _no_call(system)

    _set_policy(admin, name, "delete")
    await eventually(worker.is_ready, within_seconds=NOTICED_SECONDS, waiting_for="a worker that is ready again")
    await eventually(
        lambda: {call["id"] for call in system.ledger()} == {*ids}, within_seconds=40, waiting_for="the rest"
    )
    assert not twice(system.ledger())


async def _reason(worker: Program, words: str) -> str:
    """Why it is not ready, once it says these words."""

    def said() -> str:
        reasons = httpx.get(f"{worker.url}/readyz", timeout=5).json()["reasons"]
        return " ".join(reason for reason in reasons if words in reason)

    return await eventually(said, within_seconds=NOTICED_SECONDS, waiting_for=f"the reason {words!r}")


async def _no_call(system: MailSystem) -> None:
    await asyncio.sleep(0.5)  # what has passed its gate may still reach the provider
    calls = len(all_calls(system.emulator.url))
    await asyncio.sleep(3)
    assert len(all_calls(system.emulator.url)) == calls


def _add_partition(admin: AdminClient, name: str, count: int) -> None:
    for answer in admin.create_partitions([NewPartitions(name, count)]).values():
        answer.result(10)


def _set_policy(admin: AdminClient, name: str, policy: str) -> None:
    entry = ConfigEntry("cleanup.policy", policy, incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, name, incremental_configs=[entry])
    for answer in admin.incremental_alter_configs([resource]).values():
        answer.result(10)
