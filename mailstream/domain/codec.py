"""Records to bytes and back. Bad bytes become a reason code, never an exception that could stop an agent."""

import base64
from collections.abc import Callable
from typing import Literal, NamedTuple, TypeVar

import msgspec

from mailstream.domain.attempt import AttemptRecord, ClaimRecord, HeldRecord, OutcomeRecord, ReleasedRecord
from mailstream.domain.dead_letter import Reason
from mailstream.domain.event import ProviderEvent
from mailstream.domain.request import Batch, Control, ControlKind, EmailRequest, Peek
from mailstream.domain.status import EmailStatus
from mailstream.domain.suppression import Suppression

Header = tuple[str, bytes]
Decoded = TypeVar("Decoded")

CONTENT_TYPE: Header = ("content-type", b"application/json")
#: Which record a value is, and of which version (contract §4).
RECORD_HEADER = "mailstream-record"
#: On a copy that went to its right partition; it is not moved again (amendment 1).
REKEYED_HEADER = "mailstream-rekeyed"
#: On the record of a strict batch's item: the value is where the batch stands, partition/offset.
UNFOLDED_HEADER = "mailstream-unfolded"
#: Beside it when the batch was refused: a reason of the closed list, a space, and a sentence.
REFUSED_HEADER = "mailstream-refused"
#: On a copy of a live email whose record would have expired: offset and broker's time (ms since 1970) of the first one.
CARRIED_HEADER = "mailstream-carried"

_NAMES: dict[type, str] = {
    EmailRequest: "email.requested",
    Control: "email.requested",
    Batch: "email.requested",
    ClaimRecord: "email.attempts",
    OutcomeRecord: "email.attempts",
    ReleasedRecord: "email.attempts",
    HeldRecord: "email.attempts",
    EmailStatus: "email.status",
    ProviderEvent: "email.events",
    Suppression: "email.suppressions",
}
#: The headers of each record, ready to hand to the producer: made once, the same list every time.
_HEADERS = {record: [CONTENT_TYPE, (RECORD_HEADER, f"{name}.v1".encode())] for record, name in _NAMES.items()}


class _Items(msgspec.Struct):
    kind: Literal["batch"]
    items: list[msgspec.Raw]


_encoder = msgspec.json.Encoder()
_request = msgspec.json.Decoder(EmailRequest)
_control = msgspec.json.Decoder(Control)
_batch = msgspec.json.Decoder(Batch)
_peek = msgspec.json.Decoder(Peek)
_items = msgspec.json.Decoder(_Items)
_attempt: "msgspec.json.Decoder[AttemptRecord]" = msgspec.json.Decoder(AttemptRecord)
_status = msgspec.json.Decoder(EmailStatus)
_event = msgspec.json.Decoder(ProviderEvent)
_suppression = msgspec.json.Decoder(Suppression)
#: What msgspec raises for bytes that are not the record: the wrong shape, no JSON, no UTF-8, nested too deep.
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_CONTROL_KINDS = frozenset(ControlKind)


class Undecodable(Exception):
    """Bytes that are no record of ours. ``detail`` names the place, never a value."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason, self.detail = reason, detail


class Named(NamedTuple):
    """Whose email a record asks for, as far as that can be read."""

    id: str | None = None
    tenant: str = ""


def encode(record: msgspec.Struct) -> bytes:
    """The JSON value of a record."""
    return _encoder.encode(record)


def headers_of(record: msgspec.Struct | type[msgspec.Struct]) -> list[Header]:
    """The headers that go with a record, or a kind of record. Do not change the list: it is shared."""
    return _HEADERS[record if isinstance(record, type) else type(record)]


def decode_requested(value: bytes) -> EmailRequest | Control | Batch:
    """A record of ``email.requested``. Raises Undecodable."""
    try:
        return _request.decode(value)
    except _UNREADABLE as error:
        return _other_kind(value, error)


def _other_kind(value: bytes, error: Exception) -> Control | Batch:
    """What is no email may be a control record or a batch; else say what is wrong with it."""
    try:
        peek = _peek.decode(value)
    except msgspec.ValidationError:
        raise Undecodable(Reason.BAD_SHAPE, "the record is JSON, but no object") from None
    except _UNREADABLE as other:
        raise _refused(other) from None
    if peek.kind is msgspec.UNSET:
        raise _refused(error)
    try:
        if peek.kind in _CONTROL_KINDS:
            return _control.decode(value)
        if peek.kind == "batch":
            return _batch.decode(value)
    except _UNREADABLE as other:
        raise _refused(other) from None
    raise Undecodable(Reason.UNKNOWN_KIND, "the record is of a kind that this version does not know")


def named_in(value: bytes) -> Named:
    """What a request that cannot be taken says of itself; nothing for what is no request, or no JSON."""
    try:
        peek = _peek.decode(value)
    except _UNREADABLE:
        return Named()
    if peek.kind is not msgspec.UNSET:  # the id of a control or a batch stands for no request of its own
        return Named()
    return Named(
        peek.id if isinstance(peek.id, str) else None,
        peek.tenant if isinstance(peek.tenant, str) else "",
    )


def items_in(value: bytes) -> list[bytes]:
    """The items of a strict batch as they came, though some of them cannot be read; none when it is no batch."""
    try:
        return [bytes(item) for item in _items.decode(value).items]
    except _UNREADABLE:
        return []


def control_id(value: bytes) -> str | None:
    """The email that a control record is about; None for any other record. For looking through many of them."""
    if b'kind"' not in value and b"\\u" not in value:
        return None  # nearly all: a request names no kind
    try:
        peek = _peek.decode(value)
    except _UNREADABLE:
        return None
    return peek.id if peek.kind in _CONTROL_KINDS and isinstance(peek.id, str) else None


def decode_attempt(value: bytes) -> AttemptRecord:
    """A record of ``email.attempts``. Raises Undecodable."""
    return _decoded(_attempt, value)


def decode_status(value: bytes) -> EmailStatus:
    """A record of ``email.status``. Raises Undecodable."""
    return _decoded(_status, value)


def decode_event(value: bytes) -> ProviderEvent:
    """A record of ``email.events``. Raises Undecodable."""
    return _decoded(_event, value)


def event_id(value: bytes) -> str | None:
    """The email that a record of ``email.events`` is about; None where it names none or cannot be read."""
    try:
        return _event.decode(value).id
    except _UNREADABLE:
        return None


def decode_suppression(value: bytes) -> Suppression:
    """A record of ``email.suppressions``. Raises Undecodable."""
    return _decoded(_suppression, value)


def readable(content: bytes | None) -> str | None:
    """Bytes as people can read them: text where it is text, else base64 behind its name."""
    if content is None:
        return None
    try:
        return content.decode()
    except UnicodeDecodeError:
        return f"base64:{base64.b64encode(content).decode()}"


def decoded(decode: Callable[[bytes], Decoded], value: bytes | None) -> Decoded | None:
    """What one of these functions makes of a value; None where there is none, or it cannot be read."""
    try:
        return decode(value or b"")
    except Undecodable:
        return None


def _decoded(decoder: "msgspec.json.Decoder[Decoded]", value: bytes) -> Decoded:
    try:
        return decoder.decode(value)
    except _UNREADABLE as error:
        raise _refused(error) from None


def _refused(error: Exception) -> Undecodable:
    """The reason behind an error of msgspec: the wrong shape, else the bytes are no JSON at all."""
    if isinstance(error, msgspec.ValidationError):
        return Undecodable(Reason.BAD_SHAPE, _place_of(error))
    return Undecodable(Reason.NOT_JSON, "the bytes are no JSON in UTF-8, or nested too deep")


def _place_of(error: msgspec.ValidationError) -> str:
    """msgspec's sentence without what may be a value: it quotes values only after `Invalid value` and `Invalid enum value`."""
    text = str(error)
    for quotes in ("Invalid enum value", "Invalid value"):
        if text.startswith(quotes):
            return quotes + text[text.rfind(" - at") :]
    return text
