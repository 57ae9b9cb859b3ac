"""One record of each kind with everything that it can say, and the least that it may say: the golden bytes hold these.

A golden file is never changed: a worker must read what older workers and other teams have written.
"""

from datetime import UTC, datetime
from pathlib import Path

from msgspec import Struct

from mailstream.domain.attempt import ClaimRecord, HeldRecord, Instead, Outcome, OutcomeRecord, ReleasedRecord
from mailstream.domain.event import ProviderEvent
from mailstream.domain.request import (
    Address,
    Attachment,
    Batch,
    Cap,
    Control,
    ControlKind,
    Digest,
    EmailRequest,
    InBatch,
    Lane,
    OnAmbiguous,
)  # fmt: skip
from mailstream.domain.status import Coordinates, Doubt, EmailStatus, Fact, Provider, Status
from mailstream.domain.suppression import Origin, Suppression

FOLDER = Path(__file__).parents[1] / "contract" / "golden"
ID = "em_78eca477_e5d02dfc61cc6bcc5c7ddef0780394bc"
AT = datetime(2026, 11, 24, 9, 30, 15, 250_000, tzinfo=UTC)
LATER = datetime(2026, 12, 1, 9, tzinfo=UTC)
NONCE = "0f3c9a7be1d24c55"
WORKER = "worker-0/6b1f"

ADA = Address("ada@example.com", "Ada Lovelace")
WHOLE_REQUEST = EmailRequest(
    to=ADA,
    id=ID,
    tenant="shop",
    source="/shop",
    idempotency_key="1042-shipped/order-shipped",
    requested_at=AT,
    from_=Address("shop@example.com", "The shop"),
    reply_to=Address("help@example.com"),
    cc=(Address("bob@example.com"),),
    bcc=(Address("archive@example.com"),),
    subject="Ihre Bestellung 1042 – unterwegs ✓",
    text="Hello",
    html="<p>Hello</p>",
    headers={"X-Order": "1042"},
    attachments=(Attachment("a.txt", "aGk=", "text/plain", "inline", "a1"),),
    lane=Lane.CRITICAL,
    send_at=LATER,
    expires_at=datetime(2026, 12, 2, 9, tzinfo=UTC),
    reference="1042",
    tags=("order", "shipped"),
    metadata={"shop": "de"},
    on_ambiguous=OnAmbiguous.RESEND,
    test=True,
    unsubscribe=True,
    fingerprint="c09e3fb85b7e89a5e5b5d28145f47df7",
    redrive_of="em_78eca477_aaaa",
    provider_options={"asm": {"group_id": 7}},
)

RECORDS: dict[str, Struct] = {
    "email.requested.v1/request": WHOLE_REQUEST,
    "email.requested.v1/request-least": EmailRequest(to=Address("ada@example.com"), subject="Hi", text="Hello"),
    "email.requested.v1/request-template": EmailRequest(
        to=ADA, template="welcome", locale="de", data={"name": "Ada", "n": 1.5, "list": [True, None]}
    ),
    "email.requested.v1/request-provider-template": EmailRequest(to=ADA, provider_template="d-1", data={"a": 1}),
    "email.requested.v1/request-digest": EmailRequest(
        to=ADA, template="comment", data={"text": "Yes"}, subject="A comment", text="Yes",
        cap=Cap("comments", 3, 86_400), digest=Digest("comments", 900, "comments@2"),
    ),
    "email.requested.v1/cancel": Control(
        kind=ControlKind.CANCEL, id=ID, by="rule stop", reason="order.cancelled", tenant="shop"
    ),
    "email.requested.v1/reschedule": Control(kind=ControlKind.RESCHEDULE, id=ID, by="key-1", send_at=LATER),
    "email.requested.v1/resolve": Control(kind=ControlKind.RESOLVE, id=ID, by="ann", reason="seen in the log", to="SENT"),
    "email.requested.v1/batch": Batch(
        items=(EmailRequest(to=ADA, subject="Hi", text="x"), WHOLE_REQUEST), id="b-1", tenant="shop"
    ),
    "email.requested.v1/request-in-batch": EmailRequest(
        to=ADA, id=ID, subject="Hi", text="Hello", batch=InBatch("em_0a1b2c3d_b", "4f1d90c1")
    ),
    "email.requested.v1/cancel-in-batch": Control(
        kind=ControlKind.CANCEL, id=ID, by="key-1", tenant="shop", batch=Coordinates(3, 17)
    ),
    "email.requested.v1/batch-claim": Batch(items=(), id="em_0a1b2c3d_b", tenant="shop", fingerprint="4f1d90c1"),
    "email.attempts.v1/claim": ClaimRecord(
        id=ID, attempt=1, nonce=NONCE, worker=WORKER, at=AT, possible_duplicate=True
    ),
    "email.attempts.v1/claim-cancel": ClaimRecord(
        id=ID, attempt=2, nonce=NONCE, worker=WORKER, at=AT, instead=Instead.CANCELLED, by="rule stop",
        reason="order.cancelled", control=99,
    ),
    "email.attempts.v1/claim-reschedule": ClaimRecord(
        id=ID, attempt=2, nonce=NONCE, worker=WORKER, at=AT, instead=Instead.RESCHEDULED, not_before=LATER
    ),
    "email.attempts.v1/claim-digest": ClaimRecord(
        id=ID, attempt=1, nonce=NONCE, worker=WORKER, at=AT, instead=Instead.SUPPRESSED,
        reason="digested into em_78eca477_first", into="em_78eca477_first",
    ),
    "email.attempts.v1/claim-order": ClaimRecord(id=ID, attempt=1, nonce=NONCE, worker=WORKER, at=AT, order=17),
    "email.attempts.v1/outcome": OutcomeRecord(
        id=ID, attempt=1, nonce=NONCE, worker=WORKER, at=AT, result=Outcome.ACCEPTED, code=202, message_id="sg-1",
        started_at=AT, ended_at=AT, test=True,
    ),
    "email.attempts.v1/outcome-retry": OutcomeRecord(
        id=ID, attempt=1, nonce=NONCE, worker=WORKER, at=AT, result=Outcome.NOT_ACCEPTED, reason="connect timeout",
        retry_at=LATER, counts=True,
    ),
    "email.attempts.v1/released": ReleasedRecord(id=ID, attempt=1, nonce=NONCE, worker=WORKER, at=AT, reason="stopping"),
    "email.attempts.v1/held": HeldRecord(id=ID, attempt=1, nonce=NONCE, worker=WORKER, at=AT, reason="owner gone"),
    "email.status.v1/sent": EmailStatus(
        writer=WORKER, id=ID, tenant="shop", recipient="78eca477", to_masked="a***@e***.com", status=Status.SENT,
        final=True, rank=2_000_000_000_000, attempt=2, nonce=NONCE, possible_duplicate=True, fingerprint="c09e3f",
        reference="1042", tags=("order",), lane=Lane.BULK, request=Coordinates(3, 17), request_at=AT, order=17,
        provider=Provider("sg-1", 202, "accepted"), created_at=AT, updated_at=LATER, due_at=AT, expires_at=LATER,
        on_ambiguous=OnAmbiguous.RESEND, held_at=AT, retries_used=1, control=99, doubt=Doubt(1, NONCE),
        answered=1, second_doubt=Doubt(2, NONCE), test=True,
        timeline=(Fact(AT, Status.QUEUED), Fact(LATER, None, "open", "once", 2, "webhook", 99, "k")), timeline_dropped=4,
    ),
    "email.status.v1/queued-least": EmailStatus(
        writer=WORKER, id=ID, tenant="default", recipient="78eca477", to_masked="a***@e***.com", status=Status.QUEUED,
        final=False, rank=4, created_at=AT, updated_at=AT,
    ),
    "email.status.v1/in-batch": EmailStatus(
        writer=WORKER, id=ID, tenant="shop", recipient="78eca477", to_masked="a***@e***.com", status=Status.QUEUED,
        final=False, rank=4, batch=InBatch("em_0a1b2c3d_b", "4f1d90c1"), created_at=AT, updated_at=AT,
    ),
    "email.status.v1/digested": EmailStatus(
        writer=WORKER, id=ID, tenant="shop", recipient="78eca477", to_masked="a***@e***.com", status=Status.SUPPRESSED,
        final=True, rank=1_000_000_000_014, attempt=1, nonce=NONCE, created_at=AT, updated_at=AT,
        cap_group="0123456789abcdef0123456789abcdef", digest_group="fedcba9876543210fedcba9876543210",
        digested_into="em_78eca477_first",
        timeline=(Fact(AT, Status.SUPPRESSED, detail="digested into em_78eca477_first", attempt=1),),
    ),
    "email.events.v1/bounce": ProviderEvent(
        event="bounce", at=AT, id=ID, provider_event_id="e-1", message_id="sg-1", attempt=1, nonce=NONCE,
        is_recipient=False, dedupe="d", detail={"type": "blocked", "status": "5.7.1"},
    ),
    "email.events.v1/orphan-least": ProviderEvent(event="delivered", at=AT),
    "email.suppressions.v1/bounce": Suppression(
        tenant="shop", recipient="78eca477", address="ada@example.com", origin=Origin.BOUNCE, reason="5.1.1", since=AT,
        by="webhook",
    ),
}  # fmt: skip


def file_of(name: str) -> Path:
    """The golden bytes of a record."""
    return FOLDER / f"{name}.json"
