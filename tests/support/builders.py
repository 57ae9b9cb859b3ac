"""Emails, records and facts for tests: each builder names what matters to the test and fills in the rest."""

from datetime import UTC, datetime, timedelta
from typing import Any

from msgspec import Struct, structs

from mailstream.domain import codec, email_id
from mailstream.domain.attempt import (
    ClaimRecord,
    HeldRecord,
    Instead,
    Outcome,
    OutcomeRecord,
    ReleasedRecord,
)
from mailstream.domain.event import ProviderEvent
from mailstream.domain.recipient import partition_of, recipient_hash
from mailstream.domain.record import Record
from mailstream.domain.request import Address, Control, ControlKind, EmailRequest, Lane, OnAmbiguous
from mailstream.domain.status import Coordinates, EmailStatus, Status, is_final, rank_of
from streams.core import fold
from streams.core.waiting import Waiting

ADA = "ada@example.com"
HASH = recipient_hash(ADA)
ID = f"em_{HASH:08x}_1"
PARTITIONS = 4
#: The partition of everything about Ada.
HOME = partition_of(HASH, PARTITIONS)
NOW = datetime(2026, 12, 1, 9, tzinfo=UTC)


def later(seconds: float) -> datetime:
    """That many seconds after ``NOW``."""
    return NOW + timedelta(seconds=seconds)


def a_request(to: str = ADA, **members: Any) -> EmailRequest:
    """A request that can be taken."""
    return EmailRequest(**{"to": Address(to), "subject": "Hello", "text": "Your order has left."} | members)


def a_control(kind: ControlKind = ControlKind.CANCEL, **members: Any) -> Control:
    """A word about Ada's email."""
    return Control(kind=kind, **{"id": ID} | members)


def a_record(
    value: bytes | Struct | None = None,
    *,
    partition: int = HOME,
    offset: int = 7,
    age_seconds: float = 0.0,
    key: bytes | None = ADA.encode(),
    **headers: bytes,
) -> Record:
    """A record of ``email.requested`` as it came; without a value it is a request of Ada's.

    ``mailstream_…`` is a header of ours, ``mailstream-…``; other names stand as they are.
    """
    if value is None:
        value = a_request()
    return Record(
        topic="email.requested",
        partition=partition,
        offset=offset,
        timestamp_ms=int((NOW.timestamp() - age_seconds) * 1000),
        key=key,
        value=value if isinstance(value, bytes) else codec.encode(value),
        headers={name.replace("mailstream_", "mailstream-"): content for name, content in headers.items()},
    )


def a_status(
    status: Status = Status.QUEUED, attempt: int = 0, *, request: EmailRequest | None = None, **members: Any
) -> EmailStatus:
    """Where Ada's email stands; from the first attempt on the winner's nonce is ``n<attempt>``."""
    queued = fold.queued(
        request or a_request(),
        email_id=ID,
        recipient=f"{HASH:08x}",
        place=Coordinates(HOME, 7),
        at=NOW,
        on_ambiguous=OnAmbiguous.HOLD,
        writer="worker/1",
    )
    known: dict[str, Any] = {
        "status": status,
        "final": is_final(status),
        "rank": rank_of(status, attempt),
        "attempt": attempt,
        "nonce": f"n{attempt}" if attempt else None,
    }
    return structs.replace(queued, **known | members)


def _about(attempt: int, nonce: str | None, at_seconds: float) -> dict[str, Any]:
    return {
        "id": ID,
        "attempt": attempt,
        "nonce": nonce or f"n{attempt}",
        "worker": "worker/1",
        "at": later(at_seconds),
    }


def a_claim(
    attempt: int = 1,
    nonce: str | None = None,
    *,
    at_seconds: float = 1.0,
    instead: Instead | None = None,
    **members: Any,
) -> ClaimRecord:
    """A claim; without a nonce it is the one that ``a_status`` knows as the winner."""
    return ClaimRecord(**_about(attempt, nonce, at_seconds), instead=instead, **members)


def an_outcome(
    result: Outcome = Outcome.ACCEPTED,
    attempt: int = 1,
    nonce: str | None = None,
    *,
    at_seconds: float = 2.0,
    **members: Any,
) -> OutcomeRecord:
    """What a call proved."""
    return OutcomeRecord(**_about(attempt, nonce, at_seconds), result=result, **members)


def a_release(attempt: int = 1, nonce: str | None = None, *, at_seconds: float = 3.0) -> ReleasedRecord:
    """Claimed, not called."""
    return ReleasedRecord(**_about(attempt, nonce, at_seconds))


def a_hold(attempt: int = 1, nonce: str | None = None, *, at_seconds: float = 4.0) -> HeldRecord:
    """The outcome of the attempt cannot be known."""
    return HeldRecord(**_about(attempt, nonce, at_seconds))


def an_event(event: str = "delivered", *, at_seconds: float = 5.0, **members: Any) -> ProviderEvent:
    """A fact from the provider; its dedupe key is its name and time."""
    return ProviderEvent(event=event, at=later(at_seconds), **{"id": ID, "dedupe": f"{event}@{at_seconds}"} | members)


def an_email(
    id_: str = ID,
    *,
    recipient: int = HASH,
    lane: Lane = Lane.NORMAL,
    created: float = 0.0,
    order: int | None = None,
    due_in_seconds: float = 0.0,
    expires_in_seconds: float | None = None,
    partition: int = HOME,
) -> Waiting:
    """An email that waits in the schedule, on a clock that begins at 0; without an order it stands where its stamp says."""
    place = int(created) if order is None else order
    return Waiting(id_, partition, recipient, lane, created, place, due_in_seconds, expires_in_seconds)


def an_id_for(recipient: str, unique: str = "1") -> str:
    """A well-formed id of this recipient."""
    return f"em_{email_id.hash_in(email_id.derived('', '', unique, recipient)):08x}_{unique}"
