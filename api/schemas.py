"""HTTP bodies: what callers send and what they get. They are never Kafka records; those are in ``mailstream``."""

import re
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, GetPydanticSchema, RootModel
from pydantic_core.core_schema import no_info_after_validator_function

from api.problems import MistakeBody
from mailstream.domain import request as records
from mailstream.domain.request import EmailRequest, Lane, OnAmbiguous
from mailstream.domain.status import Status
from mailstream.domain.suppression import Origin

_MOMENT = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d(:\d\d(\.\d{1,9})?)?([Zz]|[+-]\d\d:?\d\d)", re.ASCII)


class Asked(BaseModel):
    """Unknown members are refused, and nothing is guessed: "1" is not a number."""

    model_config = ConfigDict(extra="forbid", strict=True, populate_by_name=True)


def _as_moment(value: Any) -> datetime:
    """Pydantic would also read a number of seconds; here a moment is written out (RFC 3339)."""
    if not isinstance(value, str) or not _MOMENT.fullmatch(value):
        raise ValueError("a moment looks like 2026-12-01T09:00:00Z")
    return datetime.fromisoformat(value.upper())


#: A moment with its offset from UTC.
Moment = Annotated[AwareDatetime, BeforeValidator(_as_moment, json_schema_input_type=datetime)]
MailAddress = Annotated[str, Field(max_length=320, json_schema_extra={"format": "email", "minLength": 3})]
#: Text of one line: the pattern documents what ``mailstream.domain.validation`` refuses.
Line = Annotated[str, Field(json_schema_extra={"minLength": 1, "pattern": "^[^\\x00-\\x1f\\x7f]*$"})]
Body = Annotated[str, Field(json_schema_extra={"minLength": 1})]


class AddressBody(Asked):
    """A mailbox."""

    email: MailAddress
    name: str | None = Field(None, max_length=320)

    def record(self) -> records.Address:
        """The mailbox as it goes to Kafka."""
        return records.Address(self.email, self.name or None)


class AttachmentBody(Asked):
    """A file inside the mail."""

    filename: Line
    content: Body = Field(description="base64", json_schema_extra={"contentEncoding": "base64"})
    type: str | None = Field(None, description="as in `application/pdf`, without parameters")
    disposition: Literal["attachment", "inline"] | None = None
    content_id: Line | None = None

    def record(self) -> records.Attachment:
        """The file as it goes to Kafka."""
        return records.Attachment(**self.__dict__)


def _taken_as(body: type[AddressBody | AttachmentBody]) -> GetPydanticSchema:
    """Judged and documented as this body, kept as its record."""
    return GetPydanticSchema(lambda _, handler: no_info_after_validator_function(body.record, handler(body)))


def _as_object(value: Any) -> Any:
    return {"email": value} if isinstance(value, str) else value


Person = Annotated[records.Address, _taken_as(AddressBody)]
#: ``"ada@example.com"`` or ``{"email": …, "name": …}``.
Mailbox = Annotated[Person, BeforeValidator(_as_object, json_schema_input_type=str | AddressBody)]
File = Annotated[records.Attachment, _taken_as(AttachmentBody)]


class EmailBody(Asked):
    """One email to one recipient: `to`, and `subject` with `text` or `html`, or `template`, are enough."""

    model_config = ConfigDict(
        json_schema_extra={
            "anyOf": [
                {"required": ["subject", "text"]},
                {"required": ["subject", "html"]},
                {"required": ["template"]},
            ],
            "examples": [{"to": {"email": "ada@example.com", "name": "Ada"}, "subject": "Hello", "text": "Hi Ada"}],
        }
    )

    to: Mailbox
    subject: Line | None = None
    text: Body | None = None
    html: Body | None = None
    from_: Mailbox | None = Field(None, alias="from", description="the configured sender when left out")
    reply_to: Mailbox | None = None
    cc: tuple[Mailbox, ...] = Field(default_factory=tuple, max_length=999)
    bcc: tuple[Mailbox, ...] = Field(default_factory=tuple, max_length=999)
    headers: dict[str, str] = Field(default_factory=dict)
    attachments: tuple[File, ...] = Field(default_factory=tuple)
    template: Line | None = Field(None, description="name of a template; its content takes the place of text and html")
    locale: Line | None = None
    data: dict[str, Any] = Field(default_factory=dict, description="for the template")
    lane: Lane = Lane.NORMAL
    send_at: Moment | None = Field(None, description="not before; up to a year ahead")
    expires_at: Moment | None = Field(None, description="not after; then the email ends EXPIRED")
    reference: Line | None = Field(None, max_length=255, description="your own name for it, to look it up by")
    tags: tuple[Line, ...] = Field(default_factory=tuple, max_length=10, json_schema_extra={"uniqueItems": True})
    metadata: dict[str, str] = Field(default_factory=dict, description="comes back in the provider's events")
    on_ambiguous: OnAmbiguous | None = Field(None, description="when the outcome of a call stays unknown")
    test: bool = Field(False, description="goes to the provider's sandbox and reaches no inbox")
    unsubscribe: bool = Field(False, description="adds one-click unsubscribe headers (RFC 8058)")

    def request(self) -> EmailRequest:
        """What is asked for, as a record: without id, tenant and source, which the body may not say."""
        return EmailRequest(**self.__dict__)


class BatchMode(StrEnum):
    """What one bad item does to the others."""

    STRICT = "strict"  #: nothing is accepted
    PERMISSIVE = "permissive"  #: the others are accepted


class StrictBatchBody(Asked):
    """All or nothing: one record in the log, so it is bounded as one email is."""

    mode: Literal[BatchMode.STRICT] = BatchMode.STRICT
    items: list[EmailBody] = Field(min_length=1, max_length=1000)


class PermissiveBatchBody(Asked):
    """Each item by itself: what is not an email is rejected, the others are accepted."""

    mode: Literal[BatchMode.PERMISSIVE]
    items: list[Any] = Field(min_length=1, max_length=1000, description="emails, as in a strict batch")


class BatchBody(RootModel[StrictBatchBody | PermissiveBatchBody]):
    """Up to 1,000 emails."""


class Links(BaseModel):
    """Where to go on."""

    self: str
    events: str


#: What every accepted email is answered with.
MESSAGE = "Your email is being processed."


class Receipt(BaseModel):
    """The email is in Kafka; it will be sent, and its status can be looked up at once."""

    id: str = Field(examples=["em_1c2f9a3b_0192f0c1b2a37c4d8e5f60718293a4b5"])
    status: Status = Status.QUEUED
    message: str = MESSAGE
    reference: str | None = None
    links: Links


class BatchResult(BaseModel):
    """What became of one item: an id, or a problem."""

    index: int
    id: str | None = None
    status: Status | None = None
    reference: str | None = None
    code: str | None = None
    detail: str | None = None
    errors: list[MistakeBody] = Field(default_factory=list)


class BatchReceipt(BaseModel):
    """The results, in the order of the items."""

    object: Literal["batch"] = "batch"
    mode: BatchMode
    accepted: int
    rejected: int
    results: list[BatchResult]


class TimelineEntry(BaseModel):
    """One fact of an email's life."""

    at: datetime
    status: Status | None = Field(None, description="none: a fact that changed no status")
    detail: str | None = None
    final: bool | None = Field(None, description="in event streams: mailstream has done its part")


class ProviderAnswer(BaseModel):
    """What the provider said last."""

    message_id: str | None = None
    code: int | None = None
    reason: str | None = None


class EmailAnswer(BaseModel):
    """Where an email stands. Bodies are never returned."""

    id: str
    status: Status
    final: bool = Field(description="mailstream has done its part: all but QUEUED, PROCESSING, HELD, RETRYING")
    to: str = Field(description="masked, unless the key has the scope `operate`")
    subject: str | None = Field(None, description="with the scope `operate`, while the request is kept")
    reference: str | None = None
    tags: list[str] = Field(default_factory=list)
    lane: Lane
    created_at: datetime
    updated_at: datetime
    send_at: datetime | None = Field(None, description="when its turn may come: the asked time, or the next attempt's")
    attempts: int
    provider: ProviderAnswer | None = None
    possible_duplicate: bool = False
    test: bool = False
    position: int | None = Field(None, description="how many emails go before it, while it waits")
    estimated_at: datetime | None = Field(None, description="when its turn should come, while it waits")
    timeline: list[TimelineEntry]


T = TypeVar("T")


class Page(BaseModel, Generic[T]):
    """Part of a list."""

    object: Literal["list"] = "list"
    data: list[T]
    has_more: bool
    next: str | None = Field(None, description="for `after`, while `has_more`")


class EmailList(Page[EmailAnswer]):
    """A page, newest first."""


class Query(BaseModel):
    """What stands behind the `?`: text, so "1" is a number here."""

    model_config = ConfigDict(extra="forbid")


class ListQuery(Query):
    """Which emails to list."""

    reference: str | None = Field(None, max_length=255)
    status: Status | None = None
    tag: str | None = Field(None, max_length=255)
    since: Moment | None = Field(None, description="created at or after this")
    until: Moment | None = Field(None, description="created before this")
    limit: int = Field(20, ge=1, le=100)
    after: str | None = Field(None, max_length=200, description="`next` of the page before")


class WaitQuery(Query):
    """How long to wait."""

    wait: int = Field(0, ge=0, le=60, description="seconds to wait for a final status")


class CancelBody(Asked):
    """Why, if you like: it goes to the timeline."""

    reason: str = Field("", max_length=255)


class ChangeBody(Asked):
    """What may change while an email waits."""

    send_at: Moment


class SuppressBody(Asked):
    """Why, if you like."""

    reason: str = Field("", max_length=255)


class SuppressionAnswer(BaseModel):
    """An address that gets no mail of your tenant."""

    address: str
    origin: Origin
    reason: str
    since: datetime
    by: str


class SuppressionList(Page[SuppressionAnswer]):
    """A page, in the order of addresses."""


class SuppressionQuery(Query):
    """Which suppressions to list."""

    limit: int = Field(20, ge=1, le=100)
    after: str | None = Field(None, max_length=320, description="`next` of the page before")
