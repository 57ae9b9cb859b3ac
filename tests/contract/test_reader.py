"""What readers of ranges and single records rely on: what is there, in order, and never "gone" for what is only late."""

import time

import pytest
from confluent_kafka import Message, Producer, TopicPartition
from faust.types import TP
from msgspec import structs

from mailstream.domain import codec, topics
from mailstream.domain.email_id import partition_in
from mailstream.domain.errors import LogLost, NoKafka, OffsetGap, TopicsDiffer
from mailstream.domain.status import EmailStatus, Status
from mailstream.domain.topics import Naming, Topic
from mailstream.kafka import config
from mailstream.kafka.reader import NEAR, Reader
from mailstream.kafka.statuses import statuses
from mailstream.settings import Settings
from streams.faust_guards import offset_gaps
from tests.support.broker import Kafka
from tests.support.builders import ID, a_status
from tests.support.proxy import Proxy
from tests.support.system import some_settings, topics_of


def name_in(settings: Settings, topic: Topic = topics.ATTEMPTS) -> str:
    return Naming(settings.topic_prefix).of(topic)


def append(settings: Settings, *values: bytes | None, topic: Topic = topics.ATTEMPTS, key: bytes | None = None,
           partition: int = 1) -> None:  # fmt: skip
    """Put values into a partition."""
    producer = Producer({**config.connection(settings), "linger.ms": 0, "enable.idempotence": True})
    for value in values:
        producer.produce(name_in(settings, topic), value, key, partition=partition)
    assert producer.flush(10) == 0


def delete_below(settings: Settings, offset: int) -> None:
    for deleted in config.admin(settings).delete_records([TopicPartition(name_in(settings), 1, offset)]).values():
        deleted.result(10)


def offsets(records: list[Message]) -> list[int | None]:
    return [record.offset() for record in records]


def test_records_that_are_far_apart_come_in_log_order_and_those_that_were_deleted_are_left_out(
    settings: Settings,
) -> None:
    append(settings, *(b"%d" % number for number in range(3 * NEAR)))
    delete_below(settings, 2)

    begun = time.monotonic()
    with Reader(settings) as reader:
        found = list(reader.fetch(name_in(settings), 1, [3 * NEAR - 1, 0, 5, 2, 5, NEAR + 9]))
        none = list(reader.fetch(name_in(settings), 1, []))

    assert offsets(found) == [2, 5, NEAR + 9, 3 * NEAR - 1]
    assert [record.value() for record in found] == [b"%d" % offset for offset in offsets(found)]  # type: ignore[str-format]
    assert none == []
    assert time.monotonic() - begun < 2, "a place is not waited for a second"


def test_a_partition_that_is_not_there_is_told_so(settings: Settings) -> None:
    with Reader(settings) as reader, pytest.raises(TopicsDiffer):
        list(reader.fetch(name_in(settings), settings.partitions, [0]))


def test_a_broker_that_answers_no_more_is_given_up_in_time(proxied_kafka: Kafka, kafka_proxy: Proxy) -> None:
    direct = some_settings(proxied_kafka.bootstrap)
    behind = direct.model_copy(update={"kafka_bootstrap": f"127.0.0.1:{kafka_proxy.port}"})
    with topics_of(direct), Reader(behind, seconds=3) as reader:
        append(direct, b"0")
        assert offsets(list(reader.fetch(name_in(direct), 1, [0]))) == [0]
        kafka_proxy.cut()
        begun = time.monotonic()
        with pytest.raises(NoKafka):
            list(reader.fetch(name_in(direct), 1, [0]))
        kafka_proxy.mend()

    assert time.monotonic() - begun < 15


async def test_a_gap_in_the_offsets_is_told_from_records_that_were_skipped_and_from_deleted_ones(
    settings: Settings,
) -> None:
    tp = TP(name_in(settings), 1)
    producer = Producer({**config.connection(settings), "transactional.id": settings.topic_prefix + "one"})
    producer.init_transactions(20)
    for end in (producer.commit_transaction, producer.abort_transaction):  # 0 and its marker 1, 2 and its marker 3
        producer.begin_transaction()
        producer.produce(tp.topic, b"v", partition=1)
        producer.flush(10)
        end()
    append(settings, b"4")

    await offset_gaps.require_empty(settings, tp, 1, 4)
    with pytest.raises(OffsetGap, match="offset 4 followed -1, yet 0 is in the log"):
        await offset_gaps.require_empty(settings, tp, 0, 4)
    delete_below(settings, 3)
    assert await offset_gaps.first_kept(settings, tp) == 3
    with pytest.raises(LogLost, match="the records 1 to 3 were deleted"):
        await offset_gaps.require_empty(settings, tp, 1, 4)
    await offset_gaps.require_empty(settings, tp, 3, 4)


def test_of_each_email_the_highest_status_counts_until_it_is_forgotten(settings: Settings) -> None:
    other = ID[:-1] + ("0" if ID[-1] != "0" else "1")

    def a_record(id_: str, status: Status) -> bytes:
        return codec.encode(structs.replace(a_status(status, 1), id=id_))

    for key, value in [
        (ID, a_record(ID, Status.SENT)),
        (ID, a_record(ID, Status.PROCESSING)),  # of a former owner
        (ID, b"{"),
        (other, a_record(other, Status.QUEUED)),
        (other, None),
        ("em_00000003_x", a_record("em_00000003_x", Status.HELD)),
    ]:
        partition = partition_in(key, settings.partitions)
        append(settings, value, topic=topics.STATUS, key=key.encode(), partition=partition)

    planned: list[int] = []
    read: list[int] = []

    def found(*ids: str) -> dict[str, Status]:
        with Reader(settings, planned=planned.append, progress=read.append) as reader:
            all_: list[EmailStatus] = list(statuses(reader, settings, ids))
        return {status.id: status.status for status in all_}

    assert found() == {ID: Status.SENT, "em_00000003_x": Status.HELD}
    assert planned == [6]
    assert sum(read) == 6
    assert found(ID) == {ID: Status.SENT}
    assert found(other) == {}
