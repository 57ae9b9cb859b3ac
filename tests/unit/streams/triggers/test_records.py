import msgspec
import pytest

from mailstream.domain import codec, topics
from mailstream.domain.email_id import partition_in
from mailstream.domain.recipient import partition_of, recipient_hash
from mailstream.domain.request import EmailRequest
from streams.core.trigger_result import TriggerResult
from streams.triggers import records
from streams.triggers.event import Received
from streams.triggers.records import Outgoing
from tests.support.domain_events import NOW, cloud_event, judged, received, rules_with, shipped


def outgoing(record: Received, **members: object) -> list[Outgoing]:
    return records.outgoing(record, judged(record, rules_with(**members)), partitions=16)


def test_a_request_goes_to_the_partition_of_its_recipient_under_its_canonical_address() -> None:
    (record,) = outgoing(received(cloud_event(shipped(email="Ada@Example.COM"))))

    request = codec.decode_requested(record.value or b"")
    assert isinstance(request, EmailRequest)
    assert record.topic is topics.REQUESTED
    assert record.key == b"ada@example.com"
    assert record.partition == partition_of(recipient_hash("ada@example.com"), 16) == partition_in(request.id or "", 16)
    assert request.to.email == "Ada@Example.COM"


@pytest.mark.parametrize(
    "record",
    [
        received(cloud_event(traceparent="00-1-2-01")),
        received(cloud_event(), headers={"traceparent": "00-1-2-01"}),
    ],
)
def test_the_trace_of_the_event_goes_on_with_its_mail(record: Received) -> None:
    (sent,) = outgoing(record)

    assert ("traceparent", b"00-1-2-01") in sent.headers


def test_a_dead_letter_stands_behind_the_mails_of_the_same_event_and_keeps_its_headers() -> None:
    record = received(cloud_event(), headers={"x-from": "shop"}, partition=2, offset=5)

    mail, letter = outgoing(record, to="['nobody', data.customer]")

    assert mail.topic is topics.REQUESTED
    assert letter.topic is topics.REJECTED
    assert letter.value == record.value
    headers = dict(letter.headers)
    assert headers["x-from"] == b"shop"
    assert headers["mailstream-reason"] == b"BAD_ADDRESS"
    assert headers["dlt-original-topic"] == b"test.shop.orders"
    assert (headers["dlt-original-partition"], headers["dlt-original-offset"]) == (b"2", b"5")
    assert int(headers["dlt-original-timestamp"]) == NOW.timestamp() * 1000


def test_a_mail_that_is_larger_than_a_record_may_be_is_a_dead_letter() -> None:
    parcel = "x" * (topics.MAX_REQUEST_BYTES // 2)

    (letter,) = outgoing(received(cloud_event(shipped(parcel=parcel))))

    assert dict(letter.headers)["mailstream-reason"] == b"TOO_LARGE"
    assert letter.topic is topics.REJECTED


@pytest.mark.parametrize(
    ("record", "result"),
    [
        (received(cloud_event(type="other")), TriggerResult.UNCONCERNED),
        (received(cloud_event(time="2020-01-01T00:00:00Z")), TriggerResult.TOO_OLD),
        (received(b"nope"), TriggerResult.UNREADABLE),
        (received(cloud_event(shipped(email="nobody"))), TriggerResult.FAILED),
        (received(cloud_event()), TriggerResult.ASKED),
    ],
)
def test_every_event_is_counted_as_what_became_of_it(record: Received, result: TriggerResult) -> None:
    assert judged(record, rules_with()).result is result
    assert len(outgoing(record)) == (0 if result in (TriggerResult.UNCONCERNED, TriggerResult.TOO_OLD) else 1)


def test_a_rule_that_does_not_apply_passes_the_event_over() -> None:
    record = received(cloud_event())

    assert judged(record, rules_with(when="data.nothing")).result is TriggerResult.PASSED_OVER
    assert outgoing(record, when="data.nothing") == []


def test_records_are_plain_json() -> None:
    (record,) = outgoing(received(cloud_event()))

    assert msgspec.json.decode(record.value or b"")["to"] == {"email": "ada@example.com", "name": "Ada"}
