"""Facts from the provider's webhook become statuses."""

import structlog

from mailstream.domain import codec
from mailstream.domain.email_id import partition_in
from mailstream.domain.record import Record
from mailstream.domain.status import Status
from streams.core import fold
from streams.intake.accept import Done
from streams.metrics import DUPLICATES_PROVEN, EVENT_KINDS, EVENTS, LATE_EVIDENCE
from streams.statuses.projection import Projection
from streams.statuses.table import StatusTable

log = structlog.get_logger(__name__)


class Feedback:
    """Takes records of ``email.events``; ``done`` is called when the consequence is durable."""

    def __init__(self, table: StatusTable, projection: Projection) -> None:
        self._table, self._projection = table, projection

    def handle(self, record: Record, done: Done) -> None:
        """Apply one event. Never raises for anything that the record holds: orphans and nonsense are counted."""
        try:
            event = codec.decode_event(record.value or b"")
        except codec.Undecodable:
            EVENTS.labels("unreadable").inc()
            done()
            return
        EVENTS.labels(event.event if event.event in EVENT_KINDS else "other").inc()
        status = self._table.get_status(event.id) if event.id is not None else None
        if status is None:
            done()
            return
        if fold.is_duplicate_proven(status, event):
            DUPLICATES_PROVEN.inc()
            log.error("the provider names two messages for one email", email=status.id)
        after = fold.happened(status, event)
        if after is status:
            self._table.when_durable(status.id, done)
            return
        if status.status in (Status.FAILED, Status.UNCONFIRMED) and after.status is not status.status:
            LATE_EVIDENCE.inc()
        # the email's own partition: a record that a foreign producer put into another one says nothing about where it is
        self._projection.put(after, partition_in(status.id, self._table.partition_count), done)
