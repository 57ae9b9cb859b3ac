"""A verified post of the provider to records: events, suppressions, and a dead letter for each bad element."""

import asyncio

import msgspec

from api.inbound.events import BadEvent, event_of, suppresses
from api.inbound.signature import Replays, Verifier
from api.problems import Code, Problem
from api.suppressions import record_of
from api.view.lookup import Lookup
from mailstream.clock import Clock
from mailstream.domain import codec, topics
from mailstream.domain.dead_letter import DeadLetter, Reason
from mailstream.domain.email_id import partition_in
from mailstream.domain.errors import NotPublished
from mailstream.domain.event import ProviderEvent
from mailstream.domain.recipient import partition_of, recipient_hash
from mailstream.domain.record import Record
from mailstream.domain.suppression import key_of
from mailstream.kafka.producer import Position, Publisher
from mailstream.settings import Settings

SECONDS = 5.0
#: Stands where a record would name its topic.
SOURCE = "POST /v1/events/sendgrid"
#: An orphan whose address cannot be read, and a bad element, have no partition of their own.
_ANY = 0

_elements = msgspec.json.Decoder(list[msgspec.Raw])


class Webhook:
    """Writes what a post says; ``take`` returns when all of it is in the log."""

    def __init__(self, settings: Settings, publisher: Publisher, lookup: Lookup, clock: Clock) -> None:
        """Raises WrongSettings when a key in SENDGRID_WEBHOOK_KEYS is none."""
        self.verifier = Verifier(settings.sendgrid_webhook_keys, max_age_seconds=settings.sendgrid_webhook_max_age)
        self.replays = Replays()
        naming = topics.Naming(settings.topic_prefix)
        self._events, self._rejected = naming.of(topics.EVENTS), naming.of(topics.REJECTED)
        self._suppressions, self._partitions = naming.of(topics.SUPPRESSIONS), settings.partitions
        self._publisher, self._lookup, self._clock = publisher, lookup, clock

    async def take(self, body: bytes) -> None:
        """Raises Problem: 400 when it is not an array, 503 when it is not in the log in time (then it is posted again).

        Raises NotCaughtUp before the topics have been checked.
        """
        try:
            elements = _elements.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise Problem(Code.NOT_JSON, "The body must be a JSON array of events.") from None
        self._lookup.require_checked()
        good, writes = [], []
        for index, raw in enumerate(elements):
            try:
                event, address = event_of(msgspec.json.decode(raw))
            except BadEvent as error:
                writes.append(self._publish_bad(index, bytes(raw), str(error)))
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                writes.append(self._publish_bad(index, bytes(raw), "the element cannot be read"))
            else:
                good.append((event, address))
                writes.append(self._publish_event(event, address))
        writes += await self._suppress(good)
        try:
            async with asyncio.timeout(SECONDS):
                await asyncio.gather(*writes)
        except (NotPublished, TimeoutError):
            raise Problem(Code.NOT_ACKNOWLEDGED, "Not all events are in the log yet. Post them again.") from None

    async def _suppress(self, good: list[tuple[ProviderEvent, str | None]]) -> "list[asyncio.Future[Position]]":
        """Let an address get no more mail after some events, of the tenant that only the email's status knows."""
        wanted = [
            (event.id.encode(), event, address, origin)
            for event, address in good
            if event.id is not None and address is not None and (origin := suppresses(event)) is not None
        ]
        if any(self._lookup.known(key) is None for key, *_ in wanted):
            await self._lookup.barrier()
        writes = []
        for key, event, address, origin in wanted:
            status = self._lookup.known(key)
            # An event that is on the timeline already was taken before: since then a person may have let mail go again.
            if status is None or not status.tenant or any(fact.key == event.dedupe for fact in status.timeline):
                continue
            reason = str(event.detail.get("reason") or event.detail.get("type") or event.event)
            record = record_of(status.tenant, address, origin, reason=reason, since=event.at, by="sendgrid")
            writes.append(
                self._publisher.send(
                    self._suppressions,
                    codec.encode(record),
                    key=key_of(status.tenant, address),
                    partition=partition_of(recipient_hash(address), self._partitions),
                    headers=codec.headers_of(record),
                )
            )
        return writes

    def _publish_event(self, event: ProviderEvent, address: str | None) -> "asyncio.Future[Position]":
        if event.id is not None:
            partition = partition_in(event.id, self._partitions)
        else:  # an orphan: kept, counted by the worker
            partition = partition_of(recipient_hash(address), self._partitions) if address else _ANY
        key = address or event.id or ""
        return self._publisher.send(
            self._events,
            codec.encode(event),
            key=key.encode() or None,
            partition=partition,
            headers=codec.headers_of(event),
        )

    def _publish_bad(self, index: int, raw: bytes, why: str) -> "asyncio.Future[Position]":
        record = Record(SOURCE, _ANY, index, int(self._clock.now() * 1000), key=None, value=raw, headers={})
        letter = DeadLetter(Reason.BAD_EVENT, why, record)
        return self._publisher.send(self._rejected, letter.value(), key=None, partition=_ANY, headers=letter.headers())
