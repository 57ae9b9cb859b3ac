"""The facts of one email, in log order, to its status. Nothing else makes a status.

The worker that owns the partition, a new owner after a crash and the audit all call these functions with the same
records, so what ``email.status`` shows can be proven from the other topics. Times come from the records.
"""

from datetime import UTC, datetime
from typing import Any

from msgspec import structs

from mailstream.domain.attempt import (
    AttemptRecord,
    ClaimRecord,
    HeldRecord,
    Instead,
    Outcome,
    OutcomeRecord,
    ReleasedRecord,
)
from mailstream.domain.event import ProviderEvent
from mailstream.domain.request import InBatch
from mailstream.domain.status import (
    ACCEPTED,
    Coordinates,
    Doubt,
    EmailStatus,
    Fact,
    Provider,
    Status,
    rank_of,
    with_fact,
)
from mailstream.domain.status import queued as queued  # the first status: the API shows it before a worker does
from mailstream.domain.validation import NAME_IN_STATUS
from streams.core.claims import ENDS_DOUBT, Verdict, doubts, is_open, judge

#: What the provider's events about the recipient mean. Every other event is a fact that proves acceptance.
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
#: Characters of a text and of a name that come from outside. A status must fit its topic: one that the broker refuses
#: would stop its worker, as what cannot be recorded is not sent.
LONGEST_TEXT = 500


def rejected(
    *,
    email_id: str,
    recipient: str,
    place: Coordinates,
    at: datetime,
    reason: str,
    detail: str,
    writer: str,
    tenant: str = "",
    reference: str | None = None,
    batch: InBatch | None = None,
) -> EmailStatus:
    """The only status of an id whose record we cannot take, and that nothing else is known of.

    ``tenant`` is empty where none can be read: then operators see the email, and no caller does.
    """
    return EmailStatus(
        writer=writer,
        id=email_id,
        tenant=tenant,
        recipient=recipient,
        to_masked="",
        status=Status.REJECTED,
        final=True,
        rank=rank_of(Status.REJECTED, 0),
        reference=reference,
        batch=batch,
        request=place,
        order=place.offset,
        created_at=at,
        updated_at=at,
        provider=Provider(reason=reason),
        timeline=(Fact(at=at, status=Status.REJECTED, detail=f"{reason}: {detail}"),),
    )


def carried(status: EmailStatus, place: Coordinates, at: datetime) -> EmailStatus:
    """The same email with a younger copy of its request, appended ``at``."""
    if status.request is not None and status.request.offset >= place.offset:
        return status
    return structs.replace(status, request=place, request_at=at)


def reborn(status: EmailStatus, record: AttemptRecord) -> EmailStatus:
    """What a status that was born again must have been before this record.

    An email that waited for long has younger copies of its request, and its caller may have asked twice: what it is
    born from need not be its first record, and its first attempts may be older than the log keeps. So a claim of an
    earlier record is taken for its own: to send nothing is better than to send twice.
    """
    if not isinstance(record, ClaimRecord):
        return status
    if status.status is Status.REJECTED:  # by what templates and settings are now: what was claimed had been taken
        status = structs.replace(
            status, status=Status.QUEUED, final=False, rank=rank_of(Status.QUEUED, 0), provider=None
        )
    if record.order is not None and record.order < status.order:
        status = structs.replace(status, order=record.order)
    if status.attempt or record.attempt == 1:
        return status
    before = Status.HELD if record.instead in ENDS_DOUBT else status.status
    attempt = record.attempt - 1
    return structs.replace(status, attempt=attempt, status=before, rank=rank_of(before, attempt))


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
            return verdict, _moved(status, fact, due_at=None, held_at=None)
        case Verdict.CLOSED, HeldRecord():
            fact = Fact(at=record.at, status=Status.HELD, detail=record.reason, attempt=record.attempt)
            return verdict, _moved(status, fact, held_at=record.at)
        case Verdict.DOUBT_SETTLED, OutcomeRecord() | ReleasedRecord():
            return verdict, _settled(status, record)
    return verdict, status


def _claimed(status: EmailStatus, claim: ClaimRecord) -> EmailStatus:
    in_doubt = doubts(status)
    if is_open(status) and status.nonce is not None:
        in_doubt = (*in_doubt, Doubt(status.attempt, status.nonce))
    control = status.control if claim.control is None else max(status.control, claim.control)
    reason = _cut(claim.reason, LONGEST_TEXT)
    fact = Fact(
        at=claim.at,
        status=_claimed_status(claim, is_in_doubt=bool(in_doubt)),
        detail=reason,
        attempt=claim.attempt,
        by=_cut(claim.by, NAME_IN_STATUS),
        control=claim.control,
    )
    return _moved(
        status,
        fact,
        attempt=claim.attempt,
        nonce=claim.nonce,
        possible_duplicate=status.possible_duplicate or claim.possible_duplicate,
        due_at=claim.not_before if claim.instead is Instead.RESCHEDULED else None,
        held_at=None,
        control=control,
        digested_into=_cut(claim.into, NAME_IN_STATUS) or status.digested_into,
        provider=_with_reason(status.provider, reason) if claim.instead is Instead.FAILED else status.provider,
        **_in_doubt(in_doubt),
    )


def _claimed_status(claim: ClaimRecord, *, is_in_doubt: bool) -> Status:
    match claim.instead:
        case None:
            return Status.PROCESSING
        case Instead.RESCHEDULED:
            return Status.QUEUED
        case Instead.SENT:
            return Status.SENT
        case Instead.UNCONFIRMED:
            return Status.UNCONFIRMED
        case ending:  # behind a doubt nothing may say "not sent"
            return Status.UNCONFIRMED if is_in_doubt else Status(ending.value)


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
    return _moved(
        status,
        fact,
        provider=provider,
        due_at=outcome.retry_at if next_status is Status.RETRYING else None,
        held_at=status.held_at or outcome.at if next_status is Status.HELD else None,
        retries_used=status.retries_used + (1 if outcome.counts else 0),
        answered=outcome.attempt,
    )


def _settled(status: EmailStatus, record: OutcomeRecord | ReleasedRecord) -> EmailStatus:
    """The late word about an attempt that another one followed."""
    others = tuple(doubt for doubt in doubts(status) if doubt.attempt != record.attempt)
    if isinstance(record, ReleasedRecord):  # an UNCONFIRMED email must not come back to life
        return _moved(status, Fact(at=record.at, what="late_release", attempt=record.attempt), **_in_doubt(others))
    if record.result is Outcome.ACCEPTED:
        provider = Provider(record.message_id, record.code, record.reason)
        fact = Fact(at=record.at, status=Status.SENT, detail="late evidence", attempt=record.attempt)
        return _moved(status, fact, provider=provider, **_in_doubt(others))
    is_over = status.status is Status.UNCONFIRMED and not others
    fact = Fact(
        at=record.at,
        status=Status.FAILED if is_over else None,
        what=None if is_over else "late_refusal",
        detail=record.reason,
        attempt=record.attempt,
    )
    return _moved(status, fact, **_in_doubt(others))


_NO_DOUBT: dict[str, Doubt | None] = {"doubt": None, "second_doubt": None}


def _in_doubt(attempts: tuple[Doubt, ...]) -> dict[str, Doubt | None]:
    """The members of a status for these attempts in doubt."""
    if not attempts:
        return _NO_DOUBT
    first, second, *_ = (*attempts, None, None)
    return {"doubt": first, "second_doubt": second}


def _moved(status: EmailStatus, fact: Fact, **changes: Any) -> EmailStatus:
    """The status with this fact; a final one waits for nothing any more."""
    after = with_fact(status, fact, **changes)
    return structs.replace(after, due_at=None, held_at=None) if after.final else after


def noted_control(
    status: EmailStatus, *, control: int, what: str, why: str | None, by: str, at: datetime
) -> EmailStatus:
    """A control record that was decided without a claim: refused, or an order to resend."""
    fact = Fact(at=at, what=what, detail=why, by=_cut(by, NAME_IN_STATUS) or None, control=control)
    return with_fact(status, fact, control=max(status.control, control))


def happened(status: EmailStatus, event: ProviderEvent) -> EmailStatus:
    """What an event of the provider means. The same status comes back when it is known already."""
    key = _cut(event.dedupe, NAME_IN_STATUS) or None
    if key and any(fact.key == key for fact in status.timeline):
        return status
    kind = "blocked" if event.event == "bounce" and event.detail.get("type") == "blocked" else event.event
    # a cc's or bcc's event is a fact; so is one of another attempt's mail, which proves that mailing all the same
    moves_to = EVENT_STATUS.get(kind) if event.is_recipient else None
    if moves_to is None and status.status not in ACCEPTED:
        moves_to = Status.SENT
    if kind in COUNTED:
        status = _forget_middle(status, kind)
    what = _cut(kind, NAME_IN_STATUS) if moves_to is None or EVENT_STATUS.get(kind) is not moves_to else None
    if moves_to is not None and (moves_to is status.status or rank_of(moves_to, status.attempt) < status.rank):
        moves_to, what = None, _cut(kind, NAME_IN_STATUS)  # a repeat of what is known, or late: a fact, and no step
    said = event.detail.get("reason") or event.detail.get("response")
    fact = Fact(
        at=event.at if event.at.tzinfo else event.at.replace(tzinfo=UTC),
        status=moves_to,
        what=what,
        detail=_cut(said, LONGEST_TEXT) if isinstance(said, str) else None,
        key=key,
    )
    provider = status.provider
    if event.message_id and not (provider and provider.message_id):
        provider = Provider(_cut(event.message_id, NAME_IN_STATUS), provider.code if provider else None, None)
    after = _moved(status, fact, provider=provider)
    # retention counts from the newest change: a wrong time of the provider must not let the email be forgotten
    return structs.replace(after, updated_at=max(status.updated_at, fact.at))


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


def _cut(text: str | None, characters: int) -> str | None:
    return text if text is None else text[:characters]
