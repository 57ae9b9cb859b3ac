"""Cancel and reschedule: a word in the log, and what the log makes of it."""

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


async def decide(lookup: Lookup, submit: Submit, status: EmailStatus, control: Control) -> tuple[bool, EmailStatus]:
    """Ask, and wait for the decision; False: no worker has read the word yet, it will be decided.

    Raises Problem 409 when it is too late, 503 when Kafka does not take the word.
    """
    if control.kind is ControlKind.CANCEL and status.status is Status.CANCELLED:
        return True, status
    if status.final:
        raise _too_late("already_final")
    key = status.id.encode()
    if (batch := lookup.unread.batch_of(key)) is not None:  # its owner may read this before a record of its own
        control = structs.replace(control, batch=batch)
    offset = (await submit.control(control)).offset
    after = await lookup.settle(key, lambda now: now.control >= offset, seconds=SECONDS) or status
    if after.control < offset:
        return False, after
    # The fact of this very word says it all; a long timeline may have dropped it, then the status does.
    fact = next((fact for fact in after.timeline if fact.control == offset), None)
    if fact is not None and fact.what is not None:
        raise _too_late(fact.detail or "already_sending")
    if control.kind is ControlKind.CANCEL and after.status is not Status.CANCELLED:
        raise _too_late("in_doubt")
    return True, after


def cancel(status: EmailStatus, by: str, reason: str) -> Control:
    """The word that withdraws an email."""
    return Control(kind=ControlKind.CANCEL, id=status.id, by=by, reason=reason, tenant=status.tenant)


def _too_late(why: str) -> Problem:
    return Problem(Code.ALREADY_SENDING, _WHY.get(why, "It is too late.") + " Nothing was changed.")
