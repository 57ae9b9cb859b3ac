"""The recipient that a request names, and its id: its own, or one that follows from its key or its place in the log."""

from typing import NamedTuple

from mailstream.domain import email_id
from mailstream.domain.dead_letter import Reason
from mailstream.domain.errors import BadAddress
from mailstream.domain.recipient import canonical, recipient_hash
from mailstream.domain.record import Record
from mailstream.domain.request import EmailRequest
from streams.core.faults import Fault


class Named(NamedTuple):
    """Who a request goes to, and the id that it has or is given."""

    id: str
    recipient: str  #: canonical
    hash: int


def name_of(received: Record, request: EmailRequest, item: int | None = None) -> Named | Fault:
    """The recipient and the id of a request, or why it can have none. ``item``: its place in a batch."""
    try:
        recipient = canonical(request.to.email)
    except BadAddress as error:
        return Reason.BAD_ADDRESS, str(error)
    hash_ = recipient_hash(recipient)
    if request.id is None:
        return Named(_id_of(received, request, recipient, item), recipient, hash_)
    if not email_id.is_email_id(request.id) or email_id.hash_in(request.id) != hash_:
        return Reason.BAD_ID, "the id is malformed, or not of this recipient"
    return Named(request.id, recipient, hash_)


def _id_of(received: Record, request: EmailRequest, recipient: str, item: int | None) -> str:
    if request.idempotency_key is not None:
        return email_id.derived(request.tenant, request.source, request.idempotency_key, recipient)
    mark = "" if item is None else f"/{item}"
    source, event = received.headers.get("ce_source"), received.headers.get("ce_id")
    if source and event:
        key = event.decode("utf-8", "replace") + mark
        return email_id.derived(request.tenant, source.decode("utf-8", "replace"), key, recipient)
    return email_id.of_place(received.topic + mark, received.partition, received.offset, recipient)
