"""SendGrid's own request, ``POST /v3/mail/send``: the members that we take. What is not here is refused, never dropped."""

import re
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from api.schemas import Asked, Body, File, Line, Person

RECIPIENTS = 1000
#: The end of the year 9999, in seconds since 1970.
LAST_SECOND = 253_402_300_799
BATCH_ID_FORM = re.compile("[A-Za-z0-9_-]{1,100}")


class Personalization(Asked):
    """One envelope: each `to` of it becomes an email of its own; cc and bcc ride with the first."""

    to: tuple[Person, ...] = Field(min_length=1, max_length=RECIPIENTS)
    cc: tuple[Person, ...] = Field(default_factory=tuple, max_length=RECIPIENTS)
    bcc: tuple[Person, ...] = Field(default_factory=tuple, max_length=RECIPIENTS)
    from_: Person | None = Field(None, alias="from")
    subject: Line | None = None
    headers: dict[str, str] = Field(default_factory=dict)
    substitutions: dict[str, str] = Field(default_factory=dict)
    dynamic_template_data: dict[str, Any] = Field(default_factory=dict)
    custom_args: dict[str, str] = Field(default_factory=dict)
    send_at: int | None = Field(None, ge=0, le=LAST_SECOND)


class Content(Asked):
    """One body."""

    type: Literal["text/plain", "text/html"]
    value: Body


class MailSendBody(Asked):
    """The request of SendGrid's clients."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "personalizations": [{"to": [{"email": "ada@example.com"}]}],
                    "from": {"email": "shop@example.com"},
                    "subject": "Hello",
                    "content": [{"type": "text/plain", "value": "Hi Ada"}],
                }
            ]
        }
    )

    personalizations: list[Personalization] = Field(min_length=1, max_length=RECIPIENTS)
    from_: Person = Field(alias="from")
    reply_to: Person | None = None
    reply_to_list: tuple[Person, ...] = Field(default_factory=tuple, max_length=RECIPIENTS)
    subject: Line | None = None
    content: list[Content] = Field(default_factory=list)
    attachments: tuple[File, ...] = Field(default_factory=tuple)
    template_id: Line | None = None
    sections: dict[str, str] = Field(default_factory=dict)
    headers: dict[str, str] = Field(default_factory=dict)
    categories: tuple[Line, ...] = Field(default_factory=tuple, max_length=10, json_schema_extra={"uniqueItems": True})
    custom_args: dict[str, str] = Field(default_factory=dict)
    send_at: int | None = Field(None, ge=0, le=LAST_SECOND)
    batch_id: str | None = Field(None, pattern=f"^{BATCH_ID_FORM.pattern}$")
    asm: dict[str, Any] | None = None
    ip_pool_name: str | None = None
    mail_settings: dict[str, Any] | None = None
    tracking_settings: dict[str, Any] | None = None

    def is_sandboxed(self) -> bool:
        """Whether it asks for the sandbox: checked, and not sent."""
        mode = (self.mail_settings or {}).get("sandbox_mode")
        return isinstance(mode, dict) and mode.get("enable") is True


class ScheduledSendBody(Asked):
    """What becomes of the emails of a batch id."""

    batch_id: str = Field(pattern=f"^{BATCH_ID_FORM.pattern}$")
    status: Literal["cancel"] = Field(description="`pause` is not supported: give another `send_at`")


class BatchIdAnswer(BaseModel):
    """A batch id."""

    batch_id: str


class SendGridError(BaseModel):
    """One mistake, as SendGrid tells it."""

    message: str
    field: str | None = None
    help: str | None = None


class SendGridErrors(BaseModel):
    """SendGrid's error body."""

    errors: list[SendGridError]
