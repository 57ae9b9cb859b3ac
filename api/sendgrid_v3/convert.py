"""From SendGrid's request to emails of ours, and from our mistakes to the fields that SendGrid would name."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgspec

from api.sendgrid_v3.schemas import RECIPIENTS, MailSendBody, Personalization
from mailstream.clock import moment
from mailstream.domain.errors import BadAddress
from mailstream.domain.recipient import canonical
from mailstream.domain.request import EmailRequest
from mailstream.domain.validation import METADATA_BYTES, OUR_ARGUMENTS, Violation

#: Members that go to SendGrid as they came.
_PASSING = ("asm", "ip_pool_name", "mail_settings", "tracking_settings")
_MEMBERS = {"text": "content", "html": "content", "tags": "categories", "reference": "batch_id"}
#: Members of an email that stand in the personalization, not in the mail as a whole.
_PERSONAL = frozenset({"cc", "bcc"})


@dataclass(frozen=True, slots=True)
class Part:
    """One email of a request, and where it stands in it."""

    request: EmailRequest
    personalization: int
    to: int

    def field(self, mistake: Violation) -> Violation:
        """The same mistake with the place that it has in SendGrid's request."""
        member, _, rest = mistake.pointer.lstrip("/").partition("/")
        rest = f"/{rest}" if rest else ""
        envelope = f"/personalizations/{self.personalization}"
        if member == "to":
            pointer = f"{envelope}/to/{self.to}{rest}"
        elif member in _PERSONAL:
            pointer = f"{envelope}/{member}{rest}"
        elif member == "data":
            pointer = f"{envelope}/dynamic_template_data"
        elif member == "provider_options":
            pointer = ""  # one of several members that pass through: which one cannot be told
        else:
            pointer = f"/{_MEMBERS.get(member, member)}{rest}"
        return mistake._replace(pointer=pointer)


def reference_of(batch_id: str) -> str:
    """By what the emails of a batch id are found again: the id belongs to us, SendGrid never sees it."""
    return f"batch_id:{batch_id}"


def emails_of(mail: MailSendBody) -> list[Part]:
    """The emails of a request: one for each `to`."""
    return [
        Part(_email(mail, one, to), number, to)
        for number, one in enumerate(mail.personalizations)
        for to in range(len(one.to))
    ]


def mistakes_of(mail: MailSendBody) -> Iterator[Violation]:
    """What is wrong with the request beside what is wrong with its emails."""
    recipients = sum(len(one.to) + len(one.cc) + len(one.bcc) for one in mail.personalizations)
    if recipients > RECIPIENTS:
        yield Violation("/personalizations", "too_many", f"A request may name at most {RECIPIENTS} recipients.")
    if mail.reply_to is not None and mail.reply_to_list:
        yield Violation("/reply_to", "conflict", "Give either reply_to or reply_to_list.")
    types = [content.type for content in mail.content]
    if types not in ([], ["text/plain"], ["text/html"], ["text/plain", "text/html"]):
        yield Violation("/content", "bad_value", "Give text/plain, text/html, or both in this order, each once.")
    for number, one in enumerate(mail.personalizations):
        place = f"/personalizations/{number}"
        yield from _repeated(one, place)
        arguments = mail.custom_args | one.custom_args
        for name in arguments:
            if name.startswith(OUR_ARGUMENTS):
                yield Violation("/custom_args", "reserved", f"Custom args that begin with {OUR_ARGUMENTS} are our own.")
        if sum(len(name.encode()) + len(value.encode()) for name, value in arguments.items()) > METADATA_BYTES:
            yield Violation("/custom_args", "too_long", f"Custom args may have {METADATA_BYTES} bytes in all.")
        if one.substitutions and (mail.template_id or "").startswith("d-"):
            field = f"{place}/substitutions"
            yield Violation(field, "conflict", "Substitutions do not go with a dynamic template.")


def _repeated(one: Personalization, place: str) -> Iterator[Violation]:
    """Each address once among the ``to`` of an envelope; cc and bcc are seen in the email that they ride with."""
    seen: set[str] = set()
    for number, mailbox in enumerate(one.to):
        try:
            address = canonical(mailbox.email)
        except BadAddress:
            continue
        if address in seen:
            yield Violation(
                f"{place}/to/{number}", "repeated", "Each address should be unique between to, cc, and bcc."
            )
        seen.add(address)


def _email(mail: MailSendBody, one: Personalization, to: int) -> EmailRequest:
    content = {each.type: each.value for each in mail.content}
    send_at = one.send_at if one.send_at is not None else mail.send_at
    return EmailRequest(
        to=one.to[to],
        from_=one.from_ or mail.from_,
        reply_to=mail.reply_to,
        cc=one.cc if to == 0 else (),
        bcc=one.bcc if to == 0 else (),
        subject=one.subject if one.subject is not None else mail.subject,
        text=content.get("text/plain"),
        html=content.get("text/html"),
        headers=mail.headers | one.headers,
        attachments=mail.attachments,
        provider_template=mail.template_id,
        data=one.dynamic_template_data,
        send_at=moment(send_at) if send_at is not None else None,
        reference=reference_of(mail.batch_id) if mail.batch_id else None,
        tags=mail.categories,
        test=mail.is_sandboxed(),
        provider_options=_options(mail, one),
    )


def _options(mail: MailSendBody, one: Personalization) -> dict[str, Any]:
    options = {name: value for name in _PASSING if (value := getattr(mail, name)) is not None}
    if mail.sections:
        options["sections"] = mail.sections
    if one.substitutions:
        options["substitutions"] = one.substitutions
    if arguments := mail.custom_args | one.custom_args:
        options["custom_args"] = arguments
    if mail.reply_to_list:
        options["reply_to_list"] = [msgspec.to_builtins(each) for each in mail.reply_to_list]
    return options
