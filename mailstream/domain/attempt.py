"""What we did towards the provider: the records of ``email.attempts``, whose log order decides."""

from datetime import datetime
from enum import StrEnum

from msgspec import Struct


class Outcome(StrEnum):
    """What one answer of the provider proves."""

    ACCEPTED = "ACCEPTED"  #: the provider has the email; never call again
    NOT_ACCEPTED = "NOT_ACCEPTED"  #: proof that it has not; the next attempt may be claimed
    REFUSED = "REFUSED"  #: refused for good; another call would be refused too
    ACCOUNT_FAULT = "ACCOUNT_FAULT"  #: our key or sender is at fault; the worker pauses
    UNKNOWN = "UNKNOWN"  #: the provider may have it; only evidence decides


class Instead(StrEnum):
    """Endings and changes that are claimed like a call, so that no call can follow."""

    CANCELLED = "CANCELLED"
    EXPIRED = "EXPIRED"
    SUPPRESSED = "SUPPRESSED"
    FAILED = "FAILED"
    RESCHEDULED = "RESCHEDULED"
    UNCONFIRMED = "UNCONFIRMED"
    SENT = "SENT"  #: an operator's word


class _AttemptRecord(Struct, frozen=True, omit_defaults=True, kw_only=True, tag_field="kind"):
    id: str  #: the email
    attempt: int  #: counted from 1
    nonce: str  #: the mark of one claim; unique for ever
    worker: str  #: worker id and boot, as in ``email.status`` ``writer``
    at: datetime


class ClaimRecord(_AttemptRecord, frozen=True, omit_defaults=True, kw_only=True, tag="CLAIM"):
    """Intent to make an attempt, or to end the email without one. The first of an attempt in the log wins."""

    order: int | None = None  #: as in the email's status: an id that was forgotten may be asked for again
    instead: Instead | None = None
    not_before: datetime | None = None  #: RESCHEDULED: the new time
    possible_duplicate: bool = False  #: an earlier attempt is in doubt
    into: str | None = None  #: SUPPRESSED: the email whose mail tells this one's event too (a digest)
    by: str | None = None  #: who asked for the ending
    reason: str | None = None
    control: int | None = None  #: offset in ``email.requested`` of the control record that asked


class OutcomeRecord(_AttemptRecord, frozen=True, omit_defaults=True, kw_only=True, tag="OUTCOME"):
    """What the provider's answer to the winner's call proves."""

    result: Outcome
    code: int | None = None  #: HTTP status, when there was one
    message_id: str | None = None
    reason: str | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    retry_at: datetime | None = None  #: earliest claim of the next attempt, when there may be one
    counts: bool = False  #: this attempt is paid from the retry budget (a 429 is not)
    test: bool = False


class ReleasedRecord(_AttemptRecord, frozen=True, omit_defaults=True, kw_only=True, tag="RELEASED"):
    """Claimed, certainly not called. Only the winner's counts."""

    reason: str | None = None


class HeldRecord(_AttemptRecord, frozen=True, omit_defaults=True, kw_only=True, tag="HELD"):
    """The attempt's outcome cannot be known: its owner is gone, or its answer was lost."""

    reason: str | None = None


AttemptRecord = ClaimRecord | OutcomeRecord | ReleasedRecord | HeldRecord
