"""The logs of the claim model, read by the product itself: by ``streams.core``, as worker and audit read them."""

from functools import cache
from typing import Any

from mailstream.clock import moment
from mailstream.domain.attempt import (
    AttemptRecord,
    ClaimRecord,
    HeldRecord,
    Instead,
    Outcome,
    OutcomeRecord,
    ReleasedRecord,
)
from mailstream.domain.request import Address, EmailRequest, OnAmbiguous
from mailstream.domain.status import Coordinates, EmailStatus, Status
from streams.core import fold
from streams.core.claims import Verdict, may_claim
from tests.support.claim_rules import Kind, Log, Record, Rules, Story

EMAIL_ID = "em_1c2f9a3b_model"
_INSTEAD = {Kind.CALL: None, Kind.CANCEL: Instead.CANCELLED, Kind.GIVE_UP: Instead.UNCONFIRMED}
_RESULT = {
    Kind.ACCEPTED: Outcome.ACCEPTED,
    Kind.NOT_ACCEPTED: Outcome.NOT_ACCEPTED,
    Kind.REFUSED: Outcome.REFUSED,
    Kind.UNKNOWN: Outcome.UNKNOWN,
}
START = fold.queued(
    EmailRequest(to=Address("ada@example.com")),
    email_id=EMAIL_ID,
    recipient="1c2f9a3b",
    place=Coordinates(0, 0),
    at=moment(0),
    on_ambiguous=OnAmbiguous.HOLD,
    writer="model",
)


def record_of(record: Record, offset: int) -> AttemptRecord:
    """The record as it would stand in ``email.attempts``."""
    about: dict[str, Any] = {
        "id": EMAIL_ID,
        "attempt": record.attempt,
        "nonce": f"n{record.nonce}",
        "worker": "model",
        "at": moment(offset + 1),
    }
    match record.kind:
        case Kind.CALL | Kind.CANCEL | Kind.GIVE_UP:
            return ClaimRecord(**about, instead=_INSTEAD[record.kind], possible_duplicate=record.is_marked)
        case Kind.RELEASED:
            return ReleasedRecord(**about)
        case Kind.HELD:
            return HeldRecord(**about)
    return OutcomeRecord(**about, result=_RESULT[record.kind])


@cache
def read(log: Log) -> tuple[EmailStatus, frozenset[int]]:
    """The status by a log, and the nonces of the claims that won."""
    if not log:
        return START, frozenset()
    before, winners = read(log[:-1])
    verdict, status = fold.attempted(before, record_of(log[-1], len(log) - 1))
    return status, winners | {log[-1].nonce} if verdict is Verdict.WON else winners


@cache
def product(log: Log, rules: Rules) -> Story:
    """What the product proves by a log, and what it lets a worker begin."""
    return story_of(*read(log), rules)


def story_of(status: EmailStatus, winners: frozenset[int], rules: Rules) -> Story:
    """What the product lets a worker begin by a status."""
    is_held = status.status is Status.HELD
    return Story(
        attempt=status.attempt + 1,
        winners=winners,
        shows=status.status.value,
        may_call=may_claim(status) or (rules.resends and is_held and may_claim(status, possible_duplicate=True)),
        is_marked=is_held or status.possible_duplicate or status.doubt is not None,
        may_cancel=may_claim(status, instead=Instead.CANCELLED),
        may_give_up=is_held and may_claim(status, instead=Instead.UNCONFIRMED),
        to_hold=frozenset({int(status.nonce[1:])})
        if status.status is Status.PROCESSING and status.nonce
        else frozenset(),
    )
