"""Records to bytes and back. Bad bytes become a reason code, never an exception that could stop an agent."""

import base64
from collections.abc import Callable
from typing import Literal, TypeVar

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
#: Which record a value is, and of which version.
RECORD_HEADER = "mailstream-record"
#: On a copy that went to its right partition; it is not moved again.
REKEYED_HEADER = "mailstream-rekeyed"
#: On the record of a strict batch's item: the value is where the batch stands, partition/offset.
UNFOLDED_HEADER = "mailstream-unfolded"
#: Beside it when the batch was refused: a reason of the closed list, a space, and a sentence.
REFUSED_HEADER = "mailstream-refused"
#: On a copy of a live email whose record would have expired: offset and broker's time (ms since 1970) of the first one.
CARRIED_HEADER = "mailstream-carried"

#: The headers of each record, ready to hand to the producer: made once, the same list every time.
_HEADERS: dict[type, list[Header]] = {
    record: [CONTENT_TYPE, (RECORD_HEADER, name)]
    for name, records in (
        (b"email.requested.v1", (EmailRequest, Control, Batch)),
        (b"email.attempts.v1", (ClaimRecord, OutcomeRecord, ReleasedRecord, HeldRecord)),
        (b"email.status.v1", (EmailStatus,)),
        (b"email.events.v1", (ProviderEvent,)),
        (b"email.suppressions.v1", (Suppression,)),
    )
    for record in records
}


class _Items(msgspec.Struct):
    kind: Literal["batch"]
    items: list[msgspec.Raw]


_encoder = msgspec.json.Encoder()
_request = msgspec.json.Decoder(EmailRequest)
#: What msgspec raises for bytes that are not the record: the wrong shape, not JSON, not UTF-8, nested too deep.
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_CONTROL_KINDS = frozenset(ControlKind)


class Undecodable(Exception):
    """Bytes that are not a record of ours. ``detail`` names the place, never a value."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason, self.detail = reason, detail


def encode(record: msgspec.Struct) -> bytes:
    """The JSON value of a record."""
    return _encoder.encode(record)


def headers_of(record: msgspec.Struct | type[msgspec.Struct]) -> list[Header]:
    """The headers that go with a record, or a kind of record. Do not change the list: it is shared."""
    return _HEADERS[record if isinstance(record, type) else type(record)]


def _decoding(decoder: "msgspec.json.Decoder[Decoded]") -> Callable[[bytes], Decoded]:
    """The decoder, with errors of ours."""

    def decode(value: bytes) -> Decoded:
        try:
            return decoder.decode(value)
        except _UNREADABLE as error:
            raise _refused(error) from None

    return decode


#: Records of ``email.attempts``, ``email.status``, ``email.events`` and ``email.suppressions``. Each raises Undecodable.
decode_attempt: Callable[[bytes], AttemptRecord] = _decoding(msgspec.json.Decoder(AttemptRecord))
decode_status = _decoding(msgspec.json.Decoder(EmailStatus))
decode_event = _decoding(msgspec.json.Decoder(ProviderEvent))
decode_suppression = _decoding(msgspec.json.Decoder(Suppression))
_control = _decoding(msgspec.json.Decoder(Control))
_batch = _decoding(msgspec.json.Decoder(Batch))
_items = _decoding(msgspec.json.Decoder(_Items))
_peek = _decoding(msgspec.json.Decoder(Peek))


def decode_requested(value: bytes) -> EmailRequest | Control | Batch:
    """A record of ``email.requested``. Raises Undecodable."""
    try:
        return _request.decode(value)
    except _UNREADABLE as error:
        return _other_kind(value, error)


def _other_kind(value: bytes, error: Exception) -> Control | Batch:
    """What is not an email may be a control record or a batch; else say what is wrong with it."""
    kind = _peek(value).kind
    if kind is msgspec.UNSET:
        raise _refused(error)
    if kind in _CONTROL_KINDS:
        return _control(value)
    if kind == "batch":
        return _batch(value)
    raise Undecodable(Reason.UNKNOWN_KIND, "the record is of a kind that this version does not know")


def named_in(value: bytes) -> tuple[str | None, str]:
    """Id and tenant that a request names which cannot be taken; empty for what is not a request, or not JSON."""
    peek = decoded(_peek, value)
    if (
        peek is None or peek.kind is not msgspec.UNSET
    ):  # the id of a control or a batch stands for no request of its own
        return None, ""
    return peek.id if isinstance(peek.id, str) else None, peek.tenant if isinstance(peek.tenant, str) else ""


def items_in(value: bytes) -> list[bytes]:
    """The items of a strict batch as they came, though some of them cannot be read; none when it is not a batch."""
    batch = decoded(_items, value)
    return [bytes(item) for item in batch.items] if batch else []


def control_id(value: bytes) -> str | None:
    """The email that a control record is about; None for any other record. For looking through many of them."""
    if b'kind"' not in value and b"\\u" not in value:
        return None  # nearly all: a request names no kind
    peek = decoded(_peek, value)
    return peek.id if peek and peek.kind in _CONTROL_KINDS and isinstance(peek.id, str) else None


def event_id(value: bytes) -> str | None:
    """The email that a record of ``email.events`` is about; None where it names none or cannot be read."""
    event = decoded(decode_event, value)
    return event.id if event else None


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


def _refused(error: Exception) -> Undecodable:
    """The reason behind an error of msgspec: the wrong shape, else the bytes are not JSON at all."""
    if isinstance(error, msgspec.ValidationError):
        return Undecodable(Reason.BAD_SHAPE, _place_of(error))
    return Undecodable(Reason.NOT_JSON, "the bytes are not valid JSON in UTF-8, or nested too deep")


def _place_of(error: msgspec.ValidationError) -> str:
    """msgspec's sentence without what may be a value: it quotes values only after `Invalid value` and `Invalid enum value`."""
    text = str(error)
    for quotes in ("Invalid enum value", "Invalid value"):
        if text.startswith(quotes):
            return quotes + text[text.rfind(" - at") :]
    return text
