"""The barrier at an assignment: whose email the unread rest of the log speaks of is left alone until that is read.

A worker that gains a partition knows every status and every claim, and not what stands unread behind them: a cancel, or the
proof that a HELD email was sent. So it looks once through all that stands unread in ``email.requested`` and
``email.events`` at that moment, and bars each email that a control record or an event names: it is not claimed for a call,
not sent again and not ended by a clock until the last such record is settled. All others go on at once, so a backlog of a
million requests stops no mail for longer than it takes to look through it (docs/decisions.md, ADR-0019).
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Set
from itertools import islice

import structlog
from confluent_kafka import Message
from faust.types import TP

from mailstream.domain import codec, topics
from mailstream.domain.email_id import is_email_id
from mailstream.domain.topics import GROUP_WORKER, Naming
from mailstream.kafka.kafka import Kafka
from mailstream.kafka.offsets import LogEnds
from mailstream.kafka.reader import Span, total
from streams.statuses.queue import Queue
from streams.statuses.table import StatusTable

log = structlog.get_logger(__name__)

AT_ONCE = 2000  #: records that are looked at between two turns of the loop
LOOK_SECONDS = 0.05  #: how often it looks whether a record was settled
TELL_SECONDS = 5.0  #: between two lines of the log while much is looked through


class Barrier:
    """Bars an email once for each record that names it; ``head`` tells how far all is settled."""

    def __init__(
        self,
        kafka: Kafka,
        table: StatusTable,
        ends: LogEnds,
        queue: Queue,
        *,
        head: Callable[[TP], int | None],
    ) -> None:
        self._kafka, self._table, self._ends = kafka, table, ends
        self._queue, self._head = queue, head
        self._requested, self._events = kafka.name_of(topics.REQUESTED), kafka.name_of(topics.EVENTS)
        self._group = Naming(kafka.settings.topic_prefix).of(GROUP_WORKER)
        self._looked_to: dict[TP, int] = {}  #: of each owned partition: behind what was looked at
        self._unread: dict[TP, deque[tuple[int, str]]] = {}  #: offset and email, in log order
        self._left = 0  #: records that are still to be looked at

    def unread(self) -> int:
        """How many records that name a barred email are not settled yet."""
        return sum(map(len, self._unread.values()))

    def why_closed(self) -> str | None:
        """What is still to be looked through, for people; None: the barrier stands."""
        return f"{self._left} unread requests and events are looked through first" if self._left else None

    async def look(self, partitions: Iterable[int]) -> None:
        """Look through what stands unread in these partitions now. Raises NotCaughtUp, NoKafka."""
        spans = await self._unread_spans(set(partitions))
        count, begun, told = total(spans), time.monotonic(), time.monotonic()
        if not count:
            return
        self._left = count
        with self._kafka.reader() as reader:
            named = self._named(reader.records(*spans))
            while batch := await asyncio.to_thread(lambda: list(islice(named, AT_ONCE))):
                self._left -= len(batch)
                for tp, offset, email_id in batch:
                    if email_id is not None and self._is_concerned(tp, email_id):
                        self._unread.setdefault(tp, deque()).append((offset, email_id))
                        self._queue.bar(email_id)
                if time.monotonic() - told > TELL_SECONDS:
                    told = time.monotonic()
                    log.info("unread requests and events are looked through", left=self._left)
        self._left = 0
        self._looked_to |= {TP(span.topic, span.partition): span.end for span in spans}
        log.info("looked through what stands unread", records=count, barred=self.unread(),
                 seconds=round(time.monotonic() - begun, 2))  # fmt: skip

    def _is_concerned(self, tp: TP, email_id: str) -> bool:
        """An event decides nothing about an email that has ended; a control may be about one that is still to come."""
        return is_email_id(email_id) if tp.topic == self._requested else self._table.is_live(email_id)

    def lost(self, partitions: Set[int]) -> None:
        """Forget partitions that belong to others now."""
        for tp in [tp for tp in self._looked_to if tp.partition in partitions]:
            del self._looked_to[tp]
            self._settled(tp, None)

    async def let_go(self) -> None:
        """Let go of the emails whose records are settled by now."""
        for tp in list(self._unread):
            if (head := self._head(tp)) is not None:
                self._settled(tp, head)

    def _settled(self, tp: TP, head: int | None) -> None:
        """All records of the partition below ``head`` are settled; None: all of them are another worker's now."""
        unread = self._unread.get(tp, deque())
        while unread and (head is None or unread[0][0] < head):
            self._queue.unbar(unread.popleft()[1])
        if not unread:
            self._unread.pop(tp, None)

    async def _unread_spans(self, partitions: set[int]) -> list[Span]:
        spans = []
        for topic in (self._requested, self._events):
            committed = await self._ends.committed(topic, self._group)
            firsts, lasts = await self._ends.first(topic, partitions), await self._ends.last(topic, partitions)
            for partition in partitions:
                tp = TP(topic, partition)
                start = max(firsts[topic, partition], committed.get((topic, partition), 0))
                self._settled(tp, start)
                spans.append(Span(topic, partition, max(start, self._looked_to.get(tp, 0)), lasts[topic, partition]))
        return spans

    def _named(self, records: Iterator[Message]) -> Iterator[tuple[TP, int, str | None]]:
        """Each record, and the email that it names if it decides about one. Runs on a thread."""
        for record in records:
            topic, value = record.topic() or "", record.value() or b""
            yield (
                TP(topic, record.partition() or 0),
                record.offset() or 0,
                codec.control_id(value) if topic == self._requested else codec.event_id(value),
            )
