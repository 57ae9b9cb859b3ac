"""Where an email stands: the record of ``email.status``, the rank table, and the only merge.

A rank is one integer, ``band · 10^12 + attempt · 10 + step``; the higher wins, so any order of the same facts
gives one status. In band 2 the attempt counts 0.
"""

import hashlib
from datetime import datetime
from enum import StrEnum

from msgspec import Struct, structs

from mailstream.domain.recipient import canonical
from mailstream.domain.request import Coordinates as Coordinates
from mailstream.domain.request import EmailRequest, InBatch, Lane, OnAmbiguous

BAND = 10**12
#: A timeline keeps its first 10 and last 40 entries, and a count of what was between them.
TIMELINE_HEAD, TIMELINE_TAIL = 10, 40


class Status(StrEnum):
    """Where an email stands."""

    QUEUED = "QUEUED"  #: waits for its turn or its send_at
    PROCESSING = "PROCESSING"  #: claimed; the call is about to start or under way
    HELD = "HELD"  #: the outcome of a call is unknown; only evidence ends it
    RETRYING = "RETRYING"  #: proven not accepted; the next attempt is due at a shown time
    UNCONFIRMED = "UNCONFIRMED"  #: was held, and no evidence came in time
    CANCELLED = "CANCELLED"  #: withdrawn; nothing was sent and nothing will be
    EXPIRED = "EXPIRED"  #: its expires_at passed before its turn came; not sent
    SUPPRESSED = "SUPPRESSED"  #: the recipient gets no mail; not sent
    FAILED = "FAILED"  #: refused for good, or all retries used
    REJECTED = "REJECTED"  #: a record that we cannot take
    SENT = "SENT"  #: the provider accepted it
    DEFERRED = "DEFERRED"  #: the receiving server asked the provider to try later
    DROPPED = "DROPPED"  #: the provider dropped it after accepting it
    BLOCKED = "BLOCKED"  #: the receiving server refuses it for now
    DELIVERED = "DELIVERED"  #: the receiving server took it
    BOUNCED = "BOUNCED"  #: the receiving server refused it for good


#: (band, step) of each status. Band 0 waits, band 1 ended without proof of acceptance, band 2 was accepted.
_PLACE: dict[Status, tuple[int, int]] = {
    Status.PROCESSING: (0, 1),
    Status.HELD: (0, 2),
    Status.RETRYING: (0, 3),
    Status.QUEUED: (0, 4),
    Status.UNCONFIRMED: (1, 1),
    Status.CANCELLED: (1, 2),
    Status.EXPIRED: (1, 3),
    Status.SUPPRESSED: (1, 4),
    Status.FAILED: (1, 5),
    Status.REJECTED: (1, 6),
    Status.SENT: (2, 0),
    Status.DEFERRED: (2, 1),
    Status.DROPPED: (2, 2),
    Status.BLOCKED: (2, 3),
    Status.DELIVERED: (2, 4),
    Status.BOUNCED: (2, 5),
}

#: Statuses in which mailstream still has something to do.
LIVE = frozenset(status for status, (band, _) in _PLACE.items() if band == 0)
#: Statuses of an email that the provider took.
ACCEPTED = frozenset(status for status, (band, _) in _PLACE.items() if band == 2)


def rank_of(status: Status, attempt: int) -> int:
    """The rank of a status reached at this attempt (0 before the first)."""
    band, step = _PLACE[status]
    return band * BAND + (0 if band == 2 else attempt * 10) + step


def is_final(status: Status) -> bool:
    """Whether mailstream has done its part: all but QUEUED, PROCESSING, HELD, RETRYING."""
    return status not in LIVE


class Fact(Struct, frozen=True, omit_defaults=True):
    """One entry of a timeline: what happened, when, and what it meant."""

    at: datetime
    status: Status | None = None  #: None: a fact that changes no status
    what: str | None = None  #: its name, when it is no change of status: cancel_refused, open, late_release, …
    detail: str | None = None
    attempt: int = 0
    by: str | None = None
    control: int | None = None  #: offset of the control record that this decides
    key: str | None = None  #: the dedupe key of a provider event


class Provider(Struct, frozen=True, omit_defaults=True):
    """What the provider said last."""

    message_id: str | None = None
    code: int | None = None
    reason: str | None = None


class Doubt(Struct, frozen=True):
    """An attempt whose outcome is unknown and that another one followed."""

    attempt: int
    nonce: str


class EmailStatus(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """``email.status`` v1: the latest status of one email, with its timeline; no body, no address.

    ``writer`` stands first, so that a worker knows its own records without decoding them.
    """

    writer: str  #: worker id and boot of who wrote it
    id: str
    tenant: str
    recipient: str  #: the recipient hash, 8 hex digits
    to_masked: str
    status: Status
    final: bool
    rank: int
    attempt: int = 0  #: the newest attempt that was claimed
    nonce: str | None = None  #: of its winner
    answered: int = 0  #: the newest attempt whose outcome is known, so that it counts once however often it is read
    possible_duplicate: bool = False
    fingerprint: str | None = None
    reference: str | None = None
    tags: tuple[str, ...] = ()
    lane: Lane = Lane.NORMAL
    batch: InBatch | None = None  #: under whose Idempotency-Key it was asked for
    request: Coordinates | None = None  #: where its body can be read
    request_at: datetime | None = None  #: the broker's time of that record, when it is a carried copy
    order: int = 0  #: first offset of the request: the order among the emails of one recipient
    provider: Provider | None = None
    created_at: datetime
    updated_at: datetime
    due_at: datetime | None = None  #: send_at, or when the next attempt is due
    expires_at: datetime | None = None
    on_ambiguous: OnAmbiguous = OnAmbiguous.HOLD
    held_at: datetime | None = None
    retries_used: int = 0
    control: int = -1  #: highest decided control record
    doubt: Doubt | None = None
    second_doubt: Doubt | None = None  #: the marked resend, when its outcome is unknown as well
    test: bool = False
    cap_group: str | None = None  #: the emails that one frequency cap counts together
    digest_group: str | None = None  #: the emails that may become one digest
    digested_into: str | None = None  #: the email whose mail tells this one's event
    timeline: tuple[Fact, ...] = ()
    timeline_dropped: int = 0  #: how many entries between the first 10 and the last 40 were left out


def queued(
    request: EmailRequest,
    *,
    email_id: str,
    recipient: str,
    place: Coordinates,
    at: datetime,
    writer: str,
    on_ambiguous: OnAmbiguous = OnAmbiguous.HOLD,
    due_at: datetime | None = None,
) -> EmailStatus:
    """The first status of an email: accepted, waiting. ``at`` is the broker's time of the record.

    The worker writes it; until then the API shows what it will be. ``on_ambiguous``: where the request says nothing.
    ``due_at``: when its digest closes; without one the request's own ``send_at`` counts.
    """
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
        batch=request.batch,
        request=place,
        order=place.offset,
        created_at=at,
        updated_at=at,
        due_at=due_at or request.send_at,
        expires_at=request.expires_at,
        on_ambiguous=request.on_ambiguous or on_ambiguous,
        test=request.test,
        cap_group=group_of(request, request.cap.key) if request.cap else None,
        digest_group=group_of(request, request.digest.key) if request.digest else None,
        timeline=(Fact(at=at, status=Status.QUEUED),),
    )


def group_of(request: EmailRequest, key: str) -> str:
    """The group that a key means for a request's tenant and recipient: 32 hex digits that do not reveal the address.

    Not the recipient hash, which strangers may share: a digest would show one what happened to the other.
    """
    parts = (request.tenant, canonical(request.to.email), key)
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]


def order_of_merge(status: EmailStatus) -> tuple[int, int, int]:
    """What decides between two records of one email: rank, then request offset, then decided control."""
    return status.rank, status.request.offset if status.request else -1, status.control


def merge(known: EmailStatus | None, other: EmailStatus) -> EmailStatus:
    """The one of two records of the same email that stands: never the lower one, even if it came last."""
    if known is None or order_of_merge(other) >= order_of_merge(known):
        return other
    return known


def with_fact(status: EmailStatus, fact: Fact, /, **changes: object) -> EmailStatus:
    """The status with one more fact on its timeline and these members changed.

    A fact with a status moves the email there unless that would lower its rank: then it is kept on the timeline only.
    ``attempt`` in ``changes`` counts for the rank.
    """
    attempt = changes.get("attempt", status.attempt)
    assert isinstance(attempt, int)
    moved: dict[str, object] = {}
    if fact.status is not None:
        rank = rank_of(fact.status, attempt)
        if rank >= status.rank:
            moved = {"status": fact.status, "rank": rank, "final": is_final(fact.status)}
        else:  # a timeline shows as a status only what the email really was
            fact = structs.replace(fact, status=None, what=fact.what or f"late_{fact.status.lower()}")
    timeline, dropped = _shortened((*status.timeline, fact), status.timeline_dropped)
    return structs.replace(status, timeline=timeline, timeline_dropped=dropped, updated_at=fact.at, **(changes | moved))


def _shortened(timeline: tuple[Fact, ...], dropped: int) -> tuple[tuple[Fact, ...], int]:
    if len(timeline) <= TIMELINE_HEAD + TIMELINE_TAIL:
        return timeline, dropped
    surplus = len(timeline) - TIMELINE_HEAD - TIMELINE_TAIL
    return timeline[:TIMELINE_HEAD] + timeline[TIMELINE_HEAD + surplus :], dropped + surplus


def masked(address: str) -> str:
    """An address that only its owner recognises: ``a***@e***.com``."""
    local, _, domain = address.rpartition("@")
    name, _, top = domain.rpartition(".")
    return f"{local[:1]}***@{name[:1]}***.{top}"
