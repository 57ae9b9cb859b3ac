"""Records survive the way to bytes and back; any other bytes get a reason, and no value of theirs is repeated."""

import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailstream.domain import codec
from mailstream.domain.attempt import HeldRecord, Instead, Outcome
from mailstream.domain.codec import Undecodable
from mailstream.domain.dead_letter import Reason
from mailstream.domain.event import ProviderEvent
from mailstream.domain.request import Address, Attachment, Lane, OnAmbiguous
from mailstream.domain.status import Doubt, Fact, Provider, Status
from mailstream.domain.suppression import Origin, Suppression
from tests.support.builders import ID, NOW, a_claim, a_control, a_request, a_status, an_outcome, later

DECODERS: list[Callable[[bytes], Any]] = [
    codec.decode_requested,
    codec.decode_attempt,
    codec.decode_status,
    codec.decode_event,
    codec.decode_suppression,
]
CANARY = "canary@secret.example"

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=12,
)
#: Members of records with values that need not fit: the way a producer in another language gets them wrong.
almost_records = st.dictionaries(
    st.sampled_from(
        ["id", "kind", "to", "from", "attempt", "at", "status", "tags", "data", "timeline", "lane", "items"]
    ),
    json_values,
)

FULL_REQUEST = a_request(
    id=ID,
    tenant="shop",
    source="POST /v1/emails",
    idempotency_key="order-17",
    requested_at=NOW,
    from_=Address("shop@example.com", "Shop"),
    reply_to=Address("help@example.com"),
    cc=(Address("bob@example.com"),),
    bcc=(Address("eve@example.com"),),
    html="<p>ä 漢 \u2028 😀</p>",
    headers={"X-Order": "17"},
    attachments=(Attachment("a.pdf", "aGVsbG8=", "application/pdf", "attachment", "c1"),),
    template="welcome",
    data={"deep": [{"x": None}], "n": 1.5},
    lane=Lane.BULK,
    send_at=later(60),
    expires_at=later(600),
    reference="order-17",
    tags=("a", "b"),
    metadata={"k": "v"},
    on_ambiguous=OnAmbiguous.RESEND,
    test=True,
)
FULL_STATUS = a_status(
    Status.HELD,
    2,
    possible_duplicate=True,
    fingerprint="f",
    provider=Provider("m", 202, "ok"),
    due_at=later(5),
    held_at=NOW,
    doubt=Doubt(1, "n1"),
    control=4,
    timeline=(Fact(at=NOW, status=Status.QUEUED), Fact(at=later(1), what="open", key="k")),
)


@pytest.mark.parametrize(
    ("record", "decode"),
    [
        pytest.param(a_request(), codec.decode_requested, id="the least request"),
        pytest.param(FULL_REQUEST, codec.decode_requested, id="a request with everything"),
        pytest.param(a_control(by="ops", reason="typo", send_at=NOW), codec.decode_requested, id="a control record"),
        pytest.param(a_claim(instead=Instead.CANCELLED, control=3), codec.decode_attempt, id="a claim"),
        pytest.param(an_outcome(Outcome.REFUSED, code=400, reason="bad"), codec.decode_attempt, id="an outcome"),
        pytest.param(HeldRecord(id=ID, attempt=1, nonce="n", worker="w", at=NOW), codec.decode_attempt, id="a hold"),
        pytest.param(FULL_STATUS, codec.decode_status, id="a status"),
        pytest.param(ProviderEvent(event="bounce", at=NOW, id=ID, detail={"x": 1}), codec.decode_event, id="an event"),
        pytest.param(
            Suppression(tenant="t", recipient="1c2f9a3b", address="a@b.example", origin=Origin.BOUNCE, since=NOW),
            codec.decode_suppression,
            id="a suppression",
        ),
    ],
)
def test_a_record_survives_the_way_to_bytes_and_back(record: msgspec.Struct, decode: Callable[[bytes], Any]) -> None:
    value = codec.encode(record)

    assert decode(value) == record
    assert codec.encode(decode(value)) == value
    assert dict(codec.headers_of(record))["content-type"] == b"application/json"
    assert dict(codec.headers_of(record))[codec.RECORD_HEADER].endswith(b".v1")


def refusal(decode: Callable[[bytes], Any], value: bytes) -> Undecodable | None:
    """Why the bytes were not taken; None when they were. Anything else that is raised fails the test."""
    try:
        decode(value)
    except Undecodable as refused:
        return refused
    return None


@pytest.mark.parametrize("decode", DECODERS)
@given(value=st.binary(max_size=200))
def test_any_bytes_decode_or_give_a_reason(decode: Callable[[bytes], Any], value: bytes) -> None:
    refused = refusal(decode, value)

    assert refused is None or (refused.reason in Reason and refused.detail)


@pytest.mark.parametrize("decode", DECODERS)
@given(value=json_values | almost_records)
def test_any_json_decodes_or_gives_a_reason(decode: Callable[[bytes], Any], value: Any) -> None:
    refused = refusal(decode, json.dumps(value).encode())

    assert refused is None or refused.reason in {Reason.BAD_SHAPE, Reason.UNKNOWN_KIND, Reason.NOT_JSON}


@pytest.mark.parametrize("decode", DECODERS)
@given(record=almost_records, place=st.sampled_from(["id", "kind", "to", "lane", "status", "at", "tags"]))
def test_a_reason_never_repeats_what_the_record_says(
    decode: Callable[[bytes], Any], record: dict[str, Any], place: str
) -> None:
    refused = refusal(decode, json.dumps(record | {place: CANARY}).encode())

    assert refused is None or CANARY not in refused.detail + str(refused)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        pytest.param(b"", Reason.NOT_JSON, id="nothing"),
        pytest.param(b"\xff\xfe", Reason.NOT_JSON, id="no UTF-8"),
        pytest.param(b'{"to":{"email":"\xed\xa0\x80@example.com"}}', Reason.NOT_JSON, id="half a surrogate pair"),
        pytest.param(b'{"data":' + b"[" * 100_000 + b"]" * 100_000 + b"}", Reason.NOT_JSON, id="nested too deep"),
        pytest.param(b'{"to":{"email":"a@b.example"}', Reason.NOT_JSON, id="cut off"),
        pytest.param(b"[]", Reason.BAD_SHAPE, id="no object"),
        pytest.param(b"{}", Reason.BAD_SHAPE, id="no recipient"),
        pytest.param(b'{"to":"a@b.example"}', Reason.BAD_SHAPE, id="the recipient as a string"),
        pytest.param(b'{"to":{"email":"a@b.example"},"lane":"express"}', Reason.BAD_SHAPE, id="a lane that is none"),
        pytest.param(b'{"to":{"email":"a@b.example"},"send_at":"soon"}', Reason.BAD_SHAPE, id="a time that is none"),
        pytest.param(b'{"kind":"explode","id":"em_1c2f9a3b_x"}', Reason.UNKNOWN_KIND, id="a kind of tomorrow"),
        pytest.param(b'{"kind":"cancel"}', Reason.BAD_SHAPE, id="a control record about nothing"),
        pytest.param(b'{"kind":7}', Reason.BAD_SHAPE, id="a kind that is no word"),
    ],
)
def test_each_way_to_be_wrong_has_its_reason(value: bytes, reason: Reason) -> None:
    with pytest.raises(Undecodable) as refused:
        codec.decode_requested(value)

    assert refused.value.reason is reason


@pytest.mark.parametrize(
    ("record", "id_", "tenant"),
    [
        pytest.param({"id": ID, "to": 7, "tenant": "shop"}, ID, "shop", id="both"),
        pytest.param({"id": ID, "to": 7}, ID, "default", id="the tenant that it would have had"),
        pytest.param({"id": 7, "tenant": 7}, None, "", id="neither"),
        pytest.param({"kind": "cancel", "id": ID, "tenant": "shop"}, None, "", id="the id of another record's email"),
        pytest.param([], None, "", id="no object"),
    ],
)
def test_whose_record_it_is_is_told_where_that_can_be_read(record: Any, id_: str | None, tenant: str) -> None:
    assert codec.named_in(json.dumps(record).encode()) == (id_, tenant)


def test_items_of_a_batch_are_told_apart_though_one_cannot_be_read() -> None:
    assert codec.items_in(b'{"kind":"batch","items":[{"to": 7}, 8]}') == [b'{"to": 7}', b"8"]
    assert codec.items_in(b'{"kind":"cancel","items":[1]}') == codec.items_in(b'{"items":[1]}') == []
    assert codec.items_in(b'{"kind":"batch","items":[') == []


def test_members_of_a_newer_version_are_ignored() -> None:
    newer = json.loads(codec.encode(a_request())) | {"colour": "blue", "to": {"email": "a@b.example", "pronoun": "she"}}

    assert codec.decode_requested(json.dumps(newer).encode()) == a_request("a@b.example")
