"""A record of another service to a domain event: CloudEvents 1.0, structured and binary, and plain JSON.

Read by our own few lines and not by the cloudevents package: it draws a random id where one is missing (the same
event read twice would be two mails), takes the present for a missing time (nothing would ever be too old), hands on
data that is not JSON as text, and needs 12 µs where this needs 3. Tests hold what it writes against what this reads.
"""

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from mailstream.domain.record import Record
from streams.triggers.rule_schema import TopicRule

CE_PREFIX = "ce_"
STRUCTURED = "application/cloudevents"
#: The type of an event whose topic does not tell kinds apart; as a type in a rule it matches all.
ANY_TYPE = "*"
REQUIRED = ("specversion", "id", "source", "type")
MAX_ATTRIBUTE_CHARACTERS = 1024
#: Epoch numbers above this are milliseconds: as seconds they would be after the year 5000.
_MILLISECONDS_FROM = 100_000_000_000


#: The content of a record that needs no schema to be read.
AS_JSON: Final = object()


class BadEvent(Exception):
    """A record that is not a domain event. The text names the place, never a value."""


@dataclass(frozen=True, slots=True)
class Received(Record):
    """A record as it stands in a topic of another service. The names of its headers are in lower case."""

    name: str  #: of the topic in the rules, without our prefix
    content: Any = AS_JSON  #: what a schema made of the value (Avro, Protobuf); else the value is JSON

    def json(self) -> Any:
        """The content as a JSON value. Raises BadEvent."""
        return _json(self.value or b"") if self.content is AS_JSON else self.content


def as_event(record: Record, name: str) -> Received:
    """A record of the topic that the rules call ``name``."""
    # in lower case: a client of HTTP habits may have written them otherwise
    headers = {name.lower(): value or b"" for name, value in record.headers.items()}
    return Received(
        record.topic, record.partition, record.offset, record.timestamp_ms, record.key, record.value, headers, name
    )


@dataclass(frozen=True, slots=True)
class DomainEvent:
    """What happened, as rules see it: expressions are asked of ``document``."""

    topic: str
    source: str
    id: str
    type: str
    at: datetime  #: its own time, or the record's when it has none
    oldest_at: datetime  #: the older of its own time and the record's: a late record may carry a new time, and the other way round
    document: Mapping[str, Any]  #: the attributes of the event, and its content under ``data``


def type_in_headers(received: Received) -> str | None:
    """The type of a binary CloudEvent, known before its value is read."""
    kind = received.headers.get("ce_type")
    return None if kind is None else kind.decode("utf-8", "replace")


def read(received: Received, form: TopicRule) -> DomainEvent | None:
    """The event in a record; None for a null value, which only deletes in the topic of its owner.

    ``form`` says where plain JSON of this topic has id, type and time.
    Raises BadEvent, or Unanswered when an expression of the form does not fit.
    """
    content_type = received.headers.get("content-type", b"").decode("latin-1").strip().lower()
    is_structured = content_type.startswith(STRUCTURED)
    if not is_structured and any(name.startswith(CE_PREFIX) for name in received.headers):
        return _binary(received, content_type)
    if received.value is None:
        return None
    if is_structured and not content_type.startswith(f"{STRUCTURED}+json"):
        raise BadEvent("a structured CloudEvent must be application/cloudevents+json")
    value = received.json()
    if is_structured or (isinstance(value, dict) and "specversion" in value):
        return _structured(received, value)
    return _plain(received, value, form)


def _structured(received: Received, value: Any) -> DomainEvent:
    if not isinstance(value, dict):
        raise BadEvent("a structured CloudEvent must be an object")
    attributes = {name: found for name, found in value.items() if name not in ("data", "data_base64")}
    if "data_base64" in value:
        try:
            raw = base64.b64decode(value["data_base64"], validate=True)
        except (binascii.Error, TypeError, ValueError):
            raise BadEvent("data_base64 is not valid base64") from None
        data = _content(raw, attributes.get("datacontenttype"))
    else:
        data = value.get("data")
    return _event(received, attributes, data)


def _binary(received: Received, content_type: str) -> DomainEvent:
    try:
        attributes: dict[str, Any] = {
            name.removeprefix(CE_PREFIX): found.decode()
            for name, found in received.headers.items()
            if name.startswith(CE_PREFIX)
        }
    except UnicodeDecodeError:
        raise BadEvent("a ce_ header is not text in UTF-8") from None
    if received.content is not AS_JSON:
        data = received.content
    else:
        data = _content(received.value, content_type) if received.value else None
    return _event(received, attributes, data)


def _event(received: Received, attributes: dict[str, Any], data: Any) -> DomainEvent:
    for name in REQUIRED:
        found = attributes.get(name)
        if not isinstance(found, str) or not found:
            raise BadEvent(f"the attribute {name} is missing or no text")
        if len(found) > MAX_ATTRIBUTE_CHARACTERS or not found.isprintable():
            raise BadEvent(f"the attribute {name} is too long or has control characters")
    if attributes["specversion"] != "1.0":
        raise BadEvent("only CloudEvents 1.0 is understood")
    recorded_at = datetime.fromtimestamp(received.timestamp_ms / 1000, UTC)
    at = recorded_at if attributes.get("time") is None else _moment(attributes["time"])
    return DomainEvent(
        topic=received.name,
        source=attributes["source"],
        id=attributes["id"],
        type=attributes["type"],
        at=at,
        oldest_at=min(at, recorded_at),
        document={**attributes, "data": data},
    )


def _plain(received: Received, value: Any, form: TopicRule) -> DomainEvent:
    identity: Any = f"{received.partition}/{received.offset}"
    if form.id is not None:
        identity = form.id.of(value)
        if isinstance(identity, int) and not isinstance(identity, bool):
            identity = str(identity)
    attributes = {
        "specversion": "1.0",
        "id": identity,
        "source": received.name,
        "type": ANY_TYPE if form.type is None else form.type.of(value),
        "time": form.time.of(value) if form.time else None,
    }
    return _event(received, attributes, value)


def _content(raw: bytes, content_type: Any) -> Any:
    kind = str(content_type or "application/json").partition(";")[0].strip()
    if kind.endswith(("/json", "+json")):
        return _json(raw)
    raise BadEvent("the content of the event is not JSON by its content type")


def _json(raw: bytes) -> Any:
    try:
        return msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise BadEvent("the bytes are not JSON in UTF-8, or nested too deep") from None


def _moment(time: Any) -> datetime:
    try:
        if isinstance(time, int | float) and not isinstance(time, bool):
            return datetime.fromtimestamp(time / 1000 if time >= _MILLISECONDS_FROM else time, UTC)
        found = msgspec.convert(time, datetime)
    except (msgspec.ValidationError, ValueError, OverflowError, OSError):
        raise BadEvent("the time of the event cannot be read; RFC 3339 is expected") from None
    if found.tzinfo is None:
        raise BadEvent("the time of the event has no offset; RFC 3339 asks for one")
    return found
