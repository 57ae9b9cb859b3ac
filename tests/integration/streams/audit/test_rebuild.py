"""`mailstream audit rebuild` against a real Kafka, with everything else stopped."""

import asyncio
import time
from pathlib import Path
from subprocess import CompletedProcess
from unittest.mock import Mock

import pytest
from confluent_kafka import Consumer, TopicPartition

from mailstream.domain import codec, topics
from mailstream.domain.email_id import partition_in
from mailstream.domain.request import Address, EmailRequest
from mailstream.domain.status import EmailStatus
from mailstream.domain.topics import GROUP_WORKER, Naming
from mailstream.kafka import config as client
from mailstream.kafka.checkpoints import IN_REBUILD, Checkpoint, Checkpoints
from mailstream.kafka.config import connection
from mailstream.kafka.kafka import Kafka
from mailstream.kafka.producer import Headers, Publisher
from mailstream.kafka.reader import Reader
from mailstream.settings import Settings
from streams.audit.rebuild import Rebuild
from tests.support.audited import write
from tests.support.builders import an_id_for
from tests.support.histories import a_clean_scene
from tests.support.processes import command
from tests.support.whole_topic import whole_topic

DAY = 86_400.0
#: Two of them in one partition, in the order of the log.
BEFORE, AFTER = an_id_for("ada@example.com", "before"), an_id_for("ada@example.com", "after")


def audit(settings: Settings, *arguments: str, folder: Path) -> CompletedProcess[str]:
    return command("audit", *arguments, settings=settings, folder=folder)


def write_without_statuses(settings: Settings) -> None:
    write([record for record in a_clean_scene().records if record.topic != topics.STATUS.name], settings)


def statuses_in(settings: Settings) -> dict[str, EmailStatus]:
    found = [codec.decode_status(message.value() or b"") for message in whole_topic(settings, topics.STATUS)]
    assert len({status.id for status in found}) == len(found), "each is written once"
    return {status.id: status for status in found}


def test_what_is_made_anew_is_what_the_log_says_and_no_worker_refuses_it_again(
    settings: Settings, tmp_path: Path
) -> None:
    write_without_statuses(settings)

    shown = audit(settings, "rebuild", folder=tmp_path)
    assert shown.returncode == 0, shown.stderr
    assert "is empty, though email.attempts is not" in shown.stdout
    assert not statuses_in(settings), "without --yes nothing is written"
    done = audit(settings, "rebuild", "--yes", folder=tmp_path)
    assert done.returncode == 0, done.stderr

    assert sorted(str(status.status) for status in statuses_in(settings).values()) == [
        "CANCELLED",
        "FAILED",
        *["SENT"] * 4,
    ]
    proven = audit(settings, "verify", "--settle", "0", folder=tmp_path)
    assert proven.returncode == 0, proven.stdout + proven.stderr
    again = audit(settings, "rebuild", "--yes", folder=tmp_path)
    assert (again.returncode, again.stdout) == (0, "No statuses are lost.\n")


async def test_it_refuses_while_a_worker_is_in_the_group(settings: Settings, tmp_path: Path) -> None:
    write_without_statuses(settings)
    naming = Naming(settings.topic_prefix)
    worker = Consumer({**connection(settings), "group.id": naming.of(GROUP_WORKER)})
    worker.subscribe([naming.of(topics.REQUESTED)])
    while not worker.assignment():
        await asyncio.to_thread(worker.poll, 0.1)

    refused = await asyncio.to_thread(lambda: audit(settings, "rebuild", "--yes", folder=tmp_path))
    worker.close()

    assert refused.returncode == 1
    assert "1 workers are in their group" in refused.stderr
    assert "Nothing was changed. Stop all of them" in refused.stderr
    assert not statuses_in(settings)


async def test_what_was_not_finished_is_begun_again(settings: Settings, tmp_path: Path) -> None:
    """The command was killed in the middle: what it had written is no proof that all is there."""
    write(a_clean_scene().records, settings)
    checkpoints = Checkpoints(Kafka(settings))
    await checkpoints.write_surely({2: Checkpoint(0, "dead", IN_REBUILD)})
    await checkpoints.close()

    done = await asyncio.to_thread(lambda: audit(settings, "rebuild", "--yes", folder=tmp_path))

    assert "email.status/2 was being rebuilt, and that was not finished" in done.stdout
    assert done.stdout.count("statuses written") == 1
    assert done.returncode == 0


async def test_it_refuses_when_attempts_are_gone_too(settings: Settings, tmp_path: Path) -> None:
    checkpoints = Checkpoints(Kafka(settings))
    await checkpoints.write_surely({1: Checkpoint(9, "worker", 5)})
    await checkpoints.close()

    done = await asyncio.to_thread(lambda: audit(settings, "rebuild", "--yes", folder=tmp_path))

    assert done.returncode == 1
    assert "ends at offset 0, but was read up to 9 before" in done.stderr


@pytest.mark.parametrize(
    ("deleted", "days_later", "born", "marked"),
    [
        pytest.param(0, 40, [BEFORE, AFTER], [], id="no attempt was ever deleted"),
        pytest.param(1, 0, [BEFORE, AFTER], [BEFORE], id="too young for retention: only another hand can have deleted"),
        pytest.param(1, 40, [AFTER], [], id="older than retention, and than the first attempt that is kept"),
        pytest.param(2, 0, [BEFORE, AFTER], [BEFORE, AFTER], id="all attempts were deleted, by another hand"),
        pytest.param(2, 40, [], [], id="all attempts were deleted by retention"),
    ],
)
async def test_who_cannot_have_lost_an_attempt_to_retention_is_born_again(
    settings: Settings,
    deleted: int,
    days_later: float,
    born: list[str],
    marked: list[str],
) -> None:
    naming, publisher = Naming(settings.topic_prefix), Publisher(settings)
    home = partition_in(BEFORE, settings.partitions)

    async def append(topic: topics.Topic, value: bytes, headers: Headers = ()) -> None:
        await publisher.publish(naming.of(topic), value, key=b"k", partition=home, headers=headers)
        await asyncio.sleep(0.01)  # no two of them have the same stamp

    for id_ in (BEFORE, AFTER):
        await append(topics.ATTEMPTS, b"{}")
        await append(
            topics.REQUESTED,
            codec.encode(EmailRequest(to=Address("ada@example.com"), id=id_, subject="Hello", text="Hello")),
        )
    await publisher.close()
    if deleted:  # as retention does, or an operator
        place = TopicPartition(naming.of(topics.ATTEMPTS), home, deleted)
        await asyncio.to_thread(client.admin(settings).delete_records([place])[place].result, 10)
    with Reader(settings) as reader:
        work = Rebuild(Kafka(settings), reader, Mock(now=lambda: time.time() + days_later * DAY))
        assert list(work.lost()) == [home]
        async for _ in work.run([home]):
            pass
        assert not work.lost()

    found = statuses_in(settings)
    assert list(found) == born
    assert [id_ for id_, status in found.items() if status.possible_duplicate] == marked
