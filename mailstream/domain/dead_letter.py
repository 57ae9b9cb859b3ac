"""A record that we cannot take, and the closed list of reasons."""

from dataclasses import dataclass
from enum import StrEnum

from mailstream.domain.record import Record
from mailstream.domain.topics import MAX_DEAD_LETTER_BYTES, MAX_ENVELOPE_BYTES


class Reason(StrEnum):
    """Why a record is a dead letter. Closed: tools may switch on it."""

    NOT_JSON = "NOT_JSON"  #: the bytes are no JSON in UTF-8, or nested too deep
    BAD_SHAPE = "BAD_SHAPE"  #: JSON, but a member is missing or of the wrong type
    BAD_VALUE = "BAD_VALUE"  #: the right shape with a value that no mail can carry
    BAD_ADDRESS = "BAD_ADDRESS"  #: no mail can go to the recipient
    BAD_ID = "BAD_ID"  #: the id is malformed, or not of this recipient
    UNKNOWN_KIND = "UNKNOWN_KIND"  #: a control record of a kind, or a record of a version, that we do not know
    UNKNOWN_ID = "UNKNOWN_ID"  #: a control record about an email that was never asked for
    ID_CONFLICT = "ID_CONFLICT"  #: a known id with other content or of another tenant
    TOO_LARGE = "TOO_LARGE"  #: more than a request may have
    SENDER_NOT_ALLOWED = "SENDER_NOT_ALLOWED"  #: the from address is not ours to use
    EVENT_TOO_OLD = "EVENT_TOO_OLD"  #: older than MAX_EVENT_AGE: may have been sent and forgotten
    TEMPLATE_FAILED = "TEMPLATE_FAILED"  #: the template does not exist, or its data does not fit
    MAPPING_FAILED = "MAPPING_FAILED"  #: a trigger rule matched, but its mapping gave no mail
    BAD_EVENT = "BAD_EVENT"  #: an element of a webhook post, or a domain event, that cannot be read


#: Beside the headers of the record itself: where it came from, by Spring's names, so that existing tools read them.
_ORIGIN, _REASON, _DETAIL, TRUNCATED = "dlt-original-", "mailstream-reason", "mailstream-detail", "mailstream-truncated"
_OURS = (_ORIGIN, _REASON, _DETAIL, TRUNCATED)


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """The record as it came, and why it was not taken.

    ``detail`` is for people and never repeats an address or a value of the record.
    """

    reason: Reason
    detail: str
    record: Record

    def key(self) -> bytes | None:
        """Its key, or the first part of a very large one."""
        return self.record.key and self.record.key[:MAX_ENVELOPE_BYTES]

    def value(self) -> bytes | None:
        """Its raw bytes, or the first part of a very large record."""
        return self.record.value and self.record.value[:MAX_DEAD_LETTER_BYTES]

    def is_truncated(self) -> bool:
        """Whether the record is too large to be kept whole beside its headers."""
        return len(self.record.value or b"") > MAX_DEAD_LETTER_BYTES

    def headers(self) -> list[tuple[str, bytes]]:
        """What is added to the headers of the record."""
        record = self.record
        headers = [
            (f"{_ORIGIN}topic", record.topic.encode()),
            (f"{_ORIGIN}partition", str(record.partition).encode()),
            (f"{_ORIGIN}offset", str(record.offset).encode()),
            (f"{_ORIGIN}timestamp", str(record.timestamp_ms).encode()),
            (_REASON, self.reason.value.encode()),
            (_DETAIL, self.detail.encode()),
        ]
        if self.is_truncated():
            headers.append((TRUNCATED, str(len(record.value or b"")).encode()))
        return headers


def dead_letter_in(record: Record) -> DeadLetter | None:
    """The dead letter that a record of ``email.rejected`` is; None for one that is not ours to understand."""
    said = {name: (value or b"").decode("utf-8", "replace") for name, value in record.headers.items()}
    own = {name: value or b"" for name, value in record.headers.items() if not name.startswith(_OURS)}
    try:
        partition, offset, at = (int(said[_ORIGIN + name]) for name in ("partition", "offset", "timestamp"))
        origin = Record(said[f"{_ORIGIN}topic"], partition, offset, at, record.key, record.value, own)
        return DeadLetter(Reason(said[_REASON]), said.get(_DETAIL, ""), origin)
    except (KeyError, ValueError):
        return None
