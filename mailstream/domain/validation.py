"""What no mail can carry: every mistake of a request, all at once, each with its place.

Pure and cheap on a plain mail: the worker asks once for each direct request, the API once for each body.
Who may send as whom, and what an API key may do, is not decided here.
"""

import binascii
import hashlib
import re
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import msgspec

from mailstream.domain import address
from mailstream.domain.errors import BadAddress
from mailstream.domain.recipient import canonical, canonical_or_none
from mailstream.domain.request import Address, Attachment, Control, ControlKind, Digest, EmailRequest
from mailstream.domain.topics import MAX_REQUEST_BYTES

#: Refused and never stripped: C0, DEL, C1, line and paragraph separators, bidi controls, lone surrogates.
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_HEADER_NAME = re.compile(r"[!-9;-~]{1,76}")
_MEDIA_TYPE = re.compile(r"[A-Za-z0-9!#$&^_.+-]{1,127}/[A-Za-z0-9!#$&^_.+-]{1,127}")
#: SendGrid sets these itself, and refuses them from callers in any case.
FORBIDDEN_HEADERS = frozenset(
    [
        "x-sg-id",
        "x-sg-eid",
        "received",
        "dkim-signature",
        "content-type",
        "content-transfer-encoding",
        "to",
        "from",
        "subject",
        "reply-to",
        "cc",
        "bcc",
    ]
)
#: One header line of RFC 5322, and SendGrid's limits.
SUBJECT_BYTES, RECIPIENTS, TAGS, TAG_CHARACTERS = 998, 1000, 10, 255
#: SendGrid's custom_args stay below 10,000 bytes in all; 256 are kept for ours (ms_id, ms_attempt, ms_nonce).
METADATA_BYTES = 10_000 - 256
OUR_ARGUMENTS = "ms_"
NAME_CHARACTERS, REFERENCE_CHARACTERS = 320, 255
#: A leap year, so that "the same day next year" always passes.
FARTHEST = timedelta(days=366)

#: A digest must close long before its events' bodies expire; a cap counts what statuses remember (30 d by default).
KEY_CHARACTERS, CAP_COUNT, CAP_SECONDS, DIGEST_SECONDS = 255, 1000, 30 * 86_400, 86_400

#: Characters of a name that stands in every status.
NAME_IN_STATUS = 255
#: Levels of nesting in ``data`` and ``provider_options``; much more could not be encoded again.
DEEPEST = 32
#: How an operator may end a held email.
ENDS = frozenset({"SENT", "UNCONFIRMED", "RESEND"})

_encoder = msgspec.json.Encoder(order="deterministic")
#: From 2,048 bytes on hashlib hands the interpreter to other threads: getting it back costs more than the hash does.
_HASHED_AT_ONCE = 2047


class Violation(NamedTuple):
    """One thing to mend. ``detail`` is for people and repeats no value."""

    pointer: str  #: JSON pointer (RFC 6901) into the request; empty: the request as a whole
    code: str
    detail: str


def validate(request: EmailRequest, *, now: datetime) -> list[Violation]:
    """Everything that keeps this request from being a mail; empty: nothing does.

    An ``expires_at`` in the past is no mistake here: a record that was read late ends ``EXPIRED``.
    """
    found: list[Violation] = []
    if request.data or request.provider_options:
        found += mistakes_of_depth(request)
    if len(request.tenant) > NAME_IN_STATUS:
        found.append(Violation("/tenant", "too_long", f"{NAME_IN_STATUS} characters are allowed"))
    if request.fingerprint is not None and len(request.fingerprint) > NAME_IN_STATUS:
        found.append(Violation("/fingerprint", "too_long", f"{NAME_IN_STATUS} characters are allowed"))
    if request.batch is not None and max(len(request.batch.id), len(request.batch.fingerprint)) > NAME_IN_STATUS:
        found.append(Violation("/batch", "too_long", f"id and fingerprint may have {NAME_IN_STATUS} characters each"))
    found += _of_mailbox("/to", request.to, is_recipient=True)
    if request.from_ is not None:
        found += _of_mailbox("/from", request.from_)
        if not request.from_.email.isascii():
            found.append(Violation("/from/email", "not_ascii", "SendGrid takes only ASCII in a sender's address"))
    if request.reply_to is not None:
        found += _of_mailbox("/reply_to", request.reply_to)
    if request.cc or request.bcc:
        found += _of_copies(request)
    found += _of_content(request)
    if request.headers:
        found += _of_headers(request)
    if request.attachments:
        found += _of_attachments(request.attachments)
    if request.tags:
        found += _of_tags(request.tags)
    if request.metadata:
        found += _of_metadata(request.metadata)
    if request.reference is not None:
        found += _of_line("/reference", request.reference, REFERENCE_CHARACTERS)
    if request.send_at is not None or request.expires_at is not None:
        found += _of_times(request.send_at, request.expires_at, now)
    if request.cap is not None:
        found += _of_line("/cap/key", request.cap.key, KEY_CHARACTERS)
        found += _of_number("/cap/count", request.cap.count, CAP_COUNT)
        found += _of_number("/cap/seconds", request.cap.seconds, CAP_SECONDS)
    if request.digest is not None:
        found += _of_digest(request, request.digest)
    return found


def mistakes_of_depth(request: EmailRequest) -> list[Violation]:
    """What is nested so deep that it could not be encoded again: to be asked before that is tried."""
    return [
        Violation(f"/{member}", "bad_value", f"this is nested more than {DEEPEST} levels deep")
        for member, value in (("data", request.data), ("provider_options", request.provider_options))
        if value and _is_deeper(value, DEEPEST)
    ]


def mistakes_of_control(control: Control, *, now: datetime) -> list[Violation]:
    """Why a word about an email makes no sense; empty: it does."""
    at = control.send_at
    if control.kind is ControlKind.RESCHEDULE:
        if at is None or at.tzinfo is None:
            return [Violation("/send_at", "no_time_zone", "a new time is needed, with its offset from UTC")]
        if at - now > FARTHEST:
            return [Violation("/send_at", "too_far", "this is more than a year ahead")]
    if control.kind is ControlKind.RESOLVE and control.to not in ENDS:
        return [Violation("/to", "bad_value", f"this is one of {', '.join(sorted(ENDS))}")]
    return []


def fingerprint_of(request: EmailRequest) -> str:
    """sha256 of what was asked, in hex: equal for the same wish, whatever its id and its time."""
    asked = msgspec.structs.replace(
        request, id=None, requested_at=None, idempotency_key=None, fingerprint=None, batch=None
    )
    value, digest = _encoder.encode(asked), hashlib.sha256()
    for at in range(0, len(value), _HASHED_AT_ONCE):
        digest.update(value[at : at + _HASHED_AT_ONCE])
    return digest.hexdigest()


def pointer_to(*parts: str | int) -> str:
    """A JSON pointer to a member, escaped (RFC 6901)."""
    return "".join(f"/{str(part).replace('~', '~0').replace('/', '~1')}" for part in parts)


def is_unsafe(text: str) -> bool:
    """Whether the text holds a character that may not stand in a header, a name or a label."""
    return not text.isprintable() and _UNSAFE.search(text) is not None


def _is_deeper(value: Any, levels: int) -> bool:
    if not isinstance(value, dict | list):
        return False
    if levels == 0:
        return True
    return any(_is_deeper(inner, levels - 1) for inner in (value.values() if isinstance(value, dict) else value))


def _of_line(pointer: str, text: str, characters: int) -> Iterator[Violation]:
    """Mistakes of a text of one line."""
    if not text:
        yield Violation(pointer, "empty", "this must not be empty; leave it out instead")
    if len(text) > characters:
        yield Violation(pointer, "too_long", f"this has {len(text)} characters; {characters} are allowed")
    if is_unsafe(text):
        yield Violation(pointer, "control_character", "control characters, line breaks and bidi controls are refused")


def _of_mailbox(pointer: str, mailbox: Address, *, is_recipient: bool = False) -> Iterator[Violation]:
    try:
        address.check(mailbox.email)
        canonical(mailbox.email)
    except BadAddress as error:
        yield Violation(f"{pointer}/email", "bad_address", str(error))
    if mailbox.name:
        yield from _of_line(f"{pointer}/name", mailbox.name, NAME_CHARACTERS)
        if is_recipient and (";" in mailbox.name or "," in mailbox.name):
            yield Violation(f"{pointer}/name", "bad_name", "SendGrid takes no ; and no , in a recipient's name")


def _of_copies(request: EmailRequest) -> Iterator[Violation]:
    """Mistakes in cc and bcc; each address may stand once in the whole mail."""
    if 1 + len(request.cc) + len(request.bcc) > RECIPIENTS:
        yield Violation("/cc", "too_many", f"to, cc and bcc together may have {RECIPIENTS} addresses")
    seen = {canonical_or_none(request.to.email) or request.to.email}
    for member, copies in (("cc", request.cc), ("bcc", request.bcc)):
        for index, mailbox in enumerate(copies):
            yield from _of_mailbox(f"/{member}/{index}", mailbox, is_recipient=True)
            key = canonical_or_none(mailbox.email) or mailbox.email
            if key in seen:
                yield Violation(f"/{member}/{index}/email", "repeated", "this address stands in the mail already")
            seen.add(key)


def _of_content(request: EmailRequest) -> Iterator[Violation]:
    """Subject with text or html, a template of ours, or one of the provider's.

    A template beside text or html is no mistake: its name stays in the record of a mail that was rendered.
    """
    if request.subject is not None:
        yield from _of_line("/subject", request.subject, MAX_REQUEST_BYTES)
        if len(request.subject) * 4 > SUBJECT_BYTES and len(request.subject.encode(errors="replace")) > SUBJECT_BYTES:
            yield Violation("/subject", "too_long", f"a subject may have {SUBJECT_BYTES} bytes in UTF-8")
    for member in ("text", "html"):
        if getattr(request, member) == "":
            yield Violation(f"/{member}", "empty", "this must not be empty; leave it out instead")
    if request.template is not None:
        yield from _of_line("/template", request.template, 255)
        if request.provider_template is not None:
            yield Violation("/provider_template", "conflict", "name one template, ours or the provider's")
    elif request.provider_template is not None:
        yield from _of_line("/provider_template", request.provider_template, 255)
    else:
        if request.subject is None:
            yield Violation("/subject", "missing", "a mail needs a subject, or a template")
        if request.text is None and request.html is None:
            yield Violation("/text", "missing", "a mail needs text or html, or a template")
        if request.data and request.digest is None:
            yield Violation("/data", "conflict", "data is for a template, and none is named")


def _of_number(pointer: str, number: int, most: int) -> Iterator[Violation]:
    if not 1 <= number <= most:
        yield Violation(pointer, "bad_value", f"this is a number from 1 to {most}")


def _of_digest(request: EmailRequest, digest: Digest) -> Iterator[Violation]:
    """A digest is one mail to one recipient at one time: what only one of its events brings would be lost."""
    yield from _of_line("/digest/key", digest.key, KEY_CHARACTERS)
    yield from _of_line("/digest/template", digest.template, 255)
    yield from _of_number("/digest/seconds", digest.seconds, DIGEST_SECONDS)
    for member in ("send_at", "cc", "bcc", "attachments", "provider_template"):
        if getattr(request, member):
            yield Violation(f"/{member}", "conflict", "a request that may become part of a digest cannot have this")


def _of_headers(request: EmailRequest) -> Iterator[Violation]:
    seen: set[str] = set()
    for name, value in request.headers.items():
        pointer, lowered = pointer_to("headers", name), name.lower()
        if not _HEADER_NAME.fullmatch(name):
            yield Violation(
                "/headers", "bad_header_name", "a header name has 1 to 76 visible ASCII characters, no colon"
            )
            continue
        if lowered in FORBIDDEN_HEADERS:
            yield Violation(pointer, "forbidden_header", "SendGrid sets this header itself")
        if lowered in seen:
            yield Violation(pointer, "repeated", "this header stands here twice")
        seen.add(lowered)
        yield from _of_line(pointer, value, MAX_REQUEST_BYTES)


def _of_attachments(attachments: tuple[Attachment, ...]) -> Iterator[Violation]:
    for index, attachment in enumerate(attachments):
        pointer = f"/attachments/{index}"
        yield from _of_line(f"{pointer}/filename", attachment.filename, 255)
        if not attachment.content:
            yield Violation(f"{pointer}/content", "empty", "an attachment must not be empty")
        try:
            binascii.a2b_base64(attachment.content.encode(), strict_mode=True)
        except ValueError:
            yield Violation(f"{pointer}/content", "not_base64", "this is not base64 (RFC 4648, section 4)")
        if attachment.type is not None and not _MEDIA_TYPE.fullmatch(attachment.type):
            yield Violation(
                f"{pointer}/type", "bad_media_type", "a media type looks like application/pdf, no parameters"
            )
        if attachment.disposition not in (None, "attachment", "inline"):
            yield Violation(f"{pointer}/disposition", "bad_value", "this is either `attachment` or `inline`")
        if attachment.content_id is not None:
            yield from _of_line(f"{pointer}/content_id", attachment.content_id, 255)


def _of_tags(tags: tuple[str, ...]) -> Iterator[Violation]:
    if len(tags) > TAGS:
        yield Violation("/tags", "too_many", f"{TAGS} tags are allowed")
    for index, tag in enumerate(tags):
        yield from _of_line(f"/tags/{index}", tag, TAG_CHARACTERS)
        if tag in tags[:index]:
            yield Violation(f"/tags/{index}", "repeated", "this tag stands here twice")


def _of_metadata(metadata: dict[str, str]) -> Iterator[Violation]:
    for key in metadata:
        if key.startswith(OUR_ARGUMENTS):
            yield Violation(pointer_to("metadata", key), "reserved", "keys that begin with `ms_` are our own")
        yield from _of_line("/metadata" if is_unsafe(key) else pointer_to("metadata", key), key, 255)
    if len(_encoder.encode(metadata)) > METADATA_BYTES:
        yield Violation("/metadata", "too_long", f"keys and values may have {METADATA_BYTES} bytes as JSON")


def _of_times(send_at: datetime | None, expires_at: datetime | None, now: datetime) -> Iterator[Violation]:
    moments = {"send_at": send_at, "expires_at": expires_at}
    if naive := [member for member, at in moments.items() if at is not None and at.tzinfo is None]:
        for member in naive:
            yield Violation(
                f"/{member}", "no_time_zone", "a time needs its offset from UTC, as in 2026-12-01T09:00:00Z"
            )
        return
    if send_at is not None and send_at - now > FARTHEST:
        yield Violation("/send_at", "too_far", "this is more than a year ahead")
    if send_at is not None and expires_at is not None and expires_at <= send_at:
        yield Violation("/expires_at", "bad_value", "the mail would expire before it may be sent")
