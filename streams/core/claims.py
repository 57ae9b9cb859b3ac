"""Who won a claim, and may the next attempt be claimed.

Everything here is decided by the order of one partition of ``email.attempts``: the same records in the same order
give every reader the same answer. A status keeps number and nonce of the newest attempt, so a late record can be
judged even when its claim lies below the checkpoint.
"""

from enum import StrEnum

from mailstream.domain.attempt import (
    AttemptRecord,
    ClaimRecord,
    HeldRecord,
    Instead,
    Outcome,
    OutcomeRecord,
    ReleasedRecord,
)
from mailstream.domain.status import Doubt, EmailStatus, Status


class Verdict(StrEnum):
    """What a record of the log means for its email."""

    WON = "WON"  #: the first valid claim of its attempt
    LOST = "LOST"  #: a claim that came too late, or was not allowed at its place in the log
    CLOSED = "CLOSED"  #: the winner's word about the newest attempt
    DOUBT_SETTLED = "DOUBT_SETTLED"  #: the winner's word about an attempt in doubt that another one followed
    KNOWN = "KNOWN"  #: read before; the status has it already
    FORMER = "FORMER"  #: a claim of a former life of the id, whose status was forgotten before it was asked for again
    VOID = "VOID"  #: from a writer who has no say: ignored


#: Endings of a doubt, without a word on whether anything was sent, or an operator's. Where proof came first they lose:
#: an email that is proven not accepted has its retries, and may not be shown as SENT. All others say "not sent".
ENDS_DOUBT = frozenset({Instead.UNCONFIRMED, Instead.SENT})

_OPEN = frozenset({Status.PROCESSING, Status.HELD})


def is_open(status: EmailStatus) -> bool:
    """Whether the newest attempt may be under way, or have been, with no proof of what came of it."""
    return status.status in _OPEN


def doubts(status: EmailStatus) -> tuple[Doubt, ...]:
    """The attempts in doubt that another one followed, oldest first: at most the first call and its marked resend."""
    if status.doubt is None and status.second_doubt is None:  # nearly always
        return ()
    return tuple(doubt for doubt in (status.doubt, status.second_doubt) if doubt is not None)


def may_claim(status: EmailStatus, *, instead: Instead | None = None, possible_duplicate: bool = False) -> bool:
    """Whether the next attempt may be claimed at this point of the log.

    Behind an open attempt only two things may follow: one marked resend, and an ending that does not say "not sent".
    """
    if status.final:
        return False
    if instead in ENDS_DOUBT:
        return is_open(status)
    if not is_open(status):
        return True
    return instead is None and possible_duplicate and status.doubt is None


def judge(status: EmailStatus, record: AttemptRecord) -> Verdict:
    """What ``record``, the next one of the log about this email, means."""
    if isinstance(record, ClaimRecord):
        return _judge_claim(status, record)
    if (record.attempt, record.nonce) == (status.attempt, status.nonce):
        return _judge_word(status, record)
    if Doubt(record.attempt, record.nonce) in doubts(status):
        is_proof = not isinstance(record, HeldRecord) and getattr(record, "result", None) is not Outcome.UNKNOWN
        return Verdict.DOUBT_SETTLED if is_proof else Verdict.VOID
    return Verdict.VOID


def _judge_claim(status: EmailStatus, claim: ClaimRecord) -> Verdict:
    # Both name the first offset of the request, which is the same for every reader of one life; no clock says that.
    # With the claim all that its writer says later is void, as that names attempt and nonce.
    if claim.order is not None and claim.order < status.order:
        return Verdict.FORMER
    if claim.attempt <= status.attempt:
        winners = {status.nonce, *(doubt.nonce for doubt in doubts(status))}
        return Verdict.KNOWN if claim.nonce in winners else Verdict.LOST
    if claim.attempt > status.attempt + 1:
        return Verdict.LOST  # a worker that read the log cannot have written it
    is_allowed = may_claim(status, instead=claim.instead, possible_duplicate=claim.possible_duplicate)
    return Verdict.WON if is_allowed else Verdict.LOST


def _judge_word(status: EmailStatus, record: OutcomeRecord | ReleasedRecord | HeldRecord) -> Verdict:
    if record.attempt <= status.answered:
        return Verdict.KNOWN
    if isinstance(record, HeldRecord):
        return Verdict.CLOSED if status.status is Status.PROCESSING else Verdict.KNOWN
    if is_open(status):
        return Verdict.CLOSED
    if isinstance(record, OutcomeRecord) and status.final:
        return Verdict.CLOSED  # an event was faster: the outcome still brings the provider's message id
    return Verdict.KNOWN
