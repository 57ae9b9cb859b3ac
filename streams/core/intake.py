"""A record of ``email.requested``: new, known, astray, a control, or not to be taken.

``read`` looks at the record alone; ``settle`` adds what is known of its id. Neither raises.
"""

from dataclasses import dataclass
from datetime import UTC
from typing import NamedTuple

from msgspec import structs

from mailstream.clock import moment
from mailstream.domain import codec, email_id
from mailstream.domain.dead_letter import DeadLetter, Reason
from mailstream.domain.errors import BadAddress
from mailstream.domain.recipient import canonical, partition_of, recipient_hash
from mailstream.domain.record import Record
from mailstream.domain.request import Batch, Control, Coordinates, EmailRequest, InBatch
from mailstream.domain.status import EmailStatus, Status
from mailstream.domain.validation import NAME_IN_STATUS, fingerprint_of
from streams.core import faults
from streams.core.faults import Fault
from streams.core.unfold import Item, Unfold, refusal_in


@dataclass(frozen=True, slots=True)
class Rules:
    """What the settings say about intake."""

    partitions: int
    max_age_seconds: float
    senders: frozenset[str]  #: canonical addresses, or @domain


@dataclass(frozen=True, slots=True)
class ParsedRequest:
    """An email that is asked for, in its right partition, with its id."""

    received: Record
    request: EmailRequest
    id: str
    recipient: int  #: hash
    fault: Fault | None = None  #: why it cannot be taken if it is new
    is_carried: bool = False


@dataclass(frozen=True, slots=True)
class Controlled:
    """A word about an email that was asked for before."""

    received: Record
    control: Control


@dataclass(frozen=True, slots=True)
class Misrouted:
    """A record in the wrong partition: to be published again, once, in this one."""

    partition: int
    key: bytes
    value: bytes


@dataclass(frozen=True, slots=True)
class Rejected:
    """A record that we cannot take; the other members are of the email that it asks for, where they can be read."""

    dead_letter: DeadLetter
    id: str | None = None
    tenant: str = ""
    reference: str | None = None
    batch: InBatch | None = None


@dataclass(frozen=True, slots=True)
class Ignored:
    """Nothing to do, and nothing lost: a null value."""


Ruling = ParsedRequest | Controlled | Unfold | Misrouted | Rejected | Ignored


def read(received: Record, rules: Rules, now: float) -> Ruling:
    """What the record is, from itself alone. ``now``: seconds since 1970."""
    value = received.value
    if value is None:
        return Ignored()
    headers = received.headers
    is_copy = not headers.keys().isdisjoint(_OF_COPIES)
    if too_large := faults.of_size(value, received.key, headers, is_copy=is_copy):
        return _unreadable(received, too_large, rules)
    if (headers.get(codec.RECORD_HEADER) or _RECORD) != _RECORD:
        fault = Reason.UNKNOWN_KIND, "the record names a version that this worker does not know"
        return _unreadable(received, fault, rules)
    try:
        record = codec.decode_requested(value)
    except codec.Undecodable as error:
        return _unreadable(received, (error.reason, error.detail), rules)
    match record:
        case EmailRequest():
            return _read_request(received, record, value, rules, now)
        case Control():
            return _read_control(received, record, value, rules, now)
        case Batch():
            return _read_batch(received, record, rules, now)


_RECORD = b"email.requested.v1"
_OF_COPIES = frozenset({codec.CARRIED_HEADER, codec.REKEYED_HEADER, codec.UNFOLDED_HEADER})


def _unreadable(received: Record, fault: Fault, rules: Rules) -> Rejected | Unfold:
    """What cannot be read as a whole may still say whose it is."""
    assert received.value is not None
    fault = refusal_in(received.headers) or fault
    if codec.REFUSED_HEADER not in received.headers and (torn := codec.items_in(received.value)):
        return _refused(received, [_torn(received, item, rules) for item in torn], fault)
    id_, tenant = codec.named_in(received.value)
    return rejected(received, fault, id_, tenant)


class Named(NamedTuple):
    """Who a request goes to, and the id that it has or is given."""

    id: str
    recipient: str  #: canonical
    hash: int


def _read_request(received: Record, request: EmailRequest, value: bytes, rules: Rules, now: float) -> Ruling:
    named = name_of(received, request)
    if not isinstance(named, Named):
        id_ = request.id if named[0] is not Reason.BAD_ID else None
        return rejected(received, named, id_, request.tenant, request)
    partition = partition_of(named.hash, rules.partitions)
    too_deep = faults.of_depth(request)
    if partition != received.partition and not (too_deep and request.id is None):
        # with an id the bytes go as they came: a newer producer's members are not ours to drop
        moved = value if request.id is not None else codec.encode(structs.replace(request, id=named.id))
        return _astray(received, partition, named.recipient, moved)
    if too_deep is not None:
        return rejected(received, too_deep, named.id, request.tenant, request)
    is_carried = codec.CARRIED_HEADER in received.headers
    if request.fingerprint is None:
        request = structs.replace(request, fingerprint=fingerprint_of(request))
    fault = refusal_in(received.headers) or _fault_of(received, request, rules, now, is_carried=is_carried)
    return ParsedRequest(received, request, named.id, named.hash, fault, is_carried)


def _read_control(received: Record, control: Control, value: bytes, rules: Rules, now: float) -> Ruling:
    if not email_id.is_email_id(control.id):
        return rejected(received, (Reason.BAD_ID, "the control record names no email id"))
    if (fault := faults.of_control(control, now)) is not None:
        return rejected(received, fault)
    partition = email_id.partition_in(control.id, rules.partitions)
    if partition != received.partition:
        return _astray(received, partition, control.id, value)
    return Controlled(received, faults.shortened(control))


def _read_batch(received: Record, batch: Batch, rules: Rules, now: float) -> Rejected | Unfold:
    """All items or none. Their ids follow from the batch's place, so that reading it again names them again."""
    if (refusal := refusal_in(received.headers)) is not None:
        return rejected(received, refusal)
    mark = InBatch(batch.id, batch.fingerprint) if batch.fingerprint is not None else None
    found = [_read_item(received, item, index, mark, rules, now) for index, item in enumerate(batch.items)]
    fault = next(((fault[0], f"item {index}: {fault[1]}") for index, (_, fault) in enumerate(found) if fault), None)
    if fault is None:
        return Unfold(
            Coordinates(received.partition, received.offset), tuple(item for item, _ in found if item is not None)
        )
    assert received.value is not None
    torn = codec.items_in(received.value)
    items = [item or _torn(received, torn[index], rules) for index, (item, _) in enumerate(found)]
    return _refused(received, items, fault)


def _refused(received: Record, items: list[Item], fault: Fault) -> Rejected | Unfold:
    """A batch that cannot be taken: told to the callers of its items, as far as their ids can be read."""
    if not any(item.id for item in items):
        return rejected(received, fault)
    return Unfold(Coordinates(received.partition, received.offset), tuple(items), fault)


def _read_item(
    received: Record, item: EmailRequest, index: int, mark: InBatch | None, rules: Rules, now: float
) -> tuple[Item | None, Fault | None]:
    """The record of an item, where one can be made, and why it may not be taken, if so."""
    named = name_of(received, item, index)
    if not isinstance(named, Named):
        return None, named
    if (too_deep := faults.of_depth(item)) is not None:
        return None, too_deep
    written_at = item.requested_at or moment(received.timestamp_ms / 1000)
    own = structs.replace(item, id=named.id, requested_at=written_at, batch=mark)
    partition = partition_of(named.hash, rules.partitions)
    record = Item(named.id, partition, named.recipient.encode(), codec.encode(own))
    return record, _fault_of(received, own, rules, now)


def _torn(received: Record, value: bytes, rules: Rules) -> Item:
    """An item that no record can be made of: its bytes, where its email belongs, if that can be read."""
    id_, _ = codec.named_in(value)
    if id_ is None or not email_id.is_email_id(id_):
        return Item(None, received.partition, received.key, value)
    return Item(id_, email_id.partition_in(id_, rules.partitions), id_.encode(), value)


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


def _fault_of(
    received: Record, request: EmailRequest, rules: Rules, now: float, *, is_carried: bool = False
) -> Fault | None:
    born = received.timestamp_ms / 1000
    if not is_carried and (asked_at := request.requested_at) is not None:
        born = min(born, (asked_at if asked_at.tzinfo else asked_at.replace(tzinfo=UTC)).timestamp())
    return faults.of_request(request, born=born, now=now, max_age_seconds=rules.max_age_seconds, senders=rules.senders)


def _astray(received: Record, partition: int, key: str, value: bytes) -> Misrouted | Rejected:
    if codec.REKEYED_HEADER in received.headers:
        return rejected(received, (Reason.BAD_ID, "the record was moved once and is in the wrong partition again"))
    return Misrouted(partition, key.encode(), value)


@dataclass(frozen=True, slots=True)
class New:
    """An email that nothing is known of yet."""

    asked: ParsedRequest


@dataclass(frozen=True, slots=True)
class Known:
    """The same email asked again: nothing is sent."""

    id: str


@dataclass(frozen=True, slots=True)
class Carried:
    """A younger copy of a live email's record."""

    asked: ParsedRequest


#: A record with what is known of its id.
Decision = New | Known | Carried | Controlled | Unfold | Misrouted | Rejected | Ignored


def decide(asked: ParsedRequest, known: EmailStatus | None) -> New | Known | Carried | Rejected:
    """What the record means beside what is known of its id. A bad repeat never harms a good mail."""
    if known is None:
        if asked.fault is not None:
            return rejected(asked.received, asked.fault, asked.id, asked.request.tenant, asked.request)
        return New(asked)
    if known.request is not None and known.request.offset == asked.received.offset:
        return Known(asked.id)  # read again after a crash
    if codec.REFUSED_HEADER in asked.received.headers:
        return Known(asked.id)  # its batch was refused when it had been taken already
    if (conflict := _conflict(asked.request, known)) is not None:
        return rejected(asked.received, (Reason.ID_CONFLICT, conflict))
    if asked.fault is not None and not asked.is_carried and asked.fault[0] is not Reason.EVENT_TOO_OLD:
        return rejected(asked.received, asked.fault)
    return Carried(asked) if asked.is_carried else Known(asked.id)


def _conflict(request: EmailRequest, known: EmailStatus) -> str | None:
    if known.status is Status.REJECTED:
        return "the id stands for a record that was rejected; ask again under another one"
    if request.tenant != known.tenant:
        return "the id belongs to another tenant"
    if known.fingerprint is not None and request.fingerprint != known.fingerprint:
        return "the same id was asked for with other content before"
    return None


def first_record(received: Record) -> tuple[int, int]:
    """Offset and broker's time (ms since 1970) of the first record of its email: a carried copy names them."""
    order, _, at = (received.headers.get(codec.CARRIED_HEADER) or b"").partition(b"/")
    return _at_most(received.offset, order), _at_most(received.timestamp_ms, at)


def _at_most(highest: int, digits: bytes) -> int:
    """The number in a header, which any producer may have written; ``highest`` where it holds none that can be."""
    return min(highest, int(digits)) if digits.isdigit() and len(digits) < 20 else highest


def rejected(
    received: Record, fault: Fault, id_: str | None = None, tenant: str = "", asked: EmailRequest | None = None
) -> Rejected:
    """The record with why it cannot be taken, and what its email's status needs, as far as that can be read."""
    letter = DeadLetter(fault[0], fault[1][: faults.LONGEST_DETAIL], received)
    if id_ is None or not email_id.is_email_id(id_):
        return Rejected(letter)
    reference, batch = (asked.reference, asked.batch) if asked is not None else (None, None)
    most = NAME_IN_STATUS  # it may be one of these that the record is refused for
    return Rejected(
        letter,
        id_,
        tenant if len(tenant) <= most else "",
        reference if reference is not None and len(reference) <= most else None,
        batch if batch is not None and max(len(batch.id), len(batch.fingerprint)) <= most else None,
    )
