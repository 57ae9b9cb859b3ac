"""Records that no mail can be made of, and records that only look strange: every kind that a test of intake mixes in.

Each is of one mistake, so that its reason is known. ``{id}`` in a text stands for an id of ada@example.com.
"""

import gzip
import json
from dataclasses import dataclass, field
from typing import Any

from mailstream.domain import codec, email_id
from mailstream.domain.dead_letter import Reason
from mailstream.domain.errors import BadAddress
from mailstream.domain.recipient import canonical, partition_of, recipient_hash
from mailstream.domain.topics import MAX_REQUEST_BYTES

ADA = "ada@example.com"
ID = f"em_{recipient_hash(ADA):08x}_poison"
OTHER_ID = f"em_{recipient_hash('bob@example.com'):08x}_poison"


@dataclass(frozen=True, slots=True)
class Poison:
    """A record of ``email.requested`` and what must become of it."""

    name: str  #: a few words
    value: bytes | None
    reason: Reason | None  #: None: it is taken, or for a null value counted
    key: bytes | None = ADA.encode()
    headers: dict[str, bytes] = field(default_factory=dict)
    id: str | None = None  #: the id that can be read, which must become REJECTED

    def partition(self, partitions: int) -> int:
        """Where it belongs; elsewhere it would only be moved."""
        try:
            address = json.loads(self.value or b"")["to"]["email"]
            return partition_of(recipient_hash(canonical(address)), partitions)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError, BadAddress):
            return partition_of(recipient_hash(ADA), partitions)


def good(**members: Any) -> dict[str, Any]:
    """A request that is taken; a member that is None is left out."""
    whole = {"to": {"email": ADA}, "subject": "Hi", "text": "Hello"} | members
    return {name: value for name, value in whole.items() if value is not None}


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")


def _with(**members: Any) -> bytes:
    return _json(good(**members))


def _raw(member: str, text: str) -> bytes:
    """A good request with one member more, as JSON text."""
    return _json(good())[:-1] + f', "{member}": {text}}}'.encode("utf-8", "surrogatepass")


_NOT_JSON: dict[str, bytes] = {
    "no bytes": b"",
    "a zero byte": b"\x00",
    "random bytes": bytes(range(256)),
    "text": b"hello",
    "UTF-16": json.dumps(good()).encode("utf-16"),
    "UTF-32": json.dumps(good()).encode("utf-32"),
    "a byte order mark": b"\xef\xbb\xbf" + _with(),
    "Latin-1": _with(subject="Gruß").decode().encode("latin-1"),
    "cut off": _with()[:-5],
    "something behind it": _with() + b"x",
    "two documents": _with() + b"\n" + _with(),
    "compressed": gzip.compress(_with(), mtime=0),
    "Avro with a schema id": b"\x00\x00\x00\x00\x07" + _with(),
    "Protobuf": b"\x0a\x0fada@example.com\x12\x02Hi",
    "overlong UTF-8": _raw("reference", '"\x00"').replace(b"\x00", b"\xc0\xaf"),
    "a lone surrogate, escaped": _raw("reference", r'"\ud800"'),
    "a lone surrogate, raw": _raw("reference", '"\ud800"'),
    "a raw NUL in a text": _raw("reference", '"\x00"'),
    "a raw line break in a text": _raw("reference", '"a\nb"'),
    "single quotes": repr(good()).encode(),
    "a comment": b"/* mail */ " + _with(),
    "a comma too many": _with()[:-1] + b",}",
    "NaN": _raw("data", "NaN"),
    "Infinity": _raw("data", '{"x": Infinity}'),
    "a leading zero": _raw("data", '{"x": 01}'),
    "a bad escape": _raw("reference", r'"\x41"'),
    "HTML": b"<html><body>502 Bad Gateway</body></html>",
    "YAML": b"to: ada@example.com\nsubject: Hi\n",
    "objects 100,000 deep": b'{"to":' * 100_000,
    "data 100,000 deep": _raw("data", '{"x":' * 100_000 + "1" + "}" * 100_000),
}
_BAD_SHAPE: dict[str, bytes] = {
    "null": b"null",
    "a boolean": b"true",
    "a number": b"1e3",
    "a text in JSON": b'"hello"',
    "an array": b"[]",
    "arrays 100,000 deep": b"[" * 100_000,
    "an empty object": b"{}",
    "no recipient": _with(to=None),
    "recipient null": _raw("to", "null"),
    "recipient a text": _with(to=ADA),
    "recipient a list": _with(to=[{"email": ADA}]),
    "recipient without address": _with(to={"name": "Ada"}),
    "address a number": _with(to={"email": 7}),
    "subject a number": _with(subject=7),
    "text a list": _with(text=["Hello"]),
    "tags a text": _with(tags="a"),
    "a tag that is a number": _with(tags=[7]),
    "headers a list": _with(headers=[["X-A", "b"]]),
    "a header that is a number": _with(headers={"X-A": 7}),
    "an unknown lane": _with(lane="fast"),
    "send_at in words": _with(send_at="tomorrow"),
    "send_at a boolean": _with(send_at=True),
    "send_at on the 30th of February": _with(send_at="2026-02-30T09:00:00Z"),
    "id a number": _with(id=7),
    "id an object": _with(id={}),
    "test a text": _with(test="yes"),
    "an attachment that is a text": _with(attachments=["a.txt"]),
    "an attachment without content": _with(attachments=[{"filename": "a.txt"}]),
    "a copy that is a text": _with(cc=["bob@example.com"]),
    "an unknown on_ambiguous": _with(on_ambiguous="retry"),
    "metadata with a number": _with(metadata={"a": 1}),
    "a cap that is a number": _with(cap=3),
    "a digest without a template": _with(digest={"key": "k", "seconds": 60}),
    "data a list": _with(template="welcome", subject=None, text=None, data=[1]),
    "two recipients, the second bad": _raw("to", "7"),
    "a cancel without id": _json({"kind": "cancel"}),
    "a batch that is no list": _json({"kind": "batch", "items": {}}),
    "a batch with a bad item": _json({"kind": "batch", "items": [good(), {"to": 1}]}),
}
_BAD_ADDRESS: dict[str, str] = {
    "no at sign": "ada.example.com",
    "two at signs": "ada@b@example.com",
    "an empty address": "",
    "no local part": "@example.com",
    "no domain": "ada@",
    "a space": "ada lovelace@example.com",
    "a line break": "ada@example.com\nbcc: x@example.com",
    "a long label": f"ada@{'a' * 64}.com",
    "a domain without a dot": "ada@example",
    "two dots": "ada@example..com",
    "a dot at the end of the local part": "ada.@example.com",
    "an address in a comment": "Ada <ada@example.com>",
    "a look-alike domain": "ada@p\u0430ypal.com",
    "an underscore domain": "ada@exa_mple.com",
    "control characters": "ada\x07@example.com",
}
_BAD_VALUE: dict[str, bytes] = {
    "a line break in the subject": _with(subject="Hi\nBcc: x@example.com"),
    "an escaped NUL in the subject": _with(subject="Hi\x00"),
    "a bidi control in the subject": _with(subject="Hi \u202egpj.exe"),
    "an empty subject": _with(subject=""),
    "a long subject": _with(subject="x" * 999),
    "no subject": _with(subject=None),
    "no body": _with(text=None),
    "an empty body": _with(text=""),
    "two templates": _with(template="welcome", provider_template="d-1"),
    "data without a template": _with(data={"a": 1}),
    "a line break in a header": _with(headers={"X-A": "b\r\nBcc: x@example.com"}),
    "a header of the provider's": _with(headers={"SUBJECT": "Hi"}),
    "a header name with a colon": _with(headers={"X:A": "b"}),
    "an attachment that is no base64": _with(attachments=[{"filename": "a.txt", "content": "%%%"}]),
    "a line break in a file name": _with(attachments=[{"filename": "a\n.txt", "content": "aGk="}]),
    "eleven tags": _with(tags=[f"t{n}" for n in range(11)]),
    "a control character in a tag": _with(tags=["a\x1b"]),
    "a long reference": _with(reference="x" * 256),
    "metadata of ours": _with(metadata={"ms_id": "x"}),
    "send_at without offset": _with(send_at="2026-12-01T09:00:00"),
    "send_at in the year 9999": _with(send_at="9999-12-31T23:59:59Z"),
    "expired before it is due": _with(send_at="2026-12-02T09:00:00Z", expires_at="2026-12-01T09:00:00Z"),
    "the recipient again as copy": _with(cc=[{"email": "ADA@example.com"}]),
    "a bad copy": _with(bcc=[{"email": "nobody"}]),
    "a cap of none": _with(cap={"key": "k", "count": 0, "seconds": 60}),
    "a cap without a key": _with(cap={"key": "", "count": 1, "seconds": 60}),
    "a digest that waits for a year": _with(digest={"key": "k", "seconds": 31_536_000, "template": "t"}),
    "a digest with a copy": _with(
        digest={"key": "k", "seconds": 60, "template": "t"}, cc=[{"email": "bob@example.com"}]
    ),
    "a bad reply_to": _with(reply_to={"email": "nobody"}),
}
_BAD_ID: dict[str, bytes] = {
    "an id of another recipient": _with(id=OTHER_ID),
    "an id that is none": _with(id="17"),
    "an empty id": _with(id=""),
    "an id with a path": _with(id=f"{ID}/../x"),
    "a long id": _with(id="em_00000000_" + "x" * 10_000),
    "a hash that no recipient has": _with(id="em_ffffffff_x"),
    "a cancel of no id": _json({"kind": "cancel", "id": "17"}),
}
_UNKNOWN_KIND: dict[str, bytes] = {
    "an unknown kind": _json({"kind": "pause", "id": ID}),
    "a kind in capitals": _json({"kind": "CANCEL", "id": ID}),
    "an empty kind": _json({"kind": "", "id": ID}),
}

#: What must end as a dead letter, with its raw bytes and this reason.
POISONS: tuple[Poison, ...] = (
    *(Poison(name, value, Reason.NOT_JSON) for name, value in _NOT_JSON.items()),
    *(Poison(name, value, Reason.BAD_SHAPE) for name, value in _BAD_SHAPE.items()),
    *(Poison(f"address: {name}", _with(to={"email": text}), Reason.BAD_ADDRESS) for name, text in _BAD_ADDRESS.items()),
    *(Poison(name, value, Reason.BAD_VALUE) for name, value in _BAD_VALUE.items()),
    *(Poison(name, value, Reason.BAD_ID) for name, value in _BAD_ID.items()),
    *(Poison(name, value, Reason.UNKNOWN_KIND) for name, value in _UNKNOWN_KIND.items()),
    Poison("a line break in the name", _with(to={"email": ADA, "name": "Ada\r\nBcc: x@y.example"}), Reason.BAD_ADDRESS),
    Poison("a comma in the name", _with(to={"email": ADA, "name": "Lovelace, Ada"}), Reason.BAD_ADDRESS),
    Poison("a bad member beside a good id", _with(id=ID, lane="fast"), Reason.BAD_SHAPE, id=ID),
    Poison("a bad subject beside a good id", _with(id=f"{ID}2", subject="a\nb"), Reason.BAD_VALUE, id=f"{ID}2"),
    Poison("a bad kind beside a good id", _json({"kind": 7, "id": ID}), Reason.BAD_SHAPE),
    Poison("a foreign sender", _with(**{"from": {"email": "ceo@elsewhere.example"}}), Reason.SENDER_NOT_ALLOWED),
    Poison("asked for in 1970", _with(requested_at="1970-01-01T00:00:00Z"), Reason.EVENT_TOO_OLD),
    Poison("a version to come", _with(), Reason.UNKNOWN_KIND, headers={codec.RECORD_HEADER: b"email.requested.v2"}),
    Poison("another record's name", _with(), Reason.UNKNOWN_KIND, headers={codec.RECORD_HEADER: b"email.status.v1"}),
    Poison("a name that is no text", _with(), Reason.UNKNOWN_KIND, headers={codec.RECORD_HEADER: b"\xff"}),
    Poison("larger than a request may be", _with(text="x" * MAX_REQUEST_BYTES), Reason.TOO_LARGE),
    Poison("large and no JSON", b"x" * (MAX_REQUEST_BYTES + 1), Reason.TOO_LARGE),
)
#: What looks strange and is taken all the same, or does nothing.
STRANGE: tuple[Poison, ...] = (
    Poison("a null value", None, None),
    Poison("a null value without key", None, None, key=None),
    Poison("no key", _with(), None, key=None),
    Poison("an empty key", _with(), None, key=b""),
    Poison("a key of another recipient", _with(), None, key=b"bob@example.com"),
    Poison("a key that is no text", _with(), None, key=b"\xff\x00"),
    Poison("members that nobody knows", _with(added={"deep": [1]}), None),
    Poison("a header that nobody knows", _with(), None, headers={"x": b"\xff" * 1000}),
    Poison("an empty header", _with(), None, headers={"traceparent": b""}),
    Poison("blanks around it", b" \n\t" + _with() + b"\n", None),
    Poison("a member twice", b'{"subject": "No", ' + _with()[1:], None),
    Poison("escaped letters", _with().replace(b"Hello", rb"\u0048ello"), None),
    Poison("a smiley in the subject", _with(subject="Hi \U0001f600"), None),
    Poison("an address in capitals", _with(to={"email": "ADA@EXAMPLE.COM"}), None),
    Poison("a domain with an umlaut", _with(to={"email": "ada@b\u00fccher.example"}), None),
    Poison("as large as it may be", _with(text="x" * (MAX_REQUEST_BYTES - len(_with(text="-")) + 1)), None),
)


def a_poison(number: int) -> Poison:
    """One of them, by a number that goes on for ever: for mixing them into a stream."""
    return POISONS[number % len(POISONS)]


assert email_id.is_email_id(ID)
