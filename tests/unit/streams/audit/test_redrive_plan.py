from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from msgspec import structs

from mailstream.domain import codec, email_id, topics
from mailstream.domain.dead_letter import DeadLetter, Reason
from mailstream.domain.record import Record
from mailstream.domain.request import Address, Batch, Control, ControlKind, EmailRequest, InBatch
from mailstream.domain.status import Coordinates, EmailStatus, Status, is_final, rank_of
from mailstream.domain.validation import fingerprint_of
from streams.audit import redrive_plan
from streams.audit.redrive_plan import AuditReason, NotRedrivable, RedriveContext, RedrivePlan
from streams.core import faults, intake
from streams.core.faults import Rejected
from streams.core.intake import Carried, Known, New, ParsedRequest
from streams.triggers.records import Outgoing
from tests.support.domain_events import (
    NOW,
    as_bytes,
    at_once,
    cloud_event,
    example_rules,
    judged,
    received,
    rendered,
    rules_with,
    shipped,
)
from tests.support.poison import POISONS, good

CAUSE = AuditReason("ann", "the template is mended")
MEANS = RedriveContext(16, "test.", frozenset({"sender@example.com"}), example_rules())
REQUEST = EmailRequest(to=Address("Ada@example.com"), id=email_id.new("ada@example.com"), subject="Hi", text="Hello")


def a_letter(value: bytes | None, topic: str = "test.email.requested", reason: Reason = Reason.BAD_VALUE) -> DeadLetter:
    return DeadLetter(reason, "", Record(topic, 3, 17, int(NOW.timestamp() * 1000), b"k", value, {}))


def again_for(letter: DeadLetter, means: RedriveContext = MEANS, *, place: str = "1/2") -> RedrivePlan | NotRedrivable:
    try:
        return at_once(redrive_plan.dead_letter(letter, place, CAUSE, means, rendered, NOW))
    except NotRedrivable as why:
        return why


def a_status(status: Status = Status.FAILED) -> EmailStatus:
    return EmailStatus(
        writer="w", id=REQUEST.id or "", tenant="default", recipient=(REQUEST.id or "")[3:11], to_masked="a***@e***.com",
        status=status, final=is_final(status), rank=rank_of(status, 1), created_at=NOW, updated_at=NOW,
        request=Coordinates(3, 17),
    )  # fmt: skip


def request_in(again: RedrivePlan | NotRedrivable) -> EmailRequest:
    assert isinstance(again, RedrivePlan), again
    (record,) = again.outgoing
    request = codec.decode_requested(record.value or b"")
    assert isinstance(request, EmailRequest)
    return request


def test_a_failed_email_is_asked_for_under_a_new_id_that_names_the_old_one() -> None:
    again = redrive_plan.email(a_status(), REQUEST, CAUSE, MEANS, NOW)

    request = request_in(again)
    assert request.id != REQUEST.id
    assert request.redrive_of == REQUEST.id
    assert (request.to, request.subject, request.text) == (REQUEST.to, REQUEST.subject, REQUEST.text)
    assert request.requested_at == NOW
    assert isinstance(again, RedrivePlan)
    headers = dict(again.outgoing[0].headers)
    assert headers["mailstream-causation"] == f"email {REQUEST.id}".encode()
    assert headers["mailstream-redriven-by"] == b"ann"
    assert headers["mailstream-redrive-reason"] == b"the template is mended"


def test_asking_twice_asks_for_the_same_email() -> None:
    later = datetime(2026, 12, 1, tzinfo=UTC)

    first = request_in(redrive_plan.email(a_status(), REQUEST, CAUSE, MEANS, NOW))
    second = request_in(redrive_plan.email(a_status(), REQUEST, AuditReason("bob", "again"), MEANS, later))

    assert first.id == second.id


def test_a_time_that_has_passed_is_not_kept() -> None:
    old = structs.replace(
        REQUEST, send_at=datetime(2026, 1, 1, tzinfo=UTC), expires_at=datetime(2026, 1, 2, tzinfo=UTC)
    )

    request = request_in(redrive_plan.email(a_status(Status.EXPIRED), old, CAUSE, MEANS, NOW))

    assert request.send_at is None
    assert request.expires_at is None


@pytest.mark.parametrize("status", [status for status in Status if status not in redrive_plan.MAY_BE_REDRIVEN])
def test_an_email_that_was_sent_or_still_may_be_is_not_asked_for_again(status: Status) -> None:
    with pytest.raises(NotRedrivable, match=f"it is {status}"):
        redrive_plan.email(a_status(status), REQUEST, CAUSE, MEANS, NOW)


def test_a_direct_request_is_asked_for_by_what_is_true_now() -> None:
    too_old = as_bytes(good(requested_at="2020-01-01T00:00:00Z"))
    foreign = as_bytes(good(**{"from": {"email": "shop@example.org"}}))

    assert request_in(again_for(a_letter(too_old))).requested_at == NOW
    assert isinstance(again_for(a_letter(foreign)), NotRedrivable)
    assert (
        request_in(again_for(a_letter(foreign), replace(MEANS, senders=frozenset({"@example.org"})))).from_ is not None
    )


#: What a new record mends: the time, the id, the version in a header, the size that only its headers had.
MENDED = {Reason.EVENT_TOO_OLD, Reason.UNKNOWN_KIND, Reason.TOO_LARGE, Reason.BAD_ID}
AT_ONCE = {"send_at without offset", "send_at in the year 9999", "expired before it is due"}


@pytest.mark.parametrize(
    "poison",
    [poison for poison in POISONS if poison.reason not in MENDED and poison.name not in AT_ONCE],
    ids=lambda poison: poison.name,
)
def test_what_would_be_rejected_again_is_of_no_use_and_says_why(poison: Any) -> None:
    again = again_for(a_letter(poison.value))

    assert isinstance(again, NotRedrivable)
    assert str(again)
    assert "ada@" not in str(again).lower()


def test_a_control_record_is_written_again_as_it_was() -> None:
    control = Control(kind=ControlKind.CANCEL, id=REQUEST.id or "", by="key-1")

    again = again_for(a_letter(codec.encode(control), reason=Reason.UNKNOWN_ID))

    assert isinstance(again, RedrivePlan)
    (record,) = again.outgoing
    assert codec.decode_requested(record.value or b"") == control
    assert record.partition == email_id.partition_in(control.id, 16)
    assert dict(record.headers)["mailstream-causation"] == b"email.rejected/1/2"


def test_a_domain_event_gets_the_ids_that_it_always_had() -> None:
    event = cloud_event(time="2020-01-01T00:00:00Z")
    ruling = judged(received(cloud_event()))

    request = request_in(again_for(a_letter(as_bytes(event), "test.shop.orders")))

    assert request.id == ruling.decisions[0].requests[0].id
    assert request.redrive_of is None


@pytest.mark.parametrize(
    ("value", "topic", "means", "told"),
    [
        (as_bytes(cloud_event(shipped(email="nobody"))), "test.shop.orders", MEANS, "it fails again"),
        (as_bytes(cloud_event(type="other")), "test.shop.orders", MEANS, "no rule reads its type"),
        (b"nope", "test.shop.orders", MEANS, "not a domain event"),
        (as_bytes(cloud_event()), "test.shop.returns", MEANS, "a topic that no rule names"),
        (as_bytes(cloud_event()), "test.shop.orders", replace(MEANS, rules=None), "a topic that no rule names"),
        (
            as_bytes(cloud_event()),
            "test.shop.orders",
            replace(MEANS, rules=rules_with(when="data.x")),
            "no rule applies",
        ),
        (as_bytes({"kind": "batch", "items": []}), "test.email.requested", MEANS, "no item"),
        (
            as_bytes({"kind": "batch", "items": [good(), good(subject="a\nb")]}),
            "test.email.requested",
            MEANS,
            "item 1: ",
        ),
    ],
)
def test_a_letter_that_gives_nothing_says_why(value: bytes, topic: str, means: RedriveContext, told: str) -> None:
    again = again_for(a_letter(value, topic), means)

    assert isinstance(again, NotRedrivable)
    assert told in str(again)


def test_a_letter_without_bytes_is_of_no_use() -> None:
    assert isinstance(again_for(a_letter(None)), NotRedrivable)


def test_requests_go_to_the_topic_and_partition_of_their_recipient() -> None:
    again = redrive_plan.email(a_status(), REQUEST, CAUSE, MEANS, NOW)

    assert isinstance(again, RedrivePlan)
    (record,) = again.outgoing
    assert record.topic is topics.REQUESTED
    assert record.key == b"ada@example.com"
    assert record.partition == email_id.partition_in(again.ids[0], 16)


def batch_of(*items: EmailRequest, **members: Any) -> DeadLetter:
    return a_letter(codec.encode(Batch(items=items, **members)), reason=Reason.SENDER_NOT_ALLOWED)


def requests_in(again: RedrivePlan | NotRedrivable) -> list[EmailRequest]:
    assert isinstance(again, RedrivePlan), again
    requests = [codec.decode_requested(record.value or b"") for record in again.outgoing]
    return [request for request in requests if isinstance(request, EmailRequest)]


def test_the_items_of_a_refused_batch_are_asked_for_under_the_ids_that_their_callers_have() -> None:
    soon = NOW + timedelta(hours=1)
    asked = structs.replace(REQUEST, send_at=NOW - timedelta(days=9), expires_at=soon, requested_at=NOW)
    nameless = EmailRequest(to=Address("bob@example.com"), subject="Hi", text="Hello")

    again = again_for(batch_of(asked, nameless, id="em_1_b", fingerprint="f"))

    first, second = requests_in(again)
    assert isinstance(again, RedrivePlan)
    assert again.ids == (REQUEST.id, email_id.of_place("test.email.requested/1", 3, 17, "bob@example.com"))
    assert (first.id, second.id) == again.ids
    assert [first.fingerprint, second.fingerprint] == [fingerprint_of(asked), fingerprint_of(nameless)]
    assert (first.send_at, first.expires_at, first.requested_at) == (None, soon, NOW)
    assert first.batch == second.batch == InBatch("em_1_b", "f")
    assert dict(again.outgoing[0].headers)["mailstream-redriven-by"] == b"ann"


def test_an_item_that_was_taken_before_its_batch_was_refused_is_not_sent_again() -> None:
    """A worker was killed half way: one item has a status, the other has none."""
    taken, untaken = REQUEST, EmailRequest(to=Address("bob@example.com"), id=email_id.new("bob@example.com"),
                                           subject="Hi", text="Hello")  # fmt: skip
    again = again_for(batch_of(taken, untaken))
    assert isinstance(again, RedrivePlan)

    for attempt, known in enumerate(({taken.id}, {taken.id, untaken.id})):  # the second: the retry was asked for twice
        settled = [settle(record, known) for record in again.outgoing]
        assert [type(each) for each in settled] == [Known, New if attempt == 0 else Known]


def settle(record: Outgoing, known: set[str | None]) -> New | Known | Carried | Rejected:
    request = codec.decode_requested(record.value or b"")
    assert isinstance(request, EmailRequest)
    asked = intake.read(
        Record("test.email.requested", record.partition, 99, int(NOW.timestamp() * 1000), record.key,
                        record.value, dict(record.headers)),
        faults.Rules(16, 1.0, MEANS.senders), NOW.timestamp(),
    )  # fmt: skip
    assert isinstance(asked, ParsedRequest)
    status = structs.replace(a_status(Status.SENT), id=request.id or "", fingerprint=request.fingerprint)
    return intake.decide(asked, status if request.id in known else None)


def test_an_item_that_was_told_it_is_rejected_is_asked_for_under_a_new_id() -> None:
    """It has a dead letter of its own; its id stands for what was rejected."""
    item = structs.replace(REQUEST, batch=InBatch("em_1_b", "f"))

    request = request_in(again_for(a_letter(codec.encode(item), reason=Reason.SENDER_NOT_ALLOWED)))

    assert request.id != REQUEST.id
    assert (request.redrive_of, request.batch) == (REQUEST.id, None)
