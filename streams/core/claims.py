"""Who won a claim, and may the next attempt be claimed (guarantees §2, amendments 3 and 13).

Everything here is decided by the order of one partition of ``email.attempts``: the same records in the same order
give every reader the same answer. A status keeps number and nonce of the newest attempt, so a late record can be
judged even when its claim lies below the checkpoint.
"""

from enum import StrEnum

from mailstream.attempt import AttemptRecord, ClaimRecord, HeldRecord, Instead, OutcomeRecord, ReleasedRecord
from mailstream.status import EmailStatus, Status


class Verdict(StrEnum):
    """What a record of the log means for its email."""

    WON = "WON"  #: the first valid claim of its attempt
    LOST = "LOST"  #: a claim that came too late, or was not allowed at its place in the log
    CLOSED = "CLOSED"  #: the winner's word about the newest attempt
    DOUBT_SETTLED = "DOUBT_SETTLED"  #: the winner's word about an attempt that was resent
    KNOWN = "KNOWN"  #: read before; the status has it already
    VOID = "VOID"  #: from somebody who has no say: ignored


#: Endings that an open attempt may not be hidden behind: each says that nothing was sent.
_NEEDS_PROOF = frozenset({Instead.CANCELLED, Instead.EXPIRED, Instead.SUPPRESSED, Instead.FAILED, Instead.RESCHEDULED})


def is_open(status: EmailStatus) -> bool:
    """Whether the newest attempt may be under way, or have been, with no proof of what came of it."""
    return status.status in (Status.PROCESSING, Status.HELD)


def may_claim(status: EmailStatus, *, instead: Instead | None = None, possible_duplicate: bool = False) -> bool:
    """Whether the next attempt may be claimed at this point of the log (K4, K8, K9).

    Behind an open attempt only two things may follow: one marked resend, and an ending that does not say "not sent".
    """
    if status.final:
        return False
    if not is_open(status):
        return True
    if instead is not None:
        return instead not in _NEEDS_PROOF
    return possible_duplicate and status.doubt is None


def judge(status: EmailStatus, record: AttemptRecord) -> Verdict:
    """What ``record``, the next one of the log about this email, means."""
    if isinstance(record, ClaimRecord):
        return _judge_claim(status, record)
    if record.attempt == status.attempt and record.nonce == status.nonce:
        return _judge_word(status, record)
    doubt = status.doubt
    if doubt and (record.attempt, record.nonce) == (doubt.attempt, doubt.nonce):
        return Verdict.VOID if isinstance(record, HeldRecord) else Verdict.DOUBT_SETTLED
    return Verdict.VOID


def _judge_claim(status: EmailStatus, claim: ClaimRecord) -> Verdict:
    if claim.attempt <= status.attempt:
        is_same = claim.nonce == status.nonce or (status.doubt is not None and claim.nonce == status.doubt.nonce)
        return Verdict.KNOWN if is_same else Verdict.LOST
    if claim.attempt > status.attempt + 1:
        return Verdict.LOST  # nobody who read the log can have written it
    is_allowed = may_claim(status, instead=claim.instead, possible_duplicate=claim.possible_duplicate)
    return Verdict.WON if is_allowed else Verdict.LOST


def _judge_word(status: EmailStatus, record: OutcomeRecord | ReleasedRecord | HeldRecord) -> Verdict:
    if isinstance(record, HeldRecord):
        return Verdict.CLOSED if status.status is Status.PROCESSING else Verdict.KNOWN
    if is_open(status):
        return Verdict.CLOSED
    if isinstance(record, OutcomeRecord) and status.final and status.nonce == record.nonce:
        return Verdict.CLOSED  # an event was faster: the outcome still brings the provider's message id
    return Verdict.KNOWN
