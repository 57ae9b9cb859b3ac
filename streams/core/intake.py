"""A record of ``email.requested``: new, known, astray, a control, or not to be taken (design §4, amendments 1–5, 22).

``read`` looks at the record alone; ``settle`` adds what is known of its id. Neither raises.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from msgspec import structs

from mailstream import codec, email_id, topics
from mailstream.dead_letter import DeadLetter, Reason
from mailstream.errors import BadAddress
from mailstream.mistakes import fingerprint_of, mistakes_in
from mailstream.recipient import canonical, partition_of, recipient_hash
from mailstream.request import Batch, Control, EmailRequest
from mailstream.status import EmailStatus


@dataclass(frozen=True, slots=True)
class Received:
    """A record as it came, wherever it came from."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: Mapping[str, bytes]


@dataclass(frozen=True, slots=True)
class Rules:
    """What the settings say about intake."""

    partitions: int
    max_age_seconds: float
    senders: frozenset[str]  #: canonical addresses, or @domain


@dataclass(frozen=True, slots=True)
class Asked:
    """An email that somebody asks for, in its right partition, with its id."""

    received: Received
    request: EmailRequest
    id: str
    recipient: int  #: hash
    fault: tuple[Reason, str] | None = None  #: why it cannot be taken if it is new
    is_carried: bool = False


@dataclass(frozen=True, slots=True)
class Controlled:
    """A word about an email that was asked for before."""

    received: Received
    control: Control


@dataclass(frozen=True, slots=True)
class Unfold:
    """A strict batch, to be published as single records before it is acked."""

    received: Received
    batch: Batch


@dataclass(frozen=True, slots=True)
class Astray:
    """A record in the wrong partition: to be published again, once, in this one."""

    partition: int
    key: bytes
    value: bytes


@dataclass(frozen=True, slots=True)
class Rejected:
    """A record that we cannot take; ``id`` where one can be read."""

    dead_letter: DeadLetter
    id: str | None = None


@dataclass(frozen=True, slots=True)
class Ignored:
    """Nothing to do, and nothing lost: a null value."""


Ruling = Asked | Controlled | Unfold | Astray | Rejected | Ignored


def read(received: Received, rules: Rules, now: float) -> Ruling:
    """What the record is, from itself alone. ``now``: seconds since 1970."""
    value = received.value
    if value is None:
        return Ignored()
    if len(value) > topics.MAX_REQUEST_BYTES and codec.CARRIED_HEADER not in received.headers:
        allowed = topics.MAX_REQUEST_BYTES
        return _rejected(received, Reason.TOO_LARGE, f"the record has {len(value)} bytes; {allowed} are allowed")
    version = received.headers.get(codec.RECORD_HEADER, b"email.requested.v1")
    if version != b"email.requested.v1":
        return _rejected(received, Reason.UNKNOWN_KIND, "the record names a version that this worker does not know")
    try:
        record = codec.decode_requested(value)
    except codec.Undecodable as error:
        return _rejected(received, error.reason, error.detail, error.email_id)
    match record:
        case EmailRequest():
            return _read_request(received, record, rules, now)
        case Control():
            return _read_control(received, record, value, rules)
        case Batch():
            return Unfold(received, record)


def _read_request(received: Received, request: EmailRequest, rules: Rules, now: float) -> Ruling:
    try:
        recipient = canonical(request.to.email)
    except BadAddress as error:
        return _rejected(received, Reason.BAD_ADDRESS, str(error), request.id)
    hash_ = recipient_hash(recipient)
    if request.id is not None:
        if not email_id.is_email_id(request.id) or email_id.hash_in(request.id) != hash_:
            return _rejected(received, Reason.BAD_ID, "the id is malformed, or not of this recipient")
        id_ = request.id
    else:
        id_ = _id_of(received, request, recipient)
    partition = partition_of(hash_, rules.partitions)
    if partition != received.partition:
        if codec.REKEYED_HEADER in received.headers:
            return _rejected(received, Reason.BAD_ID, "the record was moved once and is in the wrong partition again")
        moved = request if request.id is not None else structs.replace(request, id=id_)
        return Astray(partition, recipient.encode(), codec.encode(moved))
    is_carried = codec.CARRIED_HEADER in received.headers
    if request.fingerprint is None:
        request = structs.replace(request, fingerprint=fingerprint_of(request))
    fault = _fault_of(received, request, rules, now, is_carried=is_carried)
    return Asked(received, request, id_, hash_, fault, is_carried)


def _read_control(received: Received, control: Control, value: bytes, rules: Rules) -> Ruling:
    if not email_id.is_email_id(control.id):
        return _rejected(received, Reason.BAD_ID, "the control record names no email id")
    partition = email_id.partition_in(control.id, rules.partitions)
    if partition != received.partition:
        if codec.REKEYED_HEADER in received.headers:
            return _rejected(received, Reason.BAD_ID, "the record was moved once and is in the wrong partition again")
        return Astray(partition, control.id.encode(), value)
    return Controlled(received, control)


def _id_of(received: Received, request: EmailRequest, recipient: str) -> str:
    if request.idempotency_key is not None:
        return email_id.derived(request.tenant, request.source, request.idempotency_key, recipient)
    source, event = received.headers.get("ce_source"), received.headers.get("ce_id")
    if source and event:
        return email_id.derived(
            request.tenant, source.decode("utf-8", "replace"), event.decode("utf-8", "replace"), recipient
        )
    return email_id.of_place(received.topic, received.partition, received.offset, recipient)


def _fault_of(
    received: Received, request: EmailRequest, rules: Rules, now: float, *, is_carried: bool
) -> tuple[Reason, str] | None:
    born = received.timestamp_ms / 1000
    if not is_carried and request.requested_at is not None:
        born = min(born, request.requested_at.timestamp())
    if now - born > rules.max_age_seconds:
        return (
            Reason.EVENT_TOO_OLD,
            f"asked for more than {rules.max_age_seconds:.0f} s ago; redrive it if it is wanted",
        )
    mistakes = mistakes_in(request, now=datetime.fromtimestamp(now, UTC))
    if mistakes:
        text = "; ".join(f"{mistake.pointer or '/'}: {mistake.detail}" for mistake in mistakes[:5])
        is_address = all(mistake.pointer.startswith("/to") for mistake in mistakes)
        return (Reason.BAD_ADDRESS if is_address else Reason.BAD_VALUE), text
    if request.from_ is not None and not may_send_as(request.from_.email, rules.senders):
        return Reason.SENDER_NOT_ALLOWED, "the from address is not among the senders of this system"
    return None


def may_send_as(address: str, senders: frozenset[str]) -> bool:
    """Whether the address may stand in ``from``: listed itself, or its domain as ``@domain`` (security.md S8)."""
    try:
        sender = canonical(address)
    except BadAddress:
        return False
    return sender in senders or f"@{sender.rpartition('@')[2]}" in senders


@dataclass(frozen=True, slots=True)
class New:
    """An email that nothing is known of yet."""

    asked: Asked


@dataclass(frozen=True, slots=True)
class Known:
    """The same email asked again: nothing is sent."""


@dataclass(frozen=True, slots=True)
class Carried:
    """A younger copy of a live email's record."""

    asked: Asked


def settle(asked: Asked, known: EmailStatus | None) -> New | Known | Carried | Rejected:
    """What the record means beside what is known of its id. A bad repeat never harms a good mail (amendment 5)."""
    if known is None:
        if asked.fault is not None:
            return _rejected(asked.received, *asked.fault, asked.id)
        return New(asked)
    if known.request is not None and known.request.offset == asked.received.offset:
        return Known()  # read again after a crash
    if asked.request.tenant != known.tenant and known.tenant:
        return _rejected(asked.received, Reason.ID_CONFLICT, "the id belongs to another tenant")
    if known.fingerprint is not None and asked.request.fingerprint != known.fingerprint:
        return _rejected(asked.received, Reason.ID_CONFLICT, "the same id was asked for with other content before")
    if asked.fault is not None and not asked.is_carried and asked.fault[0] is not Reason.EVENT_TOO_OLD:
        return _rejected(asked.received, *asked.fault)
    return Carried(asked) if asked.is_carried else Known()


def _rejected(received: Received, reason: Reason, detail: str, id_: str | None = None) -> Rejected:
    letter = DeadLetter(
        reason=reason,
        detail=detail,
        topic=received.topic,
        partition=received.partition,
        offset=received.offset,
        timestamp_ms=received.timestamp_ms,
        key=received.key,
        value=received.value,
    )
    return Rejected(letter, id_ if id_ is not None and email_id.is_email_id(id_) else None)


def with_fault(asked: Asked, reason: Reason, detail: str) -> Asked:
    """The same, found out to be impossible (a template that does not render)."""
    return replace(asked, fault=(reason, detail))
