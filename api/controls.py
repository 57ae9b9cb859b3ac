"""Cancel and reschedule: a word in the log, and what the log makes of it."""

from datetime import datetime
from enum import Enum

from msgspec import structs

from api.problems import Code, Problem
from api.submit import Submit
from api.view.lookup import Lookup
from mailstream.domain.request import Control, ControlKind
from mailstream.domain.status import EmailStatus, Status

#: How long a caller waits for the decision.
SECONDS = 5.0
_WHY = {
    "already_final": "It has reached its final status.",
    "already_sending": "The call to the provider has begun.",
    "already_digested": "Its mail tells the events of other emails, which have ended in its favour.",
    "in_doubt": "An attempt is in doubt: it may have been sent, so nothing may say that it was not.",
}


class Decision(Enum):
    """What became of a word."""

    DONE = "done"
    UNDECIDED = "undecided"  #: no worker has read it yet; it will be decided


async def decide(lookup: Lookup, submit: Submit, status: EmailStatus, control: Control) -> tuple[Decision, EmailStatus]:
    """Ask, and wait for the decision. Raises Problem 409 when it is too late, 503 when Kafka does not take the word."""
    if control.kind is ControlKind.CANCEL and status.status is Status.CANCELLED:
        return Decision.DONE, status
    if status.final:
        raise _too_late("already_final")
    key = status.id.encode()
    if (batch := lookup.unread.batch_of(key)) is not None:  # its owner may read this before a record of its own
        control = structs.replace(control, batch=batch)
    offset = (await submit.control(control)).offset
    after = await lookup.settle(key, lambda now: now.control >= offset, seconds=SECONDS) or status
    if after.control < offset:
        return Decision.UNDECIDED, after
    # The fact of this very word says it all; a long timeline may have dropped it, then the status does.
    fact = next((fact for fact in after.timeline if fact.control == offset), None)
    if fact is not None and fact.what is not None:
        raise _too_late(fact.detail or "already_sending")
    if control.kind is ControlKind.CANCEL and after.status is not Status.CANCELLED:
        raise _too_late("in_doubt")
    return Decision.DONE, after


def cancel(status: EmailStatus, by: str, reason: str) -> Control:
    """The word that withdraws an email."""
    return Control(kind=ControlKind.CANCEL, id=status.id, by=by, reason=reason, tenant=status.tenant)


def reschedule(status: EmailStatus, by: str, send_at: datetime) -> Control:
    """The word that gives an email another time."""
    return Control(kind=ControlKind.RESCHEDULE, id=status.id, by=by, tenant=status.tenant, send_at=send_at)


def _too_late(why: str) -> Problem:
    return Problem(Code.ALREADY_SENDING, _WHY.get(why, "It is too late.") + " Nothing was changed.")
