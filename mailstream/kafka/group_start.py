"""Where the topics of other services are begun: where the group stands, else where the rules say."""

from collections.abc import Callable, Sequence
from datetime import datetime

from confluent_kafka import Consumer, KafkaException, TopicPartition

from mailstream.domain.start import Start

ASK_SECONDS = 10.0


def positions(
    consumer: Consumer,
    assigned: Sequence[TopicPartition],
    start_of: Callable[[str], Start | datetime],
    *,
    recent_at: float,
) -> list[TopicPartition]:
    """The first offset to read of each partition that the group never read; the others keep theirs.

    Each is a number, also at the end of a topic: a restart before the first event must not skip what came meanwhile.

    ``recent_at``: seconds since 1970 before which an event is too old. Raises KafkaException when no broker answers.
    """
    committed = consumer.committed(list(assigned), ASK_SECONDS)
    for part in committed:
        if part.error is not None:  # not known: no proof that the group never read it
            raise KafkaException(part.error)
    new = [part for part in committed if part.offset < 0]
    return [_position(consumer, part, start_of(part.topic), recent_at) for part in new]


def _position(consumer: Consumer, part: TopicPartition, start: Start | datetime, recent_at: float) -> TopicPartition:
    place = TopicPartition(part.topic, part.partition)
    if not isinstance(start, Start) or start is Start.RECENT:
        place.offset = int((recent_at if isinstance(start, Start) else start.timestamp()) * 1000)
        (found,) = consumer.offsets_for_times([place], ASK_SECONDS)
        if found.error:
            raise KafkaException(found.error)
        if found.offset >= 0:
            return found
    marks = consumer.get_watermark_offsets(place, ASK_SECONDS)
    assert marks is not None
    place.offset = marks[0] if start is Start.EARLIEST else marks[1]
    return place
