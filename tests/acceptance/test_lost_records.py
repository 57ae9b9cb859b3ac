"""Records that are deleted before a worker read them: named, and never skipped in silence (row 31)."""

import asyncio
import signal
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from confluent_kafka import ConsumerGroupTopicPartitions, TopicPartition

from mailstream.domain import topics
from mailstream.domain.recipient import canonical, partition_of, recipient_hash
from mailstream.domain.topics import GROUP_CHECKPOINTS, GROUP_WORKER, Naming
from mailstream.kafka import config
from mailstream.kafka.checkpoints import Checkpoints
from mailstream.kafka.kafka import Kafka
from mailstream.kafka.producer import Publisher
from mailstream.kafka.reader import Reader
from mailstream.settings import Settings
from tests.support.eventually import eventually
from tests.support.mail_system import MailSystem, an_address, twice
from tests.support.nursery import Nursery
from tests.support.processes import Programs
from tests.support.run_log import KafkaCaller, RunLog

pytestmark = [pytest.mark.long, pytest.mark.timeout(150)]

PARTITION = 1


async def test_requests_that_were_deleted_unread_are_named_and_given_up_by_an_operator_only(
    programs: Programs, settings: Settings
) -> None:
    system = MailSystem(programs, settings, send_gap=0, session_timeout=6)
    requested = Naming(settings.topic_prefix).of(topics.REQUESTED)
    caller = KafkaCaller(system.settings, RunLog())
    (worker,) = system.add_workers(1)
    read = [await caller.ask(_address_in(PARTITION)) for _ in range(3)]
    await system.accepted(3, within_seconds=20)
    worker.stop()
    begin = _end_of(settings, requested)
    for _ in range(4):
        await caller.ask(_address_in(PARTITION))
    end = _end_of(settings, requested)
    await _delete(settings, requested, end)
    kept = [await caller.ask(_address_in(PARTITION)) for _ in range(2)]
    elsewhere = await caller.ask(_address_in(0))

    worker = programs.worker(system.settings)
    reason = await eventually(
        lambda: " ".join(r for r in _reasons(worker.url) if "deleted" in r), within_seconds=40, waiting_for="the reason"
    )
    await system.accepted(4, within_seconds=10)

    assert f"{requested}/{PARTITION}: the records {begin} to {end - 1} were deleted before they were read" in reason
    assert f"to {end} (kafka-consumer-groups.sh --reset-offsets)" in reason
    assert f"the records {begin} to {end - 1} were deleted" in worker.log.read_text()
    lost = f'mailstream_lost_records{{partition="{PARTITION}",topic="{requested}"}} {end - begin}.0'
    assert lost in httpx.get(f"{worker.url}/metrics", timeout=5).text
    await asyncio.sleep(3)
    assert worker.is_running(), "the other partitions go on"
    assert {call["id"] for call in system.ledger()} == {*read, elsewhere}, "nothing behind the hole"
    assert worker.stop() == 0

    _give_up(settings, requested, end)
    (worker,) = system.add_workers(1)
    await eventually(
        lambda: {call["id"] for call in system.ledger()} == {*read, elsewhere, *kept},
        within_seconds=20,
        waiting_for="what was kept",
    )
    assert not twice(system.ledger())
    await caller.close()


async def test_a_worker_whose_claims_were_deleted_before_it_read_them_does_not_start(
    programs: Programs, settings: Settings, tmp_path: Path
) -> None:
    system = MailSystem(programs, settings, send_gap=0, session_timeout=6)
    attempts = Naming(settings.topic_prefix).of(topics.ATTEMPTS)
    caller = KafkaCaller(system.settings, RunLog())
    system.order(latency_seconds=8.0)
    with Nursery(tmp_path) as nursery:
        worker = nursery.worker(system.settings)
        await eventually(worker.is_ready, within_seconds=40, waiting_for="the worker")
        await caller.ask(_address_in(PARTITION))
        await eventually(lambda: _end_of(settings, attempts) > 0, waiting_for="a claim")
        worker.kill()  # in the call: only the log knows of it
        await _delete(settings, attempts, _end_of(settings, attempts))

        worker = nursery.worker(system.settings)
        assert await asyncio.to_thread(worker.wait, 60) == 1
        told = worker.log.read_text()
        assert f"{attempts}/{PARTITION}: the records 0 to 0 were deleted before they were read" in told
        assert "Who was called meanwhile is unknown" in told
    assert len(system.ledger(refused=True)) <= 1, "the killed worker's own call"
    await caller.close()


async def test_a_worker_whose_claims_end_before_its_checkpoint_says_what_was_found_and_what_to_do(
    programs: Programs, settings: Settings, tmp_path: Path
) -> None:
    """Restored from an older copy, or a broker lost its newest records. (A topic that is deleted takes its checkpoints along.)"""
    system = MailSystem(programs, settings, send_gap=0, session_timeout=6)
    caller, name = KafkaCaller(system.settings, RunLog()), Naming(settings.topic_prefix)
    attempts, group = name.of(topics.ATTEMPTS), name.of(GROUP_CHECKPOINTS)
    with Nursery(tmp_path) as nursery:
        worker = nursery.worker(system.settings)
        await eventually(worker.is_ready, within_seconds=40, waiting_for="the worker")
        await caller.ask(_address_in(PARTITION))
        await system.accepted(1, within_seconds=20)
        worker.send(signal.SIGTERM)
        assert await asyncio.to_thread(worker.wait, 40) == 0
        end, checkpoints = _end_of(settings, attempts), Checkpoints(Kafka(settings))
        made = await checkpoints.read({PARTITION})
        await checkpoints.write_surely({PARTITION: replace(made[PARTITION], offset=end + 5)})
        await checkpoints.close()

        worker = nursery.worker(system.settings)
        assert await asyncio.to_thread(worker.wait, 60) == 1
        told = worker.log.read_text()
        assert f"{attempts}/{PARTITION}: it ends at offset {end}, but was read up to {end + 5} before" in told
        assert f"deleting the group {group} while no worker runs" in told

        config.admin(settings).delete_consumer_groups([group])[group].result(10)
        worker = nursery.worker(system.settings)
        await eventually(worker.is_ready, within_seconds=40, waiting_for="a worker that goes on")
        await caller.ask(_address_in(PARTITION))
        await system.accepted(2, within_seconds=20)
    await caller.close()


async def test_a_worker_that_meets_a_hole_in_the_log_of_claims_ends(
    programs: Programs, settings: Settings, tmp_path: Path
) -> None:
    system = MailSystem(programs, settings, send_gap=0, session_timeout=30)
    attempts, publisher = Naming(settings.topic_prefix).of(topics.ATTEMPTS), Publisher(settings)
    with Nursery(tmp_path) as nursery:
        worker = nursery.worker(system.settings)
        await eventually(worker.is_ready, within_seconds=40, waiting_for="the worker")

        worker.send(signal.SIGSTOP)
        for _ in range(3):
            await publisher.publish(attempts, b"{}", key=b"k", partition=PARTITION)
        await _delete(settings, attempts, _end_of(settings, attempts))
        await publisher.publish(attempts, b"{}", key=b"k", partition=PARTITION)
        worker.send(signal.SIGCONT)

        assert await asyncio.to_thread(worker.wait, 40) == 1
        assert f"{attempts}/{PARTITION} can be followed no more" in worker.log.read_text()
    await publisher.close()


def _address_in(partition: int) -> str:
    while True:
        address = an_address()
        if partition_of(recipient_hash(canonical(address)), 4) == partition:
            return address


def _reasons(url: str) -> list[str]:
    try:
        return list(httpx.get(f"{url}/readyz", timeout=2).json()["reasons"])
    except httpx.HTTPError:
        return []


def _end_of(settings: Settings, topic: str) -> int:
    with Reader(settings) as reader:
        return reader.span(topic, PARTITION).end


async def _delete(settings: Settings, topic: str, offset: int) -> None:
    """As retention does, or somebody with kafka-delete-records.sh."""
    for answer in config.admin(settings).delete_records([TopicPartition(topic, PARTITION, offset)]).values():
        await asyncio.to_thread(answer.result, 10)


def _give_up(settings: Settings, topic: str, offset: int) -> None:
    """What the reason tells the operator to do."""
    group = Naming(settings.topic_prefix).of(GROUP_WORKER)
    wanted = ConsumerGroupTopicPartitions(group, [TopicPartition(topic, PARTITION, offset)])
    for answer in config.admin(settings).alter_consumer_group_offsets([wanted]).values():
        answer.result(10)
