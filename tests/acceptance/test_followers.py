"""A log that can be followed no more ends the processes that decide by it, before they decide anything else."""

import asyncio
import json
from datetime import datetime
from typing import Any

import httpx
import pytest

from mailstream.domain import topics
from mailstream.domain.recipient import canonical, partition_of, recipient_hash
from mailstream.domain.request import Lane
from mailstream.domain.suppression import key_of
from mailstream.domain.topics import Naming
from mailstream.kafka import admin as check
from mailstream.kafka import config
from mailstream.kafka.producer import Publisher
from mailstream.settings import Settings
from tests.support.mail_system import KEY, MailSystem, an_address
from tests.support.processes import Program, Programs

END_SECONDS = 40.0


@pytest.mark.timeout(180)
async def test_without_the_list_of_suppressed_addresses_worker_and_api_end_and_nobody_is_called(
    programs: Programs, settings: Settings
) -> None:
    system = MailSystem(programs, settings, send_gap=0.2, session_timeout=6).start()
    (worker,), api = system.workers, system.api
    assert api is not None
    for address in [an_address() for _ in range(40)]:  # some in every partition
        httpx.put(f"{api.url}/v1/suppressions/{address}", json={}, headers=KEY, timeout=10).raise_for_status()
    await system.publish(400)  # enough to do until long after the break
    await system.accepted(3, within_seconds=20)

    await asyncio.to_thread(_make_suppressions_anew, settings)
    codes = [await asyncio.to_thread(program.wait, seconds=END_SECONDS) for program in (worker, api)]

    assert codes == [1, 1]
    told = {program: _told(program, event) for program, event in ((worker, "the worker ends"), (api, "api.ends"))}
    topic = Naming(settings.topic_prefix).of(topics.SUPPRESSIONS)
    for line in told.values():
        assert f"{topic}/" in line["error"]
        assert "can be followed no more (_AUTO_OFFSET_RESET)" in line["error"]
        assert "nothing is lost" in line["error"]
    ended_at = datetime.fromisoformat(told[worker]["timestamp"]).timestamp()
    assert all(start <= ended_at for start in await system.starts(3)), "a call was started by an old list"

    late = an_address()
    await _suppress(settings, late)
    ids = await system.publish(3, recipients=[late], lane=Lane.CRITICAL)
    system.start()
    await system.all_have(ids, "SUPPRESSED", within_seconds=30)


def _told(program: Program, event: str) -> dict[str, Any]:
    """The line of its log with this event."""
    lines = [line[line.index("{") :] for line in program.log.read_text().splitlines() if f'"{event}"' in line]
    (told,) = map(json.loads, lines)
    return dict(told)


def _make_suppressions_anew(settings: Settings) -> None:
    """As by an operator who deletes the topic and runs `mailstream topics apply`."""
    topic, admin = Naming(settings.topic_prefix).of(topics.SUPPRESSIONS), config.admin(settings)
    admin.delete_topics([topic])[topic].result(20)
    check.apply(admin, settings)


async def _suppress(settings: Settings, address: str) -> None:
    publisher, recipient = Publisher(settings), canonical(address)
    partition = partition_of(recipient_hash(recipient), settings.partitions)
    topic = Naming(settings.topic_prefix).of(topics.SUPPRESSIONS)
    await publisher.publish(topic, b"{}", key=key_of("dev", recipient), partition=partition)
    await publisher.close()
