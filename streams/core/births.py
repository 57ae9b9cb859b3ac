"""The first status of an email, from the record that asks for it (pure): what accept shows, and what a rebuild shows again."""

from mailstream.clock import moment
from mailstream.domain.record import Record
from mailstream.domain.request import OnAmbiguous
from mailstream.domain.status import Coordinates, EmailStatus
from streams.core import fold, intake
from streams.core.caps_and_digests import CapAndDigestIndex
from streams.core.faults import Rejected
from streams.core.intake import ParsedRequest


def born(asked: ParsedRequest, groups: CapAndDigestIndex, *, on_ambiguous: OnAmbiguous, writer: str) -> EmailStatus:
    """The email waits, if it is for a digest until that closes. ``on_ambiguous``: if the request names none."""
    record = asked.received
    order, at_ms = intake.first_record(record)
    at = moment(at_ms / 1000)
    status = fold.queued(
        asked.request,
        email_id=asked.id,
        recipient=f"{asked.recipient:08x}",
        place=Coordinates(record.partition, order),
        at=at,
        on_ambiguous=on_ambiguous,
        writer=writer,
        due_at=groups.due(asked.request, at),
    )
    # the first record of a carried email is gone, and with it the body there
    return with_copy(status, record) if asked.is_carried else status


def with_copy(status: EmailStatus, record: Record) -> EmailStatus:
    """The same email with this younger copy of its request."""
    return fold.carried(status, Coordinates(record.partition, record.offset), moment(record.timestamp_ms / 1000))


def refused(rejected: Rejected, email_id: str, writer: str) -> EmailStatus:
    """The record became a dead letter, and nothing else is known of the id that it asks for."""
    letter = rejected.dead_letter
    return fold.rejected(
        email_id=email_id,
        recipient=email_id[3:11],
        place=Coordinates(letter.record.partition, letter.record.offset),
        at=moment(letter.record.timestamp_ms / 1000),
        reason=letter.reason.value,
        detail=letter.detail,
        writer=writer,
        tenant=rejected.tenant,
        reference=rejected.reference,
        batch=rejected.batch,
    )
