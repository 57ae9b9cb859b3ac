"""From a status record to what a caller may see of it."""

from api.keys import Key
from api.schemas import EmailAnswer, Links, ProviderAnswer, Receipt, TimelineEntry
from mailstream.status import EmailStatus, Fact


def receipt(email_id: str, reference: str | None) -> Receipt:
    """The answer to an accepted email: the same each time it is asked for."""
    self = f"/v1/emails/{email_id}"
    return Receipt(id=email_id, reference=reference, links=Links(self=self, events=f"{self}/events"))


def email(status: EmailStatus, caller: Key) -> EmailAnswer:  # noqa: ARG001  whole addresses follow with the bodies
    """Where an email stands, for this caller."""
    provider = status.provider
    return EmailAnswer(
        id=status.id,
        status=status.status,
        final=status.final,
        to=status.to_masked,
        reference=status.reference,
        tags=list(status.tags),
        lane=status.lane,
        created_at=status.created_at,
        updated_at=status.updated_at,
        send_at=None if status.final else status.due_at,
        attempts=status.attempt,
        provider=provider
        and ProviderAnswer(message_id=provider.message_id, code=provider.code, reason=provider.reason),
        possible_duplicate=status.possible_duplicate,
        test=status.test,
        timeline=[_entry(fact) for fact in status.timeline],
    )


def _entry(fact: Fact) -> TimelineEntry:
    return TimelineEntry(at=fact.at, status=fact.status, detail=fact.detail or fact.what)
