"""``email.status`` is deleted beside full logs: workers refuse to start, a command makes all statuses anew, none is mailed twice."""

import asyncio
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from confluent_kafka import Message, TopicPartition

from mailstream.domain import codec, topics
from mailstream.domain.recipient import canonical, partition_of, recipient_hash
from mailstream.domain.topics import Naming
from mailstream.kafka import config
from mailstream.kafka.checkpoints import IN_REBUILD, Checkpoint, Checkpoints
from mailstream.kafka.kafka import Kafka
from mailstream.kafka.producer import Publisher
from mailstream.settings import Settings
from tests.support.eventually import eventually
from tests.support.mail_system import KEY, MailSystem, an_address, twice
from tests.support.nursery import Nursery
from tests.support.processes import Programs, command
from tests.support.system import PARTITIONS
from tests.support.whole_topic import whole_topic

pytestmark = pytest.mark.long

#: Until the emails that wait are due: everything else happens before.
WAIT_SECONDS = 30.0
#: What a look-up says that must be the same afterwards. Not the history of the timeline: who wrote it may differ.
SHOWN = ("status", "final", "attempts", "send_at", "created_at", "reference", "provider")


@pytest.mark.parametrize(
    "is_half_done",
    [
        pytest.param(False, id="the topic is empty"),
        pytest.param(True, id="the command was killed while it made the statuses anew"),
    ],
)
@pytest.mark.timeout(120)
async def test_statuses_that_were_deleted_come_back_and_nothing_is_sent_again(
    programs: Programs, settings: Settings, tmp_path: Path, *, is_half_done: bool
) -> None:
    system = MailSystem(programs, settings, send_gap=0.02, session_timeout=6)
    key = httpx.get(f"{system.emulator.url}/webhook-key", timeout=10).text
    system.settings = system.settings.model_copy(update={"sendgrid_webhook_keys": (key,)})
    system.start()
    assert system.api is not None
    system.order(webhook={"url": f"{system.api.url}/v1/events/sendgrid", "delay_seconds": 0.1})
    due_at = datetime.now(UTC) + timedelta(seconds=WAIT_SECONDS)
    waiting = [system.ask(send_at=due_at.isoformat()) for _ in range(3)]
    cancelled = system.ask(send_at=due_at.isoformat())
    assert httpx.post(f"{system.api.url}/v1/emails/{cancelled}/cancel", headers=KEY, timeout=10).status_code == 200
    refused, lost = system.ask("status-400@example.com"), system.ask("reset@example.com")
    delivered = [system.ask(reference=f"order-{n}") for n in range(10)]
    await system.all_have(delivered, "DELIVERED", within_seconds=20)
    await system.all_have([refused], "FAILED", within_seconds=10)
    await system.all_have([lost], "HELD", within_seconds=10)
    everyone = [*waiting, cancelled, refused, lost, *delivered]
    before = {id_: _shown(system, id_) for id_ in everyone}
    calls = system.ledger(refused=True)

    older = next(m for m in whole_topic(system.settings, topics.STATUS) if m.key() == delivered[0].encode())
    for program in (*system.workers, system.api):
        program.stop()
    _delete_statuses(system.settings)
    applied = command("topics", "apply", settings=system.settings, folder=tmp_path)
    assert applied.returncode == 0, applied.stderr
    if is_half_done:
        await _begin_and_die(system.settings, older)
    await _worker_refuses(system.settings, tmp_path)
    assert system.ledger(refused=True) == calls, "it claimed and called nothing"
    _make_anew(system.settings, tmp_path)
    system.start()

    assert {id_: _shown(system, id_) for id_ in everyone} == before
    later = system.ledger(refused=True)[len(calls) :]  # on a slow machine what waits may be due by now
    assert {call["id"] for call in later} <= {*waiting}, "nothing is called again"
    assert all(call["at"] >= due_at.timestamp() for call in later)
    await system.all_have(waiting, "SENT", within_seconds=30)  # events still go to where the first API was
    assert not twice(system.ledger())
    assert len(system.ledger(refused=True)) == len(calls) + len(waiting)

    # on the live system the audit reads all of it and asks nobody
    calls = system.ledger(refused=True)
    audited = command("audit", "verify", settings=system.settings, folder=tmp_path)
    assert audited.returncode == 0, audited.stdout + audited.stderr
    assert system.ledger(refused=True) == calls


async def test_workers_trust_what_was_made_anew(programs: Programs, settings: Settings, tmp_path: Path) -> None:
    system = MailSystem(programs, settings, send_gap=0, session_timeout=6).start()
    ids = [system.ask() for _ in range(5)]
    await system.all_have(ids, "SENT", within_seconds=20)
    system.workers[0].stop()
    _delete_statuses(system.settings)
    command("topics", "apply", settings=system.settings, folder=tmp_path)

    _make_anew(system.settings, tmp_path)
    for _ in range(2):
        (worker,) = system.add_workers(1)
        worker.stop()

    assert len(list(whole_topic(system.settings, topics.STATUS))) == len(ids), "each is written once"
    assert len(system.ledger(refused=True)) == len(ids)


@pytest.mark.timeout(120)
async def test_a_mail_that_waits_longer_than_the_oldest_kept_attempt_is_sent(
    programs: Programs, settings: Settings, tmp_path: Path
) -> None:
    """In a quiet partition the oldest kept attempt may be of yesterday."""
    system = MailSystem(programs, settings, send_gap=0, session_timeout=6).start()
    assert system.api is not None
    deleted = system.ask(_address_in(1))
    await system.all_have([deleted], "SENT", within_seconds=20)
    due_at = datetime.now(UTC) + timedelta(seconds=WAIT_SECONDS)
    waiting = system.ask(_address_in(1), send_at=due_at.isoformat())
    kept = system.ask(_address_in(1))
    await system.all_have([kept], "SENT", within_seconds=20)
    for program in (*system.workers, system.api):
        program.stop()
    attempts = TopicPartition(Naming(settings.topic_prefix).of(topics.ATTEMPTS), 1, 2)  # claim and outcome of the first
    config.admin(settings).delete_records([attempts])[attempts].result(10)
    _delete_statuses(system.settings)
    command("topics", "apply", settings=system.settings, folder=tmp_path)
    _make_anew(system.settings, tmp_path)

    system.start()
    await system.all_have([waiting, kept, deleted], "SENT", within_seconds=WAIT_SECONDS + 20)

    newest = {m.key(): codec.decode_status(m.value() or b"") for m in whole_topic(system.settings, topics.STATUS)}
    assert twice(system.ledger()) == {deleted}, "only what another hand deleted could not be known"
    assert newest[deleted.encode()].possible_duplicate, "and then its second call is marked"
    assert not newest[kept.encode()].possible_duplicate


async def test_workers_that_run_end_when_they_are_given_a_partition_whose_statuses_were_lost(
    programs: Programs, settings: Settings, tmp_path: Path
) -> None:
    """A broker lost its newest records, and the owner of the partition died."""
    system = MailSystem(programs, settings, send_gap=0, session_timeout=6)
    checkpoints = Checkpoints(Kafka(settings))
    with Nursery(tmp_path) as nursery:
        workers = [nursery.worker(system.settings) for _ in range(2)]
        for worker in workers:
            await eventually(worker.is_ready, within_seconds=40, waiting_for="a worker")
        await checkpoints.write_surely({p: Checkpoint(0, "dead", 5) for p in range(settings.partitions)})
        workers[0].kill()

        assert await asyncio.to_thread(workers[1].wait, 60) == 1
        told = workers[1].log.read_text()

    await checkpoints.close()
    assert "ends at offset 0, but reached 5 before" in told
    assert "Nothing was claimed or sent" in told
    assert "`mailstream audit rebuild`" in told


async def _worker_refuses(settings: Settings, folder: Path) -> None:
    with Nursery(folder) as nursery:
        worker = nursery.worker(settings)
        assert await asyncio.to_thread(worker.wait, 60) == 1
        told = worker.log.read_text()
    assert "Statuses were lost" in told
    assert "`mailstream audit rebuild`" in told
    assert re.search(r"email\.status/\d+ ", told)


def _make_anew(settings: Settings, folder: Path) -> None:
    made = command("audit", "rebuild", "--yes", settings=settings, folder=folder)
    assert made.returncode == 0, made.stdout + made.stderr
    assert "statuses written" in made.stdout


def _address_in(partition: int) -> str:
    while True:
        address = an_address()
        if partition_of(recipient_hash(canonical(address)), PARTITIONS) == partition:
            return address


def _shown(system: MailSystem, id_: str) -> dict[str, Any]:
    found = system.status(id_)
    steps = [fact["status"] for fact in found["timeline"] if fact.get("status")]
    return {name: found.get(name) for name in SHOWN} | {"steps": steps}


def _delete_statuses(settings: Settings) -> None:
    name = Naming(settings.topic_prefix).of(topics.STATUS)
    config.admin(settings).delete_topics([name], operation_timeout=10)[name].result(10)


async def _begin_and_die(settings: Settings, older: Message) -> None:
    """Leave what the command leaves that is killed in the middle: its mark, and a status that is not the newest."""
    naming, publisher = Naming(settings.topic_prefix), Publisher(settings)
    checkpoints = Checkpoints(Kafka(settings))
    await checkpoints.write_surely({p: Checkpoint(0, "dead", IN_REBUILD) for p in range(settings.partitions)})
    await checkpoints.close()
    key, partition = older.key(), older.partition() or 0
    await publisher.publish(naming.of(topics.STATUS), older.value(), key=key, partition=partition)
    await publisher.close()
