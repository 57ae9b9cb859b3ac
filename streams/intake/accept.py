"""Settle every record of ``email.requested``: at line rate, never paced, and nothing in a record can stop it."""

import asyncio
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import structlog
from aiokafka import ConsumerRecord
from msgspec import structs

from mailstream.clock import Clock, moment
from mailstream.domain import codec, senders
from mailstream.domain.dead_letter import Reason
from mailstream.domain.email_id import partition_in
from mailstream.domain.errors import NotPublished
from mailstream.domain.record import Record
from mailstream.domain.request import OnAmbiguous
from mailstream.domain.status import Coordinates, EmailStatus
from mailstream.domain.topics import REJECTED, REQUESTED, Naming
from mailstream.kafka.bodies import Bodies
from mailstream.kafka.kafka import Kafka
from mailstream.kafka.producer import Position, Publisher
from streams.core import births, intake
from streams.core.caps_and_digests import Groups
from streams.core.intake import (
    Asked,
    Astray,
    Carried,
    Controlled,
    Ignored,
    Known,
    New,
    Rejected,
    Rules,
    Ruling,
)
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

AGAIN_SECONDS = 1.0
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
        groups: Groups,
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
        self._publisher, self._table, self._projection = publisher, table, projection
        self._bodies, self._rendering, self._controls = bodies, rendering, controls
        self._groups, self._clock, self._spawn = groups, clock, spawn
        #: Emails of batches that have no status yet, and the first control record that names each.
        self._named: dict[str, int] = {}
        self._lines = RecipientLines(spawn)

    def settle(self, record: Record, done: Done) -> None:
        """Begin what the record asks for. Never raises for anything that the record holds."""
        ruling = intake.read(record, self._rules, self._clock.now())
        self._lines.put(recipient_of(ruling), partial(self._begin, ruling, record, done))

    async def drain(self) -> None:
        """Settle nothing more of what is being rendered: it is not acked, and read again."""
        self._lines.drop()

    def _begin(self, ruling: Ruling, record: Record, done: Done) -> Rest | None:
        if not isinstance(ruling, Asked):
            self._settle(ruling, record, done)
        elif self._must_render(ruling):
            return self._rendered(ruling, done)
        else:
            self._settle(self._settle_asked(ruling), record, done)
        return None

    def _must_render(self, asked: Asked) -> bool:
        return asked.fault is None and self._rendering.is_needed(asked.request) and not self._table.get_status(asked.id)

    async def _rendered(self, asked: Asked, done: Done) -> Callable[[], None]:
        rendered = await self._rendering.of(asked)
        return lambda: self._settle(self._settle_asked(rendered), asked.received, done)

    def _settle(self, ruling: Ruling | New | Known | Carried, record: Record, done: Done) -> None:
        match ruling:
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
                self._spawn(self._reject(ruling, done))
            case Astray(partition, key, value):
                self._spawn(self._move(partition, key, value, record, done))
            case Controlled(_, control):
                if control.batch is not None and self._table.get_status(control.id) is None:
                    self._named.setdefault(control.id, record.offset)
                self._spawn(self._control(ruling, control.id, done))
            case Unfold():
                self._spawn(self._unfold(ruling, done))

    def _settle_asked(self, asked: Asked) -> New | Known | Carried | Rejected:
        failpoint("C0", asked.id)
        return intake.settle(asked, self._table.get_status(asked.id))

    def _first_status(self, asked: Asked) -> EmailStatus:
        record = asked.received
        due_at = self._groups.due(asked.request, moment(intake.first_record(record)[1] / 1000))
        status = births.born(asked, due_at=due_at, on_ambiguous=self._on_ambiguous, writer=self._projection.writer)
        if (named_at := self._named.get(asked.id)) is not None and named_at < status.order:
            # which of its own records is taken first depends on who reads; what its claims name must not
            status = structs.replace(status, order=named_at)
        if record.partition in self._table.owned():
            self._groups.changed(
                None, status, record.partition
            )  # at once: the next record may belong to the same window
        return status

    def _queue(self, asked: Asked, done: Done) -> None:
        record, status = asked.received, self._first_status(asked)
        place = Coordinates(record.partition, record.offset)
        assert record.value is not None
        self._bodies.keep(place, record.value)
        self._projection.be_born(status, record.partition, partial(self._queued, record.timestamp_ms, asked.id, done))
        failpoint("C1", asked.id)

    def _queued(self, timestamp_ms: int, email_id: str, done: Done) -> None:
        failpoint("C2", email_id)
        ACCEPT_SECONDS.observe(max(0.0, self._clock.now() - timestamp_ms / 1000))
        done()

    def _carry(self, asked: Asked, done: Done) -> None:
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
        await self._append_surely(self._naming.of(REJECTED), letter.value(), letter.key(), partition, letter.headers())
        if email_id is None:
            done()
        elif self._may_show_rejected(email_id, partition):
            self._projection.put(births.refused(rejected, email_id, self._projection.writer), partition, done)
        else:
            self._table.when_durable(email_id, done)

    def _may_show_rejected(self, email_id: str, partition: int) -> bool:
        return partition_in(email_id, self._partitions) == partition and self._table.get_status(email_id) is None

    async def _move(self, partition: int, key: bytes, value: bytes, record: Record, done: Done) -> None:
        headers = [(name, content) for name, content in record.headers.items() if name != codec.REKEYED_HEADER]
        headers.append((codec.REKEYED_HEADER, f"{record.partition}/{record.offset}".encode()))
        await self._append_surely(self._naming.of(REQUESTED), value, key, partition, headers)
        done()

    async def _control(self, ruling: Controlled, email_id: str, done: Done) -> None:
        record, control = ruling.received, ruling.control
        try:
            if self._table.get_status(email_id) is None and control.batch is not None:
                first = partial(self._take_from_batch, ruling, done)
                await self._controls.decide(control, record.partition, record.offset, done, first=first)
            elif await self._has_email(ruling, done):
                await self._controls.decide(control, record.partition, record.offset, done)
        finally:
            if self._named.get(email_id) == record.offset:
                del self._named[email_id]

    async def _has_email(self, ruling: Controlled, done: Done) -> bool:
        """Whether the control record is about an email that it may speak of; else it is a dead letter."""
        status, tenant = self._table.get_status(ruling.control.id), ruling.control.tenant
        if status is None:
            fault = Reason.UNKNOWN_ID, "no email with this id was asked for"
        elif tenant is not None and tenant != status.tenant:
            fault = Reason.ID_CONFLICT, "the email belongs to another tenant"
        else:
            return True
        await self._reject(intake.rejected(ruling.received, fault), done)
        return False

    async def _take_from_batch(self, ruling: Controlled, done: Done) -> bool:
        """Take the email of a control record out of a batch that is not unfolded; False: the record is a dead letter.

        The item gets a record of its own, as when the batch is unfolded. What comes by later is known.
        """
        control, partition = ruling.control, ruling.received.partition
        assert control.batch is not None
        found = await self._batches.find(control.batch, control.id)
        if found is not None and self._table.get_status(control.id) is None:
            batch, item = found
            headers = batch.headers()
            topic = self._naming.of(REQUESTED)
            place = await self._append_surely(topic, item.value, item.key, item.partition, headers)
            if partition not in self._table.owned():
                return False  # the next owner reads the control record again
            now_ms = int(self._clock.now() * 1000)
            record = Record(topic, partition, place.offset, now_ms, item.key, item.value, dict(headers))
            await self._take_now(record)
        return await self._has_email(ruling, done)

    async def _take_now(self, record: Record) -> None:
        """Take the record of an email before it is read in its turn, which then finds it known."""
        asked = intake.read(record, self._rules, self._clock.now())
        if isinstance(asked, Asked) and self._must_render(asked):
            asked = await self._rendering.of(asked)
        match self._settle_asked(asked) if isinstance(asked, Asked) else asked:
            case New(new):
                self._queue(new, _nothing)
            case Rejected() as rejected:
                await self._reject(rejected, _nothing)
            case _:
                pass

    async def _unfold(self, ruling: Unfold, done: Done) -> None:
        """Publish a strict batch's items one by one; read again after a crash, they are known by their ids."""
        topic, headers, begun = self._naming.of(REQUESTED), ruling.headers(), time.monotonic()
        for item in ruling.items:
            await self._append_surely(topic, item.value, item.key, item.partition, headers)
        reason = ruling.fault and ruling.fault[0]
        log.info("batch unfolded", items=len(ruling.items), seconds=round(time.monotonic() - begun, 3), refused=reason)
        done()

    async def _append_surely(
        self, topic: str, value: bytes | None, key: bytes | None, partition: int, headers: Any
    ) -> Position:
        """Append, however long that takes: what cannot be recorded is not acked (guarantees §7, row 23)."""
        while True:
            try:
                return await self._publisher.publish(topic, value, key=key, partition=partition, headers=headers)
            except NotPublished as error:
                if self._publisher.is_closing:
                    raise
                log.warning("not acknowledged, appended again", topic=topic, error=str(error))
                await asyncio.sleep(AGAIN_SECONDS)


def _nothing() -> None:
    """Nothing waits for it: the record itself is read in its turn, and settled then."""
