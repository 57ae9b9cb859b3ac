"""Were records skipped, or was there nothing to read? Offsets are not dense where transactions or compaction were."""

import asyncio
import time

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from faust.types import TP

from mailstream.errors import LogLost, OffsetGap
from mailstream.log import tail
from mailstream.log.client import connection
from mailstream.settings import Settings
from mailstream.topics import GROUP_WORKER, Naming

SECONDS = 30.0


async def require_empty(settings: Settings, tp: TP, first: int, end: int) -> None:
    """Return when no committed record lies in [first, end).

    Raises OffsetGap when one does (or nobody can tell), LogLost when retention deleted what was there.
    """
    await asyncio.to_thread(_look, settings, tp, first, end)


async def first_kept(settings: Settings, tp: TP) -> int:
    """The offset at which the partition begins now. Raises OffsetGap when nobody can tell."""
    return await asyncio.to_thread(_begin, settings, tp)


def _begin(settings: Settings, tp: TP) -> int:
    consumer = Consumer({**tail.SETTINGS, **connection(settings)})
    try:
        return int(consumer.get_watermark_offsets(TopicPartition(tp.topic, tp.partition), timeout=SECONDS)[0])
    except KafkaException as error:
        raise OffsetGap(f"{tp.topic}/{tp.partition}: nobody can tell where it begins: {error.args[0].name()}") from None
    finally:
        consumer.close()


def _look(settings: Settings, tp: TP, first: int, end: int) -> None:
    consumer = Consumer({**tail.SETTINGS, **connection(settings)})
    place = f"{tp.topic}/{tp.partition}"
    try:
        consumer.assign([TopicPartition(tp.topic, tp.partition, first)])
        deadline = time.monotonic() + SECONDS
        while time.monotonic() < deadline:
            if (message := consumer.poll(0.5)) is None:
                continue
            error = message.error()
            if error is not None and error.code() == KafkaError._AUTO_OFFSET_RESET:
                group = Naming(settings.topic_prefix).of(GROUP_WORKER)
                raise LogLost(
                    f"{place}: the records {first} to {end - 1} were deleted before they were read. Nothing behind them was "
                    "taken or committed. Ask for these emails again, or give them up: stop the workers, set the offset of "
                    f"group {group} for this partition to {end} (kafka-consumer-groups.sh --reset-offsets), start them",
                    records=end - first,
                )
            if error is None and (message.offset() or 0) < end:
                raise OffsetGap(f"{place}: offset {end} followed {first - 1}, yet {message.offset()} is in the log")
            if error is None or error.code() == KafkaError._PARTITION_EOF:
                return
    finally:
        consumer.close()
    raise OffsetGap(f"{place}: nobody can tell what lies between {first} and {end}")
