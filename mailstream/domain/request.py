"""What callers ask for: the records of ``email.requested``."""

from datetime import datetime
from enum import StrEnum
from typing import Any

from msgspec import UNSET, Struct, UnsetType, field


class Lane(StrEnum):
    """How urgent an email is towards the others of the account."""

    CRITICAL = "critical"  #: overtakes: codes, alarms
    NORMAL = "normal"
    BULK = "bulk"  #: never starves, but waits


class OnAmbiguous(StrEnum):
    """What happens to an email whose outcome stays unknown."""

    HOLD = "hold"  #: ends UNCONFIRMED, is never sent again by itself
    RESEND = "resend"  #: is sent once more, marked possible_duplicate


class Address(Struct, frozen=True, omit_defaults=True):
    """A mailbox as it was written."""

    email: str
    name: str | None = None


class Attachment(Struct, frozen=True, omit_defaults=True):
    """A file inside the mail; ``content`` is base64."""

    filename: str
    content: str
    type: str | None = None
    disposition: str | None = None  #: attachment or inline
    content_id: str | None = None


class Cap(Struct, frozen=True):
    """At most ``count`` mails under this key to one recipient in any ``seconds``; what is beyond ends ``SUPPRESSED``."""

    key: str
    count: int
    seconds: int


class Digest(Struct, frozen=True):
    """Requests under this key to one recipient, until ``seconds`` after the first of them, become one mail.

    A request that stays alone is sent as it is. Several become what ``template`` makes of ``events``: the ``data`` of each.
    """

    key: str
    seconds: int
    template: str


class Coordinates(Struct, frozen=True):
    """Where a record of ``email.requested`` stands."""

    partition: int
    offset: int


class InBatch(Struct, frozen=True):
    """The batch that an email was asked for in, under an Idempotency-Key of the API."""

    id: str
    fingerprint: str  #: of the whole body: mode, number and order of the items, and what each asks


class EmailRequest(Struct, frozen=True, omit_defaults=True, kw_only=True, rename={"from_": "from"}):
    """One email to one recipient, as it is asked for: ``email.requested`` v1.

    Unknown members are ignored, so that a newer producer is read by an older worker.
    """

    to: Address
    id: str | None = None  #: drawn by API and CLI; without it source + idempotency key identify the mail
    tenant: str = "default"
    source: str = ""  #: who asks: the route, the CloudEvents source, a producer's name
    idempotency_key: str | None = None
    requested_at: datetime | None = None
    from_: Address | None = None  #: the configured SENDER when left out
    reply_to: Address | None = None
    cc: tuple[Address, ...] = ()
    bcc: tuple[Address, ...] = ()
    subject: str | None = None
    text: str | None = None
    html: str | None = None
    headers: dict[str, str] = field(default_factory=dict)
    attachments: tuple[Attachment, ...] = ()
    template: str | None = None
    locale: str | None = None
    provider_template: str | None = None  #: a SendGrid dynamic template, rendered by SendGrid from ``data``
    data: dict[str, Any] = field(default_factory=dict)
    lane: Lane = Lane.NORMAL
    send_at: datetime | None = None
    expires_at: datetime | None = None
    reference: str | None = None
    tags: tuple[str, ...] = ()
    metadata: dict[str, str] = field(default_factory=dict)
    on_ambiguous: OnAmbiguous | None = None  #: None: the ON_AMBIGUOUS setting
    test: bool = False  #: goes to the provider's sandbox and is not delivered
    unsubscribe: bool = False  #: one-click unsubscribe headers (RFC 8058)
    cap: Cap | None = None
    digest: Digest | None = None
    fingerprint: str | None = None  #: of what was asked, so that the same id with other content is noticed
    batch: InBatch | None = None
    redrive_of: str | None = None  #: the id that an operator asks again for
    provider_options: dict[str, Any] = field(
        default_factory=dict
    )  #: SendGrid members that only pass through (/v3/mail/send)


class ControlKind(StrEnum):
    """What a control record asks for."""

    CANCEL = "cancel"
    RESCHEDULE = "reschedule"
    RESOLVE = "resolve"  #: an operator ends HELD


class Control(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A word about an email that was asked for before. Key: the email id; partition taken from the id."""

    kind: ControlKind
    id: str
    by: str = ""  #: who asks, by the name of the key or operator
    reason: str = ""
    tenant: str | None = None  #: when given, must be the email's
    batch: Coordinates | None = None  #: what asks for it, if only a strict batch or a record in a wrong partition does
    send_at: datetime | None = None  #: reschedule: the new time
    to: str | None = None  #: resolve: SENT, UNCONFIRMED or RESEND


class Batch(Struct, frozen=True, omit_defaults=True, kw_only=True, tag_field="kind", tag="batch"):
    """A strict batch: one record, so that all or nothing is true on Kafka too.

    One without items claims its id for a permissive batch, whose items have records of their own.
    """

    items: tuple[EmailRequest, ...]
    id: str = ""  #: the batch id
    tenant: str = "default"
    fingerprint: str | None = None  #: of the whole body, when it was asked for under an Idempotency-Key


class Peek(Struct, frozen=True):
    """Just enough of a record to tell what it is, and whom to tell when it cannot be taken."""

    kind: str | UnsetType = UNSET
    id: Any = None
    tenant: Any = "default"
