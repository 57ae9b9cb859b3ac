import base64
from datetime import UTC, datetime
from typing import Any

import pytest
from cloudevents.core.bindings.kafka import to_binary_event, to_structured_event
from cloudevents.core.v1.event import CloudEvent
from hypothesis import given
from hypothesis import strategies as st

from streams.triggers.event import BadEvent, DomainEvent, Received, read
from streams.triggers.expression import Unanswered
from streams.triggers.rule_schema import TopicRule
from tests.support.domain_events import NOW, as_bytes, cloud_event, received

BINARY = {"ce_specversion": "1.0", "ce_id": "7", "ce_source": "/shop", "ce_type": "order.shipped"}


def event_in(record: Received, form: TopicRule | None = None) -> DomainEvent:
    event = read(record, form or TopicRule())
    assert event is not None
    return event


@given(
    st.text(st.characters(codec="ascii", categories=["L", "N", "P"]), min_size=1, max_size=40),
    st.datetimes(min_value=datetime(1971, 1, 1), timezones=st.just(UTC)),
    st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=5), st.integers(-(2**53), 2**53), min_size=1),
)
def test_what_the_cloudevents_library_writes_is_read_alike_in_both_modes(id_: str, at: datetime, data: Any) -> None:
    written = CloudEvent({"id": id_, "source": "/shop", "type": "order.shipped", "time": at, "lang": "de"}, data)

    for write in (to_binary_event, to_structured_event):
        message = write(written)
        headers = {name: value.decode() for name, value in message.headers.items()}
        event = event_in(received(message.value, headers=headers))

        assert (event.id, event.source, event.type, event.at) == (id_, "/shop", "order.shipped", at)
        assert event.document["data"] == data
        assert event.document["lang"] == "de"


def test_a_structured_event_needs_no_content_type() -> None:
    assert event_in(received(cloud_event())).id == "1042-shipped"


def test_binary_data_inside_a_structured_event_is_read_when_it_is_json() -> None:
    raw = base64.b64encode(b'{"order": 7}').decode()

    event = event_in(received({**cloud_event(), "data_base64": raw}))

    assert event.document["data"] == {"order": 7}


def test_a_binary_event_without_content_has_no_data_and_is_no_deletion() -> None:
    assert event_in(received(None, headers=BINARY)).document["data"] is None


def test_a_null_value_is_no_event() -> None:
    assert read(received(None), TopicRule()) is None


def test_the_older_of_the_events_time_and_the_records_counts() -> None:
    event = event_in(received(cloud_event(time="2026-11-24T09:00:00+02:00"), recorded_at=NOW))
    assert event.oldest_at == event.at == datetime(2026, 11, 24, 7, tzinfo=UTC)

    event = event_in(received(cloud_event(time="2027-11-24T09:00:00Z"), recorded_at=NOW))
    assert event.oldest_at == NOW

    assert event_in(received(cloud_event(time=None), recorded_at=NOW)).at == NOW


@pytest.mark.parametrize(
    ("value", "headers", "told"),
    [
        (b"\xff\xfe", {}, "not JSON"),
        (b"{", {}, "not JSON"),
        (b"[" * 100_000, {}, "nested too deep"),
        (b'{"a": NaN}', {}, "not JSON"),
        (b'{"a": "\\ud800"}', {}, "not JSON"),
        (cloud_event(id=None), {}, "attribute id is missing"),
        (cloud_event(id=""), {}, "attribute id is missing"),
        (cloud_event(id=7), {}, "attribute id is missing or no text"),
        (cloud_event(source=None), {}, "attribute source is missing"),
        (cloud_event(type=None), {}, "attribute type is missing"),
        (cloud_event(specversion="0.3"), {}, "only CloudEvents 1.0"),
        (cloud_event(id="a\nb"), {}, "control characters"),
        (cloud_event(id="x" * 2000), {}, "too long"),
        (cloud_event(time="yesterday"), {}, "RFC 3339"),
        (cloud_event(time="2026-11-24T09:00:00"), {}, "has no offset"),
        (cloud_event(time=["x"]), {}, "RFC 3339"),
        (cloud_event(data_base64="%%%"), {}, "not valid base64"),
        (cloud_event(data_base64=7), {}, "not valid base64"),
        (cloud_event(data_base64="AA==", datacontenttype="image/png"), {}, "not JSON by its content type"),
        ([1], {"content-type": "application/cloudevents+json"}, "must be an object"),
        (b"x", {"content-type": "application/cloudevents+avro"}, "must be application/cloudevents"),
        (b"{}", {"ce_id": "1"}, "attribute specversion is missing"),
        (b"{nope", BINARY | {"content-type": "application/json"}, "not JSON"),
        (b"\x00\x01", BINARY | {"content-type": "application/avro"}, "not JSON by its content type"),
    ],
)
def test_a_bad_event_is_told_by_its_place(value: Any, headers: dict[str, str], told: str) -> None:
    with pytest.raises(BadEvent, match=told):
        read(received(value, headers=headers), TopicRule())


def test_plain_json_is_known_by_its_place_when_its_topic_names_no_id() -> None:
    first, again, next_ = (event_in(received({"a": 1}, partition=2, offset=offset)) for offset in (7, 7, 8))

    assert (first.source, first.id) == (again.source, again.id) == ("shop.orders", "2/7")
    assert next_.id == "2/8"
    assert first.type == "*"
    assert first.document["data"] == {"a": 1}


def test_plain_json_is_known_by_what_its_topic_names() -> None:
    form = TopicRule.model_validate({"id": "meta.id", "type": "kind", "time": "ts"})

    event = event_in(received({"meta": {"id": 7}, "kind": "placed", "ts": 1795500000000}), form)

    assert (event.id, event.type, event.at) == ("7", "placed", datetime.fromtimestamp(1795500000, UTC))
    assert event_in(received({"meta": {"id": "7"}, "kind": "placed", "ts": 1795500000}), form).at == event.at


@pytest.mark.parametrize("value", [{}, {"id": None}, {"id": ""}, {"id": True}, {"id": {}}, 7, "text", None, []])
def test_an_event_without_the_id_that_its_topic_names_is_bad(value: Any) -> None:
    with pytest.raises((BadEvent, Unanswered)):
        read(received(as_bytes(value)), TopicRule.model_validate({"id": "id"}))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
)
attributes = st.dictionaries(
    st.sampled_from(["specversion", "id", "source", "type", "time", "data", "data_base64", "datacontenttype", "x"]),
    st.just("1.0") | json_values,
)


@given(
    st.none() | st.binary(max_size=200) | json_values.map(lambda value: as_bytes(value)) | attributes.map(as_bytes),
    st.dictionaries(
        st.sampled_from(["content-type", "ce_id", "ce_type", "ce_source", "ce_specversion", "ce_time", "x"]),
        st.sampled_from([b"1.0", b"application/cloudevents+json", b"application/json", b""]) | st.binary(max_size=20),
    ),
    st.sampled_from([TopicRule(), TopicRule.model_validate({"id": "id", "type": "type", "time": "time"})]),
)
def test_any_record_is_an_event_or_a_bad_one(value: bytes | None, headers: dict[str, bytes], form: TopicRule) -> None:
    record = Received("t", 0, 0, 0, None, value, headers, "t")
    try:
        event = read(record, form)
    except (BadEvent, Unanswered):
        return
    assert event is None or (event.id and event.at.tzinfo)
