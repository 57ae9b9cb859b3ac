"""Settle every record of ``email.requested``: at line rate, never paced, and nothing in a record can stop it."""

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import structlog
from aiokafka import ConsumerRecord
from msgspec import structs

from mailstream.clock import Clock
from mailstream.domain import codec, senders
from mailstream.domain.email_id import partition_in
from mailstream.domain.record import Record
from mailstream.domain.request import Control, OnAmbiguous
from mailstream.domain.status import Coordinates
from mailstream.domain.topics import REJECTED, REQUESTED, Naming
from mailstream.kafka.bodies import Bodies
from mailstream.kafka.kafka import Kafka
from mailstream.kafka.producer import Publisher, publish_surely
from streams.core import births, intake
from streams.core.caps_and_digests import CapAndDigestIndex
from streams.core.faults import Rejected, Rules, rejected
from streams.core.intake import Carried, Controlled, Decision, Ignored, Known, Misrouted, New, ParsedRequest, Ruling
from streams.core.unfold import Unfold
from streams.failpoints import failpoint
from streams.intake.batches import Batches
from streams.intake.controls import Controls
from streams.intake.recipient_lines import RecipientLines, Rest, recipient_of
from streams.metrics import ACCEPT_SECONDS, DEAD_LETTERS, DUPLICATES
from streams.rendering import Rendering
from streams.statuses.projection import Projection
from streams.statuses.table import StatusTable

log = structlog.get_logger(__name__)

Done = Callable[[], None]


def received(record: "ConsumerRecord[bytes, bytes]") -> Record:
    """A record of Faust's client as plain data."""
    return Record(
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        timestamp_ms=record.timestamp,
        key=record.key,
        value=record.value,
        headers=dict(record.headers),
    )


class Accept:
    """``settle`` calls ``done`` when the record's consequence is durable; until then the record stays unacked."""

    def __init__(
        self,
        kafka: Kafka,
        *,
        publisher: Publisher,
        table: StatusTable,
        projection: Projection,
        bodies: Bodies,
        rendering: Rendering,
        controls: Controls,
        groups: CapAndDigestIndex,
        clock: Clock,
        spawn: Callable[[Any], None],
    ) -> None:
        settings = kafka.settings
        self._rules = Rules(
            settings.partitions, settings.max_event_age, senders.of_account(settings.sender, settings.senders_allowed)
        )
        self._batches = Batches(kafka, self._rules, clock)
        self._naming = Naming(settings.topic_prefix)
        self._partitions = settings.partitions
        self._on_ambiguous = OnAmbiguous(settings.on_ambiguous)
        self._append = partial(publish_surely, publisher)  # what cannot be recorded is not acked
        self._table, self._projection = table, projection
        self._bodies, self._rendering, self._controls = bodies, rendering, controls
        self._groups, self._clock, self._spawn = groups, clock, spawn
        #: Emails of batches that have no status yet, and the first control record that names each.
        self._named: dict[str, int] = {}
        self._lines = RecipientLines(spawn)

    def handle(self, record: Record, done: Done) -> None:
        """Begin what the record asks for. Never raises for anything that the record holds."""
        ruling = intake.read(record, self._rules, self._clock.now())
        self._lines.put(recipient_of(ruling), partial(self._begin, ruling, record, done))

    async def drain(self) -> None:
        """Settle nothing more of what is being rendered: it is not acked, and read again."""
        self._lines.drop()

    def _begin(self, ruling: Ruling, record: Record, done: Done) -> Rest | None:
        if isinstance(ruling, ParsedRequest) and self._must_render(ruling):
            return self._rendered(ruling, done)
        self._settle(ruling, record, done)
        return None

    def _must_render(self, asked: ParsedRequest) -> bool:
        return asked.fault is None and self._rendering.is_needed(asked.request) and not self._table.get_status(asked.id)

    async def _rendered(self, asked: ParsedRequest, done: Done) -> Callable[[], None]:
        return partial(self._settle, await self._rendering.of(asked), asked.received, done)

    def _settle(self, ruling: Ruling, record: Record, done: Done) -> None:
        match decided := self._decided(ruling):
            case New(asked):
                self._queue(asked, done)
            case Known(email_id):
                DUPLICATES.inc()
                self._table.when_durable(email_id, done)
            case Carried(asked):
                self._carry(asked, done)
            case Ignored():
                done()
            case Rejected():
                self._spawn(self._reject(decided, done))
            case Misrouted(partition, key, value):
                self._spawn(self._move(partition, key, value, record, done))
            case Controlled(_, control):
                if control.batch is not None and self._table.get_status(control.id) is None:
                    self._named.setdefault(control.id, record.offset)
                self._spawn(self._control(decided, done))
            case Unfold():
                self._spawn(self._unfold(decided, done))

    def _decided(self, ruling: Ruling) -> Decision:
        if isinstance(ruling, ParsedRequest):
            failpoint("C0", ruling.id)
            return intake.decide(ruling, self._table.get_status(ruling.id))
        return ruling

    def _queue(self, asked: ParsedRequest, done: Done) -> None:
        record = asked.received
        status = births.born(asked, self._groups, on_ambiguous=self._on_ambiguous, writer=self._projection.writer)
        if (named_at := self._named.get(asked.id)) is not None and named_at < status.order:
            # which of its own records is taken first depends on who reads; what its claims name must not
            status = structs.replace(status, order=named_at)
        if record.partition in self._table.owned():  # at once: the next record may belong to the same window
            self._groups.changed(None, status, record.partition)
        assert record.value is not None
        self._bodies.keep(Coordinates(record.partition, record.offset), record.value)
        self._projection.create(status, record.partition, partial(self._queued, record.timestamp_ms, asked.id, done))
        failpoint("C1", asked.id)

    def _queued(self, timestamp_ms: int, email_id: str, done: Done) -> None:
        failpoint("C2", email_id)
        ACCEPT_SECONDS.observe(max(0.0, self._clock.now() - timestamp_ms / 1000))
        done()

    def _carry(self, asked: ParsedRequest, done: Done) -> None:
        known = self._table.get_status(asked.id)
        if known is None or not self._table.needs_body(known):
            self._table.when_durable(asked.id, done)
            return
        self._projection.put(births.with_copy(known, asked.received), asked.received.partition, done)

    async def _reject(self, rejected: Rejected, done: Done) -> None:
        letter, email_id = rejected.dead_letter, rejected.id
        DEAD_LETTERS.labels(letter.reason.value).inc()
        partition = letter.record.partition
        log.warning("dead letter", reason=letter.reason, topic=letter.record.topic, partition=partition,
                    offset=letter.record.offset, detail=letter.detail)  # fmt: skip
        await self._append(self._naming.of(REJECTED), letter.value(), key=letter.key(), partition=partition,
                           headers=letter.headers())  # fmt: skip
        if email_id is None:
            done()
        elif partition_in(email_id, self._partitions) == partition and self._table.get_status(email_id) is None:
            self._projection.put(births.refused(rejected, email_id, self._projection.writer), partition, done)
        else:
            self._table.when_durable(email_id, done)

    async def _move(self, partition: int, key: bytes, value: bytes, record: Record, done: Done) -> None:
        headers = [(name, content) for name, content in record.headers.items() if name != codec.REKEYED_HEADER]
        headers.append((codec.REKEYED_HEADER, f"{record.partition}/{record.offset}".encode()))
        await self._append(self._naming.of(REQUESTED), value, key=key, partition=partition, headers=headers)
        done()

    async def _control(self, ruling: Controlled, done: Done) -> None:
        record, control = ruling.received, ruling.control
        first = partial(self._take_from_batch, control, record.partition)
        try:
            fault = await self._controls.decide(control, record.partition, record.offset, done, first=first)
            if fault is not None:
                await self._reject(rejected(record, fault), done)
        finally:
            if self._named.get(control.id) == record.offset:
                del self._named[control.id]

    async def _take_from_batch(self, control: Control, partition: int) -> None:
        """Take the email of a control record out of the batch that it names, if that is not unfolded.

        The item gets a record of its own, as when the batch is unfolded. What comes by later is known.
        """
        if control.batch is None or self._table.get_status(control.id) is not None:
            return
        found = await self._batches.find(control.batch, control.id)
        if found is None or self._table.get_status(control.id) is not None:
            return
        batch, item = found
        topic, headers = self._naming.of(REQUESTED), batch.headers()
        place = await self._append(topic, item.value, key=item.key, partition=item.partition, headers=headers)
        if partition in self._table.owned():  # else the next owner reads the control record again
            now_ms = int(self._clock.now() * 1000)
            await self._take_now(Record(topic, partition, place.offset, now_ms, item.key, item.value, dict(headers)))

    async def _take_now(self, record: Record) -> None:
        """Take the record of an email before it is read in its turn, which then finds it known."""
        ruling = intake.read(record, self._rules, self._clock.now())
        if isinstance(ruling, ParsedRequest) and self._must_render(ruling):
            ruling = await self._rendering.of(ruling)
        match decided := self._decided(ruling):
            case New(asked):
                self._queue(asked, _nothing)
            case Rejected():
                await self._reject(decided, _nothing)
            case _:
                pass

    async def _unfold(self, ruling: Unfold, done: Done) -> None:
        """Publish a strict batch's items one by one; read again after a crash, they are known by their ids."""
        topic, headers, begun = self._naming.of(REQUESTED), ruling.headers(), time.monotonic()
        for item in ruling.items:
            await self._append(topic, item.value, key=item.key, partition=item.partition, headers=headers)
        reason = ruling.fault and ruling.fault[0]
        log.info("batch unfolded", items=len(ruling.items), seconds=round(time.monotonic() - begun, 3), refused=reason)
        done()


def _nothing() -> None:
    """Nothing waits for it: the record itself is read in its turn, and settled then."""
