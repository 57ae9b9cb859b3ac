"""Were records skipped, or was there nothing to read? Offsets are not dense where transactions or compaction were."""

import asyncio

from faust.types import TP

from mailstream.domain.errors import LogLost, NoKafka, OffsetGap, TopicsDiffer
from mailstream.domain.topics import GROUP_WORKER, Naming
from mailstream.kafka.reader import Reader, Span
from mailstream.settings import Settings

SECONDS = 30.0


async def require_empty(settings: Settings, tp: TP, first: int, end: int) -> None:
    """Return when no committed record lies in [first, end).

    Raises OffsetGap when one does (or the brokers do not tell), LogLost when retention deleted what was there.
    """
    await asyncio.to_thread(_look, settings, tp, first, end)


async def first_kept(settings: Settings, tp: TP) -> int:
    """The offset at which the partition begins now. Raises OffsetGap when the brokers do not tell."""
    return await asyncio.to_thread(_begin, settings, tp)


def _begin(settings: Settings, tp: TP) -> int:
    try:
        with Reader(settings, seconds=SECONDS) as reader:
            return reader.span(tp.topic, tp.partition).start
    except (NoKafka, TopicsDiffer) as error:
        raise OffsetGap(f"{tp.topic}/{tp.partition}: the brokers do not tell where it begins: {error}") from None


def _look(settings: Settings, tp: TP, first: int, end: int) -> None:
    place = f"{tp.topic}/{tp.partition}"
    try:
        with Reader(settings, seconds=SECONDS) as reader:
            if reader.span(tp.topic, tp.partition).start > first:
                group = Naming(settings.topic_prefix).of(GROUP_WORKER)
                raise LogLost(
                    f"{place}: the records {first} to {end - 1} were deleted before they were read. Nothing behind them was "
                    "taken or committed. Ask for these emails again, or give them up: stop the workers, set the offset of "
                    f"group {group} for this partition to {end} (kafka-consumer-groups.sh --reset-offsets), start them",
                    records=end - first,
                )
            if (record := next(reader.records(Span(tp.topic, tp.partition, first, end)), None)) is not None:
                raise OffsetGap(f"{place}: offset {end} followed {first - 1}, yet {record.offset()} is in the log")
    except (NoKafka, TopicsDiffer) as error:
        raise OffsetGap(f"{place}: the brokers do not tell what lies between {first} and {end}: {error}") from None
