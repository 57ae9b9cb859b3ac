"""What SendGrid refuses in a request that is well-formed, each with the field that it names."""

import binascii
from collections.abc import Iterator

from dev.sendgrid.shape import Mailbox, MailSend, Personalization, Violation
from mailstream.domain import address
from mailstream.domain.errors import BadAddress
from mailstream.domain.recipient import is_plain

MOST_RECIPIENTS = MOST_PERSONALIZATIONS = 1000
MOST_CATEGORIES, LONGEST_CATEGORY = 10, 255
CUSTOM_ARGS_BYTES = 10_000
FURTHEST_SEND_AT_SECONDS = 72 * 3600
LONGEST_REQUEST_BYTES = 30 * 1024 * 1024
FORBIDDEN_HEADERS = frozenset(
    {
        "x-sg-id", "x-sg-eid", "received", "dkim-signature", "content-type", "content-transfer-encoding", "to", "from",
        "subject", "reply-to", "cc", "bcc",
    }
)  # fmt: skip


def validate(mail: MailSend, now: float) -> list[Violation]:
    """All that SendGrid would refuse; empty when it would take the mail. ``now``: seconds since 1970."""
    return [Violation(message, field) for message, field in _all(mail, now)]


_Found = Iterator[tuple[str, str]]


def _all(mail: MailSend, now: float) -> _Found:
    yield from _sender(mail)
    yield from _envelopes(mail, now)
    yield from _body(mail)
    yield from _headers(mail.headers, "headers")
    yield from _send_at(mail.send_at, "send_at", now)
    if mail.categories:
        yield from _categories(mail.categories)


def _sender(mail: MailSend) -> _Found:
    if not mail.from_.email.isascii():
        yield "The from address must not hold Unicode.", "from.email"
    elif not _is_address(mail.from_.email):
        yield "The from email does not contain a valid address.", "from.email"
    if mail.reply_to is not None:
        if mail.reply_to_list:
            yield "Give either reply_to or reply_to_list.", "reply_to"
        if not _is_address(mail.reply_to.email):
            yield "The reply_to email does not contain a valid address.", "reply_to.email"
    for n, mailbox in enumerate(mail.reply_to_list):
        if not _is_address(mailbox.email):
            yield "The reply_to email does not contain a valid address.", f"reply_to_list.{n}.email"


def _envelopes(mail: MailSend, now: float) -> _Found:
    if not 1 <= len(mail.personalizations) <= MOST_PERSONALIZATIONS:
        yield f"Between 1 and {MOST_PERSONALIZATIONS} personalizations are required.", "personalizations"
    seen: set[str] = set()
    for n, one in enumerate(mail.personalizations):
        place = f"personalizations.{n}"
        if not one.to:
            yield "The to array is required and must hold at least one address.", f"{place}.to"
        for kind, mailboxes in (("to", one.to), ("cc", one.cc), ("bcc", one.bcc)):
            for m, mailbox in enumerate(mailboxes):
                yield from _recipient(mailbox, f"{place}.{kind}.{m}", seen)
        if one.subject == "":
            yield "The subject must hold at least one character.", f"{place}.subject"
        if one.headers:
            yield from _headers(one.headers, f"{place}.headers")
        yield from _send_at(one.send_at, f"{place}.send_at", now)
        yield from _custom_args(mail, one, place)
    if len(seen) > MOST_RECIPIENTS:
        yield f"A request may name at most {MOST_RECIPIENTS} recipients.", "personalizations"


def _recipient(mailbox: Mailbox, place: str, seen: set[str]) -> _Found:
    key = mailbox.email.casefold()
    if key in seen:
        yield "Each address may be named only once among to, cc and bcc of a request.", place
    seen.add(key)
    if not _is_address(mailbox.email):
        yield "Does not contain a valid address.", f"{place}.email"
    if mailbox.name and (";" in mailbox.name or "," in mailbox.name):
        yield "The name must not hold a semicolon or a comma.", f"{place}.name"


def _custom_args(mail: MailSend, one: Personalization, place: str) -> _Found:
    args = mail.custom_args | one.custom_args if one.custom_args else mail.custom_args
    if sum(len(name.encode()) + len(value.encode()) for name, value in args.items()) >= CUSTOM_ARGS_BYTES:
        yield f"Custom args must be below {CUSTOM_ARGS_BYTES} bytes.", f"{place}.custom_args"


def _body(mail: MailSend) -> _Found:
    if mail.template_id is None:
        if not mail.subject and not all(one.subject for one in mail.personalizations):
            yield "The subject is required. A template or each personalization may give it instead.", "subject"
        if not mail.content:
            yield "Unless a valid template_id is given, content is required.", "content"
        for n, one in enumerate(mail.personalizations):
            if one.dynamic_template_data:
                field = f"personalizations.{n}.dynamic_template_data"
                yield "Dynamic template data needs a template_id.", field
    elif mail.template_id.startswith("d-"):
        for n, one in enumerate(mail.personalizations):
            if one.substitutions:
                yield "Substitutions do not go with a dynamic template.", f"personalizations.{n}.substitutions"
    types = [content.type for content in mail.content]
    for n, content in enumerate(mail.content):
        if not content.type or not content.value:
            yield "Type and value of a content must hold at least one character.", f"content.{n}"
    if "text/plain" in types[1:]:
        yield "If present, text/plain must be first, and given once.", "content"
    if types.count("text/html") > 1:
        yield "text/html may be given once.", "content"
    for n, attachment in enumerate(mail.attachments):
        if not attachment.filename:
            yield "The filename must hold at least one character.", f"attachments.{n}.filename"
        if not _is_base64(attachment.content):
            yield "The attachment content must be base64 encoded.", f"attachments.{n}.content"


def _headers(headers: dict[str, str], place: str) -> _Found:
    for name in headers:
        if name.lower() in FORBIDDEN_HEADERS:
            yield "This header is reserved and must not be set.", f"{place}.{name}"
        elif not name or not name.isascii() or any(c <= " " or c in ":\x7f" for c in name):
            yield "This is not the name of a header.", place


def _send_at(send_at: int | None, place: str, now: float) -> _Found:
    if send_at is not None and send_at > now + FURTHEST_SEND_AT_SECONDS:
        yield "Scheduling more than 72 hours in advance is forbidden.", place


def _categories(categories: tuple[str, ...]) -> _Found:
    if len(categories) > MOST_CATEGORIES:
        yield f"A mail may have at most {MOST_CATEGORIES} categories.", "categories"
    if len(set(categories)) < len(categories):
        yield "Categories must be unique.", "categories"
    for n, category in enumerate(categories):
        if not 0 < len(category) <= LONGEST_CATEGORY:
            yield f"A category has between 1 and {LONGEST_CATEGORY} characters.", f"categories.{n}"


def _is_address(text: str) -> bool:
    if is_plain(text):
        return True
    try:
        address.check(text)
    except BadAddress:
        return False
    return True


def _is_base64(text: str) -> bool:
    try:
        return bool(binascii.a2b_base64(text, strict_mode=True))
    except (binascii.Error, ValueError):
        return False
