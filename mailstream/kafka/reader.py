"""Read partitions from a start to an end, or records at given offsets, and stop: no group, nothing committed.

It blocks: commands call it, and processes on a thread. What follows a log uses ``tail.py``.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self, TypeVar

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from mailstream.domain.errors import NoKafka, TopicsDiffer
from mailstream.kafka import tail
from mailstream.kafka.config import connection
from mailstream.kafka.group_offsets import COORDINATOR_MOVES
from mailstream.settings import Settings

SECONDS = 15.0  #: without any answer before a read is given up
#: Offsets that are read through rather than jumped over, between two wanted ones.
NEAR = 200
META_SECONDS = 1.0  #: for what the brokers say of a topic
PAUSE_SECONDS = 0.05
BATCH = 1000

#: The leader of a partition, or the coordinator of a group, is being replaced, or has just started.
_ASK_AGAIN = tail.LEADER_MOVES | COORDINATOR_MOVES
#: There is no such partition, or the client has lost the brokers and with them what it knew.
_UNKNOWN = frozenset({KafkaError._UNKNOWN_PARTITION, KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC})

Answer = TypeVar("Answer")
Progress = Callable[[int], None]  #: told how many records more were read, or how many there are to read


def _untold(_: int) -> None:
    """Nothing shows how far a read is."""


@dataclass(frozen=True, slots=True)
class Span:
    """The records of one partition from ``start`` to before ``end``, as they stood when asked for."""

    topic: str
    partition: int
    start: int
    end: int

    def __len__(self) -> int:
        """Offsets in it; records may be fewer where the topic is compacted."""
        return max(0, self.end - self.start)


class Reader:
    """One client for one thread. Use it as a context manager, and for one read after the other.

    A new one costs 2 ms. One that has been idle looks only once a second whether it was given another place to read from
    (librdkafka 2.16).
    """

    def __init__(
        self,
        settings: Settings,
        *,
        seconds: float = SECONDS,
        planned: Progress = _untold,
        progress: Progress = _untold,
        **extra: Any,
    ) -> None:
        """``seconds`` without any answer before a read is given up; ``extra``: settings of the client.

        ``planned`` is told how many offsets ``plan`` names, ``progress`` how many of ``records`` went by.
        """
        self._planned, self._progress = planned, progress
        self._bootstrap, self._settings, self._seconds = settings.kafka_bootstrap, settings, seconds
        self._consumer = Consumer({**tail.SETTINGS, **extra, **connection(settings)})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._consumer.close()

    def span(self, topic: str, partition: int, *, since: datetime | None = None, until: datetime | None = None) -> Span:
        """What is in the partition now, or what was appended from ``since`` to before ``until``.

        Raises NoKafka when no broker answers, TopicsDiffer when there is no such partition.
        """
        try:
            asked = TopicPartition(topic, partition)
            low, high = self._answer(
                lambda: self._consumer.get_watermark_offsets(asked, timeout=self._seconds), topic, partition
            )
            start = low if since is None else self._at(topic, partition, since, high)
            end = high if until is None else self._at(topic, partition, until, high)
        except KafkaException as error:
            raise self._explained(error, topic, partition) from None
        return Span(topic, partition, max(low, start), end)

    def plan(self, spans: Iterable[Span]) -> None:
        """These will be read: what a progress bar counts to."""
        self._planned(total(spans))

    def records(self, *spans: Span) -> Iterator[Message]:
        """Every record of the spans, those of each partition in log order. Raises NoKafka when the broker stops answering."""
        left = total(spans)
        for message in self._read(spans):
            yield message
            self._progress(1)
            left -= 1
        self._progress(left)  # compaction has removed these

    def _read(self, spans: Iterable[Span]) -> Iterator[Message]:
        left = {(span.topic, span.partition): span for span in spans if len(span)}
        if not left:
            return
        self._consumer.assign([TopicPartition(span.topic, span.partition, span.start) for span in left.values()])
        try:
            while left:
                if (first := self._consumer.poll(self._seconds)) is None:
                    topics = ", ".join(sorted({topic for topic, _ in left}))
                    raise NoKafka(
                        f"No broker at {self._bootstrap} has answered for {self._seconds:.0f} s while {topics} was read. "
                        "Nothing was changed; run the command again."
                    )
                # consume() with a time-out would wait for a full batch
                for message in (first, *self._consumer.consume(BATCH, 0)):
                    place = message.topic() or "", message.partition() or 0
                    if (span := left.get(place)) is None:
                        continue
                    offset = message.offset() or 0
                    if (error := message.error()) is None:
                        if offset < span.end:
                            yield message
                        if offset >= span.end - 1:
                            self._finish(left, place)
                    elif error.code() == KafkaError._PARTITION_EOF:
                        if offset >= span.end:  # its last records were compacted away, or are markers
                            self._finish(left, place)
                    elif error.code() not in tail.PASSING:
                        raise self._explained(KafkaException(error), *place)
        finally:
            self._consumer.unassign()

    def record(self, topic: str, partition: int, offset: int) -> Message | None:
        """One record; None: it is not kept any more, or never was. Raises NoKafka, TopicsDiffer."""
        there = self.span(topic, partition)
        if not there.start <= offset < there.end:
            return None
        return next(self._read([Span(topic, partition, offset, offset + 1)]), None)

    def fetch(self, topic: str, partition: int, offsets: Iterable[int]) -> Iterator[Message]:
        """The records at these offsets, in log order, neighbours in one read; those that were deleted are left out.

        Raises NoKafka, also when the partition does not reach so far, and TopicsDiffer.
        """
        there = self.span(topic, partition)
        wanted = sorted(offset for offset in set(offsets) if offset >= there.start)
        if wanted and wanted[-1] >= there.end:
            raise NoKafka(f"{topic}/{partition} ends at {there.end}, so {wanted[-1]} cannot be read from it now.")
        while wanted:
            count = next((n for n in range(1, len(wanted)) if wanted[n] - wanted[n - 1] > NEAR), len(wanted))
            run, wanted = frozenset(wanted[:count]), wanted[count:]
            span = Span(topic, partition, min(run), max(run) + 1)
            yield from (message for message in self._read([span]) if message.offset() in run)

    def _finish(self, left: dict[tuple[str, int], Span], place: tuple[str, int]) -> None:
        """Read no more of this partition."""
        del left[place]
        self._consumer.incremental_unassign([TopicPartition(*place)])

    def committed(self, group: str, places: Iterable[tuple[str, int]]) -> dict[tuple[str, int], TopicPartition]:
        """How far a group has read in these partitions; only those for which it ever said so. Joins nothing.

        Raises NoKafka when no broker answers, or this user may not ask.
        """
        asked = [TopicPartition(topic, partition) for topic, partition in places]
        consumer = Consumer({**tail.SETTINGS, **connection(self._settings), "group.id": group})
        try:
            found = self._answer(lambda: consumer.committed(asked, self._seconds))
            if error := next((place.error for place in found if place.error is not None), None):
                raise KafkaException(error)
        except KafkaException as error:
            raise NoKafka(
                f"How far the group {group} has read is not told by {self._bootstrap} ({error.args[0].name()}). "
                "Nothing was changed. Look at the broker, and whether this user has Describe on the group."
            ) from None
        finally:
            consumer.close()
        return {(place.topic, place.partition): place for place in found if place.offset >= 0}

    def _at(self, topic: str, partition: int, moment: datetime, high: int) -> int:
        asked = TopicPartition(topic, partition, max(0, int(moment.timestamp() * 1000)))  # negative: a name, no time
        (found,) = self._answer(
            lambda: self._consumer.offsets_for_times([asked], timeout=self._seconds), topic, partition
        )
        return found.offset if found.offset >= 0 else high  # -1: nothing is as young as that

    def _answer(self, question: Callable[[], Answer], *place: Any) -> Answer:
        """Ask until a leader answers: librdkafka asks once only, and the one that it knew may have left.

        ``place``: the topic and partition that it is about.
        """
        deadline = time.monotonic() + self._seconds
        while True:
            try:
                return question()
            except KafkaException as error:
                code = error.args[0].code()
                is_passing = code in _ASK_AGAIN or (code in _UNKNOWN and bool(place) and not self._is_missing(*place))
                if not is_passing or time.monotonic() > deadline:
                    raise
            time.sleep(PAUSE_SECONDS)

    def _is_missing(self, topic: str, partition: int) -> bool:
        """Whether the brokers say that there is no such partition."""
        try:
            return partition not in self._consumer.list_topics(topic, timeout=META_SECONDS).topics[topic].partitions
        except KafkaException:
            return False

    def _explained(self, error: KafkaException, topic: str, partition: int) -> Exception:
        code = error.args[0].code()
        if code in _UNKNOWN and self._is_missing(topic, partition):
            return TopicsDiffer(
                f"{topic} has no partition {partition}. Run `mailstream topics plan`: it shows what differs."
            )
        return NoKafka(
            f"{topic} cannot be read at {self._bootstrap} ({error.args[0].name()}). Nothing was changed. "
            "Look at the broker and at what this user may do."
        )


def total(spans: Iterable[Span]) -> int:
    """Offsets in all of them."""
    return sum(len(span) for span in spans)
