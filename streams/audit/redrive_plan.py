"""Ask again for a failed email or a dead letter: what would be asked, or why it is no use. No I/O.

An email that ended, or has a dead letter of its own, is asked for under a new id that follows from the old one and names
it: asking again twice sends once, and what was said about the old id stays true. The items of a strict batch that became
one dead letter were told nothing about, so each is asked for under its own id: what was taken of them is known.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from msgspec import structs

from mailstream.domain import codec, email_id, topics
from mailstream.domain import senders as sender
from mailstream.domain.dead_letter import DeadLetter
from mailstream.domain.errors import BadAddress, BadEmailId
from mailstream.domain.recipient import canonical
from mailstream.domain.record import Record
from mailstream.domain.request import Batch, Control, EmailRequest, InBatch
from mailstream.domain.status import EmailStatus, Status
from mailstream.domain.validation import fingerprint_of, validate
from streams.core.named import Named, name_of
from streams.core.trigger_result import TriggerResult
from streams.triggers import decide
from streams.triggers import records as trigger_records
from streams.triggers.event import as_event
from streams.triggers.records import Outgoing
from streams.triggers.rules import Rules

SOURCE = "redrive"
CAUSATION, BY, REASON = "mailstream-causation", "mailstream-redriven-by", "mailstream-redrive-reason"
#: An operator has looked: no event is too old for that.
ANY_AGE = timedelta(days=36_500)

#: What an email may have ended as to be asked for again. UNCONFIRMED may have been sent: only when it is named.
MAY_BE_REDRIVEN = frozenset(
    {Status.FAILED, Status.EXPIRED, Status.CANCELLED, Status.SUPPRESSED, Status.UNCONFIRMED, Status.DROPPED,
     Status.BLOCKED, Status.BOUNCED}
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class AuditReason:
    """Who asks again, and why: it goes into the headers of each record."""

    by: str
    reason: str

    def headers(self, causation: str) -> list[codec.Header]:
        """``causation`` names the record or the email that this follows from."""
        return [(CAUSATION, causation.encode()), (BY, self.by.encode()), (REASON, self.reason.encode())]


@dataclass(frozen=True, slots=True)
class RedrivePlan:
    """What to publish, and the ids that it asks for or speaks of."""

    outgoing: tuple[Outgoing, ...]
    ids: tuple[str, ...]


class NotRedrivable(Exception):
    """Asking again would end the same way, or cannot be done. The text is for people, and repeats no value."""


@dataclass(frozen=True, slots=True)
class RedriveContext:
    """What the present settings and rules allow."""

    partitions: int
    prefix: str
    senders: frozenset[str]
    rules: Rules | None


def email(
    status: EmailStatus, request: EmailRequest, cause: AuditReason, means: RedriveContext, now: datetime
) -> RedrivePlan:
    """Ask again for an email that ended and reached no one. ``request``: as it stands in ``email.requested``.

    Raises NotRedrivable.
    """
    if status.status not in MAY_BE_REDRIVEN:
        raise NotRedrivable(f"it is {status.status}")
    return _asked(request, status.id, cause.headers(f"email {status.id}"), means, now)


async def dead_letter(
    letter: DeadLetter, place: str, cause: AuditReason, means: RedriveContext, render: decide.Render, now: datetime
) -> RedrivePlan:
    """Ask again for a dead letter of ``place`` in ``email.rejected``. Raises NotRedrivable."""
    record, extra = letter.record, cause.headers(f"{topics.REJECTED.name}/{place}")
    if record.value is None:
        raise NotRedrivable("it holds no bytes")
    if record.topic == means.prefix + topics.REQUESTED.name:
        return _direct(record, record.value, extra, means, now)
    rules = means.rules or Rules(())
    topic = next((name for name in rules.topics if rules.full_name(name, means.prefix) == record.topic), None)
    if topic is None:
        raise NotRedrivable("it came from a topic that no rule names")
    ruling = await decide.decide(as_event(record, topic), rules, render, now=now, max_age=ANY_AGE)
    if ruling.failures:
        begin = "it is not a domain event" if ruling.result is TriggerResult.UNREADABLE else "it fails again"
        raise NotRedrivable(f"{begin}: {ruling.failures[0].detail}")
    if ruling.result is not TriggerResult.ASKED:
        raise NotRedrivable("no rule applies to it any more" if ruling.event else "no rule reads its type any more")
    # the ids are those that it always had: a mail of it that did go out is known, and not sent again
    return RedrivePlan(tuple(trigger_records.asked(ruling, means.partitions, extra)), ruling.ids())


def _direct(
    record: Record, value: bytes, extra: list[codec.Header], means: RedriveContext, now: datetime
) -> RedrivePlan:
    try:
        match asked := codec.decode_requested(value):
            case Control():
                return RedrivePlan((trigger_records.control_record(asked, means.partitions, extra),), (asked.id,))
            case Batch():
                return _items(asked, record, extra, means, now)
            case EmailRequest():
                recipient = canonical(asked.to.email)
                old = asked.id or email_id.of_place(record.topic, record.partition, record.offset, recipient)
                return _asked(asked, old, extra, means, now)
    except codec.Undecodable as error:
        raise NotRedrivable(f"its writer must write it again: {error.detail}") from None
    except BadEmailId:
        raise NotRedrivable("it names no email id") from None
    except BadAddress as error:
        raise NotRedrivable(str(error)) from None


def _items(batch: Batch, place: Record, extra: list[codec.Header], means: RedriveContext, now: datetime) -> RedrivePlan:
    """All items of a strict batch that was refused as a whole, each under the id that its caller was told.

    A worker that was killed half way had unfolded some of them: those are known by their ids, and nothing is done.
    """
    mark = InBatch(batch.id, batch.fingerprint) if batch.fingerprint is not None else None
    records: list[Outgoing] = []
    ids: list[str] = []
    for index, item in enumerate(batch.items):
        named = name_of(place, item, index)
        if not isinstance(named, Named):
            raise NotRedrivable(f"item {index}: {named[1]}")
        try:
            again = _due_now(item, means, now)
        except NotRedrivable as error:
            raise NotRedrivable(f"item {index}: {error}") from None
        fingerprint = item.fingerprint or fingerprint_of(item)  # of what was asked: the same email is known by it
        again = structs.replace(again, id=named.id, fingerprint=fingerprint, batch=mark, **_still_ahead(item, now))
        records.append(trigger_records.request_record(again, means.partitions, extra))
        ids.append(named.id)
    if not records:
        raise NotRedrivable("there is no item in it")
    return RedrivePlan(tuple(records), tuple(ids))


def _asked(
    request: EmailRequest, old_id: str, extra: list[codec.Header], means: RedriveContext, now: datetime
) -> RedrivePlan:
    """The same mail under an id that follows from the old one."""
    again = _due_now(request, means, now)
    id_ = email_id.derived(again.tenant, SOURCE, old_id, canonical(again.to.email))
    again = structs.replace(again, id=id_, source=SOURCE, idempotency_key=old_id, redrive_of=old_id, batch=None)
    return RedrivePlan((trigger_records.request_record(again, means.partitions, extra),), (id_,))


def _due_now(request: EmailRequest, means: RedriveContext, now: datetime) -> EmailRequest:
    """It was due, and may have expired, when it was first asked for: now it is wanted at once.

    Raises NotRedrivable when a worker would refuse it again.
    """
    again = structs.replace(request, requested_at=now, send_at=None, expires_at=None, fingerprint=None)
    if mistakes := validate(again, now=now):
        raise NotRedrivable(f"{mistakes[0].pointer}: {mistakes[0].detail}")
    if again.from_ is not None and not sender.is_allowed(again.from_.email, means.senders):
        raise NotRedrivable("its from address is not among the senders of this system")
    return again


def _still_ahead(request: EmailRequest, now: datetime) -> dict[str, datetime]:
    """Those of its times that have not come: the other items of its batch keep them, too."""
    times = {"send_at": request.send_at, "expires_at": request.expires_at}
    return {member: at for member, at in times.items() if at is not None and at.tzinfo is not None and at > now}
