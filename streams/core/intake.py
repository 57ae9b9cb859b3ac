"""A record of ``email.requested``: new, known, astray, a control, or not to be taken.

``read`` looks at the record alone; ``decide`` adds what is known of its id. Neither raises.
"""

from dataclasses import dataclass

from msgspec import structs

from mailstream.domain import codec, email_id
from mailstream.domain.dead_letter import Reason
from mailstream.domain.recipient import partition_of
from mailstream.domain.record import Record
from mailstream.domain.request import Batch, Control, EmailRequest
from mailstream.domain.status import EmailStatus, Status
from mailstream.domain.validation import fingerprint_of
from streams.core import faults
from streams.core.faults import Fault, Rejected, Rules, fault_of, rejected
from streams.core.named import Named, name_of
from streams.core.unfold import Unfold, read_batch, refusal_in, refused, torn_item


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
            return read_batch(received, record, rules, now)


_RECORD = b"email.requested.v1"
_OF_COPIES = frozenset({codec.CARRIED_HEADER, codec.REKEYED_HEADER, codec.UNFOLDED_HEADER})


def _unreadable(received: Record, fault: Fault, rules: Rules) -> Rejected | Unfold:
    """What cannot be read as a whole may still say whose it is."""
    assert received.value is not None
    fault = refusal_in(received.headers) or fault
    if codec.REFUSED_HEADER not in received.headers and (torn := codec.items_in(received.value)):
        return refused(received, [torn_item(received, item, rules) for item in torn], fault)
    id_, tenant = codec.named_in(received.value)
    return rejected(received, fault, id_, tenant)


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
    fault = refusal_in(received.headers) or fault_of(received, request, rules, now, is_carried=is_carried)
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
