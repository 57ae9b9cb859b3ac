"""The request of ``POST /v3/mail/send`` as SendGrid documents it. A member that is not named here is a mistake."""

import re
from typing import Any

import msgspec
from msgspec import Struct


class _Strict(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    pass


class Mailbox(_Strict, frozen=True):
    """An address with a name for people."""

    email: str
    name: str | None = None


class Personalization(_Strict, frozen=True, rename={"from_": "from"}):
    """One envelope: who gets the mail, and what differs for them."""

    to: tuple[Mailbox, ...]
    from_: Mailbox | None = None
    cc: tuple[Mailbox, ...] = ()
    bcc: tuple[Mailbox, ...] = ()
    subject: str | None = None
    headers: dict[str, str] = {}
    substitutions: dict[str, str] = {}
    dynamic_template_data: dict[str, Any] = {}
    custom_args: dict[str, str] = {}
    send_at: int | None = None


class Content(_Strict, frozen=True):
    """One form of the body."""

    type: str
    value: str


class Attachment(_Strict, frozen=True):
    """A file; ``content`` is base64."""

    content: str
    filename: str
    type: str | None = None
    disposition: str | None = None
    content_id: str | None = None


class Switch(Struct, frozen=True):
    """A setting that is on or off; what else it holds is not looked at."""

    enable: bool = False


class MailSettings(_Strict, frozen=True):
    """How SendGrid treats the mail."""

    bypass_list_management: Switch | None = None
    bypass_spam_management: Switch | None = None
    bypass_bounce_management: Switch | None = None
    bypass_unsubscribe_management: Switch | None = None
    bcc: Switch | None = None
    footer: Switch | None = None
    sandbox_mode: Switch | None = None
    spam_check: Switch | None = None


class TrackingSettings(_Strict, frozen=True):
    """What SendGrid counts."""

    click_tracking: Switch | None = None
    open_tracking: Switch | None = None
    subscription_tracking: Switch | None = None
    ganalytics: Switch | None = None


class Asm(_Strict, frozen=True):
    """The unsubscribe group."""

    group_id: int
    groups_to_display: tuple[int, ...] = ()


class MailSend(_Strict, frozen=True, rename={"from_": "from"}):
    """The whole request."""

    personalizations: tuple[Personalization, ...]
    from_: Mailbox
    reply_to: Mailbox | None = None
    reply_to_list: tuple[Mailbox, ...] = ()
    subject: str | None = None
    content: tuple[Content, ...] = ()
    attachments: tuple[Attachment, ...] = ()
    template_id: str | None = None
    sections: dict[str, str] = {}
    headers: dict[str, str] = {}
    categories: tuple[str, ...] = ()
    custom_args: dict[str, str] = {}
    send_at: int | None = None
    batch_id: str | None = None
    asm: Asm | None = None
    ip_pool_name: str | None = None
    mail_settings: MailSettings | None = None
    tracking_settings: TrackingSettings | None = None

    def is_sandbox(self) -> bool:
        """Whether SendGrid should only check the request."""
        settings = self.mail_settings
        return settings is not None and settings.sandbox_mode is not None and settings.sandbox_mode.enable

    def mark(self, name: str) -> str | None:
        """A custom arg; the one of the first personalization wins over the one for all."""
        return self.personalizations[0].custom_args.get(name) or self.custom_args.get(name)


class Violation(Struct, frozen=True):
    """One entry of SendGrid's error body."""

    message: str
    field: str | None = None
    help: str | None = None


class Unreadable(Exception):
    """A body that is no mail/send request. Carries the mistake."""

    def __init__(self, mistake: Violation) -> None:
        super().__init__(mistake.message)
        self.mistake = mistake


_decoder = msgspec.json.Decoder(MailSend)
_PLACE = re.compile(r" - at `(?:key in )?\$\.?([^`]*)`$")
_MISSING = re.compile(r"missing required field `([^`]+)`")
_UNKNOWN = re.compile(r"unknown field `([^`]+)`")


def read(body: bytes) -> MailSend:
    """The request in a body. Raises Unreadable with SendGrid's kind of field name, ``personalizations.0.to``."""
    try:
        return _decoder.decode(body)
    except msgspec.ValidationError as error:
        raise Unreadable(_mistake_in(str(error))) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Unreadable(Violation("Bad Request")) from None


def _mistake_in(text: str) -> Violation:
    found = _PLACE.search(text)
    place = re.sub(r"\[(\d+|\.\.\.)\]", r".\1", found[1]).strip(".") if found else ""
    for pattern, message in ((_MISSING, "This member is required."), (_UNKNOWN, "This member is not known.")):
        if named := pattern.search(text):
            return Violation(message, f"{place}.{named[1]}".strip("."))
    return Violation(text[: found.start()] if found else text, place or None)
