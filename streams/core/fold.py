"""The facts of one email, in log order, to its status. Nothing else makes a status.

The worker that owns the partition, a new owner after a crash and the audit all call these functions with the same
records, so what ``email.status`` shows can be proven from the other topics. Times come from the records.
"""

from datetime import datetime

from msgspec import structs

from mailstream.attempt import AttemptRecord, ClaimRecord, HeldRecord, Instead, Outcome, OutcomeRecord, ReleasedRecord
from mailstream.event import ProviderEvent
from mailstream.request import EmailRequest, OnAmbiguous
from mailstream.status import (
    Coordinates,
    Doubt,
    EmailStatus,
    Fact,
    Provider,
    Status,
    is_final,
    masked,
    rank_of,
    with_fact,
)
from streams.core.claims import Verdict, is_open, judge

#: What the provider's events about the recipient mean (sendgrid.md §3). Every other event is a fact that proves acceptance.
EVENT_STATUS = {
    "processed": Status.SENT,
    "deferred": Status.DEFERRED,
    "delivered": Status.DELIVERED,
    "bounce": Status.BOUNCED,
    "blocked": Status.BLOCKED,
    "dropped": Status.DROPPED,
}
#: Events that repeat without end: the timeline keeps the first and the last, with a count.
COUNTED = frozenset({"open", "click"})


def queued(
    request: EmailRequest,
    *,
    email_id: str,
    recipient: str,
    place: Coordinates,
    at: datetime,
    on_ambiguous: OnAmbiguous,
    writer: str,
) -> EmailStatus:
    """The first status of an email: accepted, waiting. ``at`` is the broker's time of the record."""
    return EmailStatus(
        writer=writer,
        id=email_id,
        tenant=request.tenant,
        recipient=recipient,
        to_masked=masked(request.to.email),
        status=Status.QUEUED,
        final=False,
        rank=rank_of(Status.QUEUED, 0),
        fingerprint=request.fingerprint,
        reference=request.reference,
        tags=request.tags,
        lane=request.lane,
        request=place,
        order=place.offset,
        created_at=at,
        updated_at=at,
        due_at=request.send_at,
        expires_at=request.expires_at,
        on_ambiguous=request.on_ambiguous or on_ambiguous,
        test=request.test,
        timeline=(Fact(at=at, status=Status.QUEUED),),
    )


def rejected(
    *, email_id: str, recipient: str, place: Coordinates, at: datetime, reason: str, detail: str, writer: str
) -> EmailStatus:
    """The only status of an id whose record we cannot take, and that nothing else is known of (amendment 5)."""
    return EmailStatus(
        writer=writer,
        id=email_id,
        tenant="",
        recipient=recipient,
        to_masked="",
        status=Status.REJECTED,
        final=True,
        rank=rank_of(Status.REJECTED, 0),
        request=place,
        order=place.offset,
        created_at=at,
        updated_at=at,
        provider=Provider(reason=reason),
        timeline=(Fact(at=at, status=Status.REJECTED, detail=f"{reason}: {detail}"),),
    )


def carried(status: EmailStatus, place: Coordinates) -> EmailStatus:
    """The same email with a younger copy of its request (design §4)."""
    if status.request is not None and status.request.offset >= place.offset:
        return status
    return structs.replace(status, request=place)


def attempted(status: EmailStatus, record: AttemptRecord) -> tuple[Verdict, EmailStatus]:
    """What the next record of ``email.attempts`` means for its email, and the status after it."""
    verdict = judge(status, record)
    match verdict, record:
        case Verdict.WON, ClaimRecord():
            return verdict, _claimed(status, record)
        case Verdict.CLOSED, OutcomeRecord():
            return verdict, _answered(status, record)
        case Verdict.CLOSED, ReleasedRecord():
            fact = Fact(at=record.at, status=Status.QUEUED, detail=record.reason, attempt=record.attempt)
            return verdict, with_fact(status, fact, due_at=None, held_at=None)
        case Verdict.CLOSED, HeldRecord():
            fact = Fact(at=record.at, status=Status.HELD, detail=record.reason, attempt=record.attempt)
            return verdict, with_fact(status, fact, held_at=record.at)
        case Verdict.DOUBT_SETTLED, OutcomeRecord() | ReleasedRecord():
            return verdict, _settled(status, record)
    return verdict, status


def _claimed(status: EmailStatus, claim: ClaimRecord) -> EmailStatus:
    doubt = status.doubt
    if doubt is None and is_open(status) and status.nonce is not None:
        doubt = Doubt(status.attempt, status.nonce)
    control = status.control if claim.control is None else max(status.control, claim.control)
    fact = Fact(
        at=claim.at,
        status=_claimed_status(claim, doubt),
        detail=claim.reason,
        attempt=claim.attempt,
        by=claim.by,
        control=claim.control,
    )
    due_at = claim.not_before if claim.instead is Instead.RESCHEDULED else None
    return with_fact(
        status,
        fact,
        attempt=claim.attempt,
        nonce=claim.nonce,
        possible_duplicate=status.possible_duplicate or claim.possible_duplicate,
        doubt=doubt,
        due_at=due_at,
        held_at=None,
        control=control,
        provider=_with_reason(status.provider, claim.reason) if claim.instead is Instead.FAILED else status.provider,
    )


def _claimed_status(claim: ClaimRecord, doubt: Doubt | None) -> Status:
    match claim.instead:
        case None:
            return Status.PROCESSING
        case Instead.RESCHEDULED:
            return Status.QUEUED
        case Instead.SENT:
            return Status.SENT
        case Instead.UNCONFIRMED:
            return Status.UNCONFIRMED
        case ending:  # behind a doubt nothing may say "not sent" (amendment 3)
            return Status.UNCONFIRMED if doubt else Status(ending.value)


def _answered(status: EmailStatus, outcome: OutcomeRecord) -> EmailStatus:
    provider = Provider(
        message_id=outcome.message_id or (status.provider.message_id if status.provider else None),
        code=outcome.code,
        reason=outcome.reason,
    )
    match outcome.result:
        case Outcome.ACCEPTED:
            next_status = Status.SENT
        case Outcome.REFUSED:
            next_status = Status.UNCONFIRMED if status.doubt else Status.FAILED
        case Outcome.UNKNOWN:
            next_status = Status.HELD
        case _:
            next_status = Status.RETRYING
    fact = Fact(at=outcome.at, status=next_status, detail=outcome.reason, attempt=outcome.attempt)
    return with_fact(
        status,
        fact,
        provider=provider,
        due_at=outcome.retry_at if next_status is Status.RETRYING and not status.final else None,
        held_at=outcome.at if next_status is Status.HELD and not status.final else None,
        retries_used=status.retries_used + (1 if outcome.counts else 0),
    )


def _settled(status: EmailStatus, record: OutcomeRecord | ReleasedRecord) -> EmailStatus:
    """The late word about an attempt that another one followed."""
    if isinstance(record, ReleasedRecord):  # an UNCONFIRMED email must not come back to life (amendment 13)
        return with_fact(status, Fact(at=record.at, what="late_release", attempt=record.attempt))
    if record.result is Outcome.ACCEPTED:
        provider = Provider(record.message_id, record.code, record.reason)
        fact = Fact(at=record.at, status=Status.SENT, detail="late evidence", attempt=record.attempt)
        return with_fact(status, fact, provider=provider)
    if record.result is Outcome.UNKNOWN:
        return with_fact(status, Fact(at=record.at, what="late_unknown", attempt=record.attempt))
    ended = Status.FAILED if status.status is Status.UNCONFIRMED else None
    what = None if ended else "late_refusal"
    fact = Fact(at=record.at, status=ended, what=what, detail=record.reason, attempt=record.attempt)
    return with_fact(status, fact, doubt=None)


def noted_control(
    status: EmailStatus, *, control: int, what: str, why: str | None, by: str, at: datetime
) -> EmailStatus:
    """A control record that was decided without a claim: refused, or an order to resend (amendment 9)."""
    fact = Fact(at=at, what=what, detail=why, by=by or None, control=control)
    return with_fact(status, fact, control=max(status.control, control))


def happened(status: EmailStatus, event: ProviderEvent) -> EmailStatus:
    """What an event of the provider means. The same status comes back when it is known already."""
    if event.dedupe and any(fact.key == event.dedupe for fact in status.timeline):
        return status
    kind = "blocked" if event.event == "bounce" and event.detail.get("type") == "blocked" else event.event
    # a cc's or bcc's event is a fact; so is one of another attempt's mail, which proves that mailing all the same
    moves_to = EVENT_STATUS.get(kind) if event.is_recipient else None
    if moves_to is None and status.status not in _ACCEPTED:
        moves_to = Status.SENT
    detail = event.detail.get("reason") or event.detail.get("response")
    if kind in COUNTED:
        status = _forget_middle(status, kind)
    what = kind if moves_to is None or EVENT_STATUS.get(kind) is not moves_to else None
    if moves_to is not None and rank_of(moves_to, status.attempt) < status.rank:
        moves_to, what = None, kind
    fact = Fact(at=event.at, status=moves_to, what=what, detail=detail, key=event.dedupe or None)
    provider = status.provider
    if event.message_id and not (provider and provider.message_id):
        provider = Provider(event.message_id, provider.code if provider else None, None)
    return with_fact(
        status, fact, provider=provider, held_at=None if is_final(moves_to or status.status) else status.held_at
    )


_ACCEPTED = frozenset({Status.SENT, *EVENT_STATUS.values()})


def _forget_middle(status: EmailStatus, kind: str) -> EmailStatus:
    """Of facts that repeat without end keep the first; the newest is about to be added."""
    seen = [n for n, fact in enumerate(status.timeline) if fact.what == kind]
    if len(seen) < 2:
        return status
    timeline = tuple(fact for n, fact in enumerate(status.timeline) if n not in seen[1:])
    return structs.replace(
        status, timeline=timeline, timeline_dropped=status.timeline_dropped + len(status.timeline) - len(timeline)
    )


def is_duplicate_proven(status: EmailStatus, event: ProviderEvent) -> bool:
    """Whether the event names another provider message id than the one known: two mails for one email (an alarm)."""
    known = status.provider.message_id if status.provider else None
    return bool(event.is_recipient and known and event.message_id and event.message_id != known)


def _with_reason(provider: Provider | None, reason: str | None) -> Provider:
    return Provider(provider.message_id if provider else None, provider.code if provider else None, reason)
