"""From a body to a request that can be sent: shape, mistakes, sender, template. Nothing is written here."""

from datetime import datetime
from typing import Any, TypeVar

from msgspec import structs
from pydantic import BaseModel, ValidationError

from api.keys import Key
from api.problems import Code, Problem, invalid
from mailstream.domain import email_id, senders
from mailstream.domain.errors import TemplateError
from mailstream.domain.recipient import canonical
from mailstream.domain.request import Address, EmailRequest
from mailstream.domain.unsubscribe import Unsubscribe
from mailstream.domain.validation import Violation, fingerprint_of, pointer_to, validate
from mailstream.settings import Settings
from mailstream.templates.catalog import Rendered, Templates
from mailstream.templates.render_process import RenderProcess

_UNSUBSCRIBE_HEADERS = frozenset({"list-unsubscribe", "list-unsubscribe-post"})
Body = TypeVar("Body", bound=BaseModel)


def parse(model: type[Body], raw: bytes) -> Body:
    """The body of a request. Raises Problem: 400 when it is not valid JSON, 422 with every mistake of its shape."""
    try:
        return model.model_validate_json(raw)
    except ValidationError as error:
        mistakes = error.errors(include_input=False, include_url=False, include_context=False)
        if any(mistake["type"] == "json_invalid" for mistake in mistakes):
            raise Problem(Code.NOT_JSON, "The body must be one JSON object in UTF-8.") from None
        raise invalid([_mistake(mistake) for mistake in mistakes]) from None


class Content:
    """Judges requests by the settings and fills in what they leave open."""

    def __init__(self, settings: Settings) -> None:
        """Raises TemplateError when a template of TEMPLATES_DIR cannot be used."""
        self._settings = settings
        if settings.templates_dir:
            Templates(settings.templates_dir)  # says at the start what cannot be used
        self._renderer = RenderProcess(settings.templates_dir)
        self._unsubscribe = Unsubscribe(settings.public_url, settings.unsubscribe_key)

    async def settled(
        self, asked: EmailRequest, caller: Key, now: datetime, source: str, key: str | None
    ) -> EmailRequest:
        """The request as it will be recorded; its id follows from ``key``, if there is one. Raises Problem 422 or 403.

        The fingerprint is of what was asked, before a default or a template is filled in: both may have changed when a
        caller asks again.
        """
        asked = structs.replace(asked, tenant=caller.tenant, source=source)
        mistakes = validate(asked, now=now) + _at_the_door(asked, now)
        if asked.unsubscribe and not self._unsubscribe.is_configured:
            mistakes.append(
                Violation("/unsubscribe", "not_configured", "PUBLIC_URL and UNSUBSCRIBE_KEY are not set here")
            )
        if (from_ := asked.from_ or _default_sender(caller, self._settings)) is None:
            mistakes.append(Violation("/from", "missing", "no default sender is configured for this key: name one"))
        _refuse(mistakes)
        _may_send(asked, caller, self._settings)
        fingerprint = fingerprint_of(asked)
        if asked.template is not None:
            asked = await self._rendered(asked, now)
        filled = self._unsubscribe.filled(asked)
        recipient = canonical(asked.to.email)
        id_ = email_id.new(recipient) if key is None else email_id.derived(caller.tenant, source, key, recipient)
        return structs.replace(
            filled, id=id_, idempotency_key=key, from_=from_, fingerprint=fingerprint, requested_at=now
        )

    async def preview(self, template: str, data: dict[str, Any], locale: str | None) -> Rendered:
        """The mail that a template gives. Raises Problem 422 that names what is wrong, and where."""
        try:
            return await self._renderer.render(template, data, locale)
        except TemplateError as error:
            raise invalid([Violation("/template", "template_failed", str(error))]) from None

    async def close(self) -> None:
        """End the process that renders."""
        await self._renderer.close()

    async def _rendered(self, asked: EmailRequest, now: datetime) -> EmailRequest:
        """The request with the content of its template; the record keeps the template's name, not its data."""
        assert asked.template is not None
        mail = await self.preview(asked.template, asked.data, asked.locale)
        rendered = structs.replace(asked, subject=mail.subject, text=mail.text, html=mail.html, data={})
        _refuse(validate(rendered, now=now))
        return rendered


def _at_the_door(asked: EmailRequest, now: datetime) -> list[Violation]:
    """Mistakes of a fresh request that are none in a record: it may be read late, and have been rendered."""
    found: list[Violation] = []
    if asked.expires_at is not None and asked.expires_at <= now:
        found.append(Violation("/expires_at", "bad_value", "this is in the past: nothing would be sent"))
    if asked.unsubscribe:
        found += [
            Violation(pointer_to("headers", name), "conflict", "`unsubscribe` sets this header")
            for name in asked.headers
            if name.lower() in _UNSUBSCRIBE_HEADERS
        ]
    if asked.template is not None:
        found += [
            Violation(f"/{member}", "conflict", "the template gives the content: leave this out")
            for member in ("subject", "text", "html")
            if getattr(asked, member) is not None
        ]
    return found


def _refuse(mistakes: list[Violation]) -> None:
    if mistakes:
        raise invalid(mistakes)


def _default_sender(caller: Key, settings: Settings) -> Address | None:
    """``SENDER``, or the first address of a key that may not use that."""
    own = [pattern for pattern in caller.senders if not pattern.startswith("@")]
    if settings.sender and (not caller.senders or senders.is_allowed(settings.sender, caller.senders)):
        return Address(settings.sender)
    return next(
        (
            Address(each)
            for each in own
            if senders.is_allowed(each, senders.of_account(settings.sender, settings.senders_allowed))
        ),
        None,
    )


def _may_send(asked: EmailRequest, caller: Key, settings: Settings) -> None:
    """Raises Problem 403: this is not an open relay."""
    if asked.from_ is not None and not (
        senders.is_allowed(asked.from_.email, senders.of_account(settings.sender, settings.senders_allowed))
        and (not caller.senders or senders.is_allowed(asked.from_.email, caller.senders))
    ):
        raise Problem(
            Code.SENDER_NOT_ALLOWED,
            "This `from` is not among the senders of the key, or not in MAILSTREAM_SENDERS_ALLOWED.",
        )
    if not (caller.recipients_allowed or caller.recipients_denied):
        return
    for mailbox in (asked.to, *asked.cc, *asked.bcc):
        if senders.is_allowed(mailbox.email, caller.recipients_denied) or (
            caller.recipients_allowed and not senders.is_allowed(mailbox.email, caller.recipients_allowed)
        ):
            raise Problem(Code.RECIPIENT_NOT_ALLOWED, "The key's recipient lists do not allow one of the recipients.")


def _mistake(found: Any) -> Violation:
    """One of pydantic's sentences; they name types and limits, and no value."""
    pointer = pointer_to(*(part for part in found["loc"]))
    if found["type"] == "extra_forbidden":
        return Violation(pointer, "unknown_member", "there is no such member")
    if found["type"] == "missing":
        return Violation(pointer, "missing", "this is needed")
    return Violation(pointer, found["type"], found["msg"])
