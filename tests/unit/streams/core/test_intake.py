"""Any record gets a ruling, an id does not change, and a bad repeat harms no good mail."""

import json
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from mailstream.domain import codec, email_id, topics
from mailstream.domain.dead_letter import Reason
from mailstream.domain.errors import BadAddress
from mailstream.domain.recipient import canonical, partition_of, recipient_hash
from mailstream.domain.record import Record
from mailstream.domain.request import Address, Batch, Control, ControlKind, EmailRequest, InBatch
from mailstream.domain.status import EmailStatus, Status
from mailstream.domain.validation import fingerprint_of
from streams.core import fold, intake
from streams.core.faults import Rejected, Rules
from streams.core.intake import Carried, Controlled, Ignored, Known, Misrouted, New, ParsedRequest, Ruling
from streams.core.unfold import Item, Unfold
from tests.support.builders import (
    ADA,
    HASH,
    HOME,
    ID,
    NOW,
    PARTITIONS,
    a_control,
    a_record,
    a_request,
    a_status,
    later,
)

RULES = Rules(PARTITIONS, 7 * 86_400.0, frozenset({"shop@example.com", "@news.example.com"}))
ELSEWHERE = (HOME + 1) % PARTITIONS
MAX = topics.MAX_REQUEST_BYTES


def read(record: Record, now: datetime = NOW) -> Ruling:
    return intake.read(record, RULES, now.timestamp())


def asked(record: Record) -> ParsedRequest:
    ruling = read(record)
    assert isinstance(ruling, ParsedRequest)
    return ruling


def reason_of(ruling: object) -> Reason:
    assert isinstance(ruling, Rejected)
    return ruling.dead_letter.reason


def nested(levels: int) -> list[Any]:
    return [nested(levels - 1)] if levels else []


def raw(**members: Any) -> bytes:
    return json.dumps({"to": {"email": ADA}, "subject": "Hello", "text": "Hello"} | members).encode()


# -- any record ---------------------------------------------------------------------------------------------

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.datetimes().map(datetime.isoformat),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=4),
    max_leaves=12,
)
times = (st.datetimes() | st.datetimes(timezones=st.timezones()) | st.just(datetime.min)).map(datetime.isoformat)
MEMBERS = [*EmailRequest.__struct_fields__, "from", "kind", "items", "by", "reason"]
requests_gone_wrong = st.builds(
    lambda members, moments: json.dumps(
        {"to": {"email": ADA}, "subject": "Hello", "text": "Hello"} | members | moments
    ),
    st.dictionaries(st.sampled_from(MEMBERS), json_values, max_size=5),
    st.dictionaries(st.sampled_from(["requested_at", "send_at", "expires_at"]), times, max_size=2),
)
controls_gone_wrong = st.dictionaries(st.sampled_from(["send_at", "to", "by", "reason"]), json_values | times).map(
    lambda members: json.dumps({"kind": "reschedule", "id": ID} | members)
)
values = st.one_of(
    st.none(),
    st.binary(),
    json_values.map(json.dumps).map(str.encode),
    requests_gone_wrong.map(lambda text: text.encode("utf-8", "surrogatepass")),
    controls_gone_wrong.map(lambda text: text.encode("utf-8", "surrogatepass")),
)
header_names = (
    st.sampled_from([codec.RECORD_HEADER, codec.REKEYED_HEADER, codec.CARRIED_HEADER, "ce_source", "ce_id"]) | st.text()
)


@pytest.mark.parametrize(
    ("header", "order", "age_seconds"),
    [
        pytest.param(b"3/%d" % ((NOW.timestamp() - 60) * 1000), 3, 60, id="a carried copy names the first record"),
        pytest.param(b"3", 3, 0, id="one of an earlier version named its offset only"),
        pytest.param(None, 7, 0, id="a first record is its own"),
        pytest.param(b"9/%d" % (NOW.timestamp() * 2000), 7, 0, id="nothing is older than its first record"),
        pytest.param("\u00b2/\u0663".encode(), 7, 0, id="no number"),
        pytest.param(b"9" * 5000 + b"/-1", 7, 0, id="no number that can be"),
    ],
)
def test_where_an_email_begins(header: bytes | None, order: int, age_seconds: float) -> None:
    headers = {} if header is None else {"mailstream_carried": header}

    found = intake.first_record(a_record(offset=7, **headers))

    assert found == (order, (NOW.timestamp() - age_seconds) * 1000)


@given(values, st.none() | st.binary(), st.dictionaries(header_names, st.none() | st.binary(), max_size=4))
def test_any_bytes_key_and_headers_get_a_ruling(
    value: bytes | None, key: bytes | None, headers: dict[str, bytes | None]
) -> None:
    received = Record("email.requested", HOME, 7, int(NOW.timestamp() * 1000), key, value, headers)  # type: ignore[arg-type]

    ruling = read(received)

    settled = intake.decide(ruling, None) if isinstance(ruling, ParsedRequest) else ruling
    assert isinstance(settled, New | Rejected | Misrouted | Ignored | Controlled | Unfold)
    if isinstance(settled, New):
        status = fold.queued(
            settled.asked.request, email_id=settled.asked.id, recipient=f"{settled.asked.recipient:08x}",
            place=a_status().request, at=NOW, on_ambiguous=a_status().on_ambiguous, writer="w",  # type: ignore[arg-type]
        )  # fmt: skip
        assert codec.decode_status(codec.encode(status)) == status
    if isinstance(settled, Misrouted):
        again = read(the_copy_of(received, settled))
        assert not isinstance(again, Misrouted), "moved once at most"
        if isinstance(again, ParsedRequest):
            assert email_id.partition_in(again.id, PARTITIONS) == settled.partition
    if isinstance(settled, Rejected):
        assert len(settled.dead_letter.detail) <= 500
        assert ADA not in settled.dead_letter.detail


def the_copy_of(received: Record, astray: Misrouted) -> Record:
    """The copy of a record that was astray, as it is read in its right place."""
    return Record(
        received.topic, astray.partition, 99, received.timestamp_ms, astray.key, astray.value,
        {**received.headers, codec.REKEYED_HEADER: b"0/7"},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        pytest.param(a_record(b"\xff\x00"), Reason.NOT_JSON, id="no JSON"),
        pytest.param(a_record(b'{"to":{"email":"a\\ud800@example.com"}}'), Reason.NOT_JSON, id="a lone surrogate"),
        pytest.param(a_record(b'{"data":' + b"[" * 100_000), Reason.NOT_JSON, id="endless nesting"),
        pytest.param(a_record(b"[]"), Reason.BAD_SHAPE, id="no object"),
        pytest.param(a_record(b"{}"), Reason.BAD_SHAPE, id="nothing in it"),
        pytest.param(a_record(raw(to=ADA)), Reason.BAD_SHAPE, id="a recipient that is no object"),
        pytest.param(a_record(raw(lane="express")), Reason.BAD_SHAPE, id="an unknown lane"),
        pytest.param(a_record(b'{"kind":"destroy"}'), Reason.UNKNOWN_KIND, id="an unknown kind"),
        pytest.param(a_record(mailstream_record=b"email.requested.v2"), Reason.UNKNOWN_KIND, id="a version to come"),
        pytest.param(a_record(raw(to={"email": "nobody"})), Reason.BAD_ADDRESS, id="no address"),
        pytest.param(a_record(raw(to={"email": "a b@example.com"})), Reason.BAD_ADDRESS, id="a space in the address"),
        pytest.param(a_record(raw(id="17")), Reason.BAD_ID, id="an id of another form"),
        pytest.param(a_record(raw(id="em_00000001_x")), Reason.BAD_ID, id="an id of another recipient"),
        pytest.param(a_record(b"x" * (MAX + 1)), Reason.TOO_LARGE, id="too large"),
        pytest.param(a_record(b"x" * (2 * MAX), mailstream_carried=b"7"), Reason.TOO_LARGE,
                     id="too large, and said to be carried"),
        pytest.param(a_record(key=b"k" * 70_000), Reason.TOO_LARGE, id="a huge key"),
        pytest.param(a_record(partition=ELSEWHERE, x=b"h" * 70_000), Reason.TOO_LARGE,
                     id="headers that would not fit into a copy"),
        pytest.param(a_record(raw(data={"x": [[[]]] * 9, "y": nested(40)}, template="t", text=None,
                                  subject=None)), Reason.BAD_VALUE, id="data nested deeper than anybody needs"),
        pytest.param(a_record(a_control(id="17")), Reason.BAD_ID, id="a control without an email id"),
        pytest.param(a_record(a_control(ControlKind.RESCHEDULE)), Reason.BAD_VALUE, id="put off, but to no time"),
        pytest.param(a_record(a_control(ControlKind.RESCHEDULE, send_at=datetime(2026, 12, 2))), Reason.BAD_VALUE,
                     id="put off to a time without a zone"),
        pytest.param(a_record(a_control(ControlKind.RESCHEDULE, send_at=later(400 * 86_400))), Reason.BAD_VALUE,
                     id="put off by more than a year"),
        pytest.param(a_record(a_control(ControlKind.RESOLVE)), Reason.BAD_VALUE, id="resolved, but to nothing"),
        pytest.param(a_record(a_control(ControlKind.RESOLVE, to="sent")), Reason.BAD_VALUE, id="resolved to a typo"),
    ],
)  # fmt: skip
def test_a_record_that_cannot_be_taken_is_a_dead_letter_with_its_reason(record: Record, reason: Reason) -> None:
    ruling = read(record)

    assert reason_of(ruling) is reason
    letter = ruling.dead_letter  # type: ignore[union-attr]
    assert letter.record == record


@pytest.mark.parametrize(
    ("record", "id_"),
    [
        pytest.param(a_record(raw(id=ID, lane="express")), ID, id="a good id"),
        pytest.param(a_record(raw(id="17", lane="express")), None, id="no id of ours"),
        pytest.param(a_record(raw(id=17, lane="express")), None, id="no text"),
        pytest.param(a_record(raw(id="em_ffffffff_x", lane="express")), None, id="a hash that nobody can have"),
        pytest.param(a_record(raw(id="em_00000001_x")), None, id="somebody else's"),
    ],
)
def test_a_dead_letter_names_the_email_where_an_id_can_be_read(record: Record, id_: str | None) -> None:
    ruling = read(record)

    assert isinstance(ruling, Rejected)
    assert ruling.id == id_


def test_a_null_value_is_ignored() -> None:
    assert read(Record("email.requested", 0, 7, 0, b"k", None, {})) == Ignored()


def test_dead_letters_never_repeat_an_address_or_grow_with_the_record() -> None:
    """Keys of metadata and headers are the caller's own words."""
    metadata = {f"ms_{ADA}": "x", "ms_" + "/" * 300_000: "y"}

    ruling = intake.decide(asked(a_record(a_request(metadata=metadata))), None)

    assert isinstance(ruling, Rejected)
    assert ADA not in ruling.dead_letter.detail
    assert len(ruling.dead_letter.detail) <= 500


@pytest.mark.parametrize("member", ["data", "provider_options"])
def test_data_may_be_nested_32_levels_deep(member: str) -> None:
    taken = a_record(raw(**{member: {"order": 17, "name": "Ada", "deep": [1, nested(29)]}}))
    deeper = a_record(raw(**{member: {"order": 17, "deep": [1, nested(30)]}}))

    assert isinstance(read(taken), ParsedRequest)
    assert reason_of(read(deeper)) is Reason.BAD_VALUE


def test_key_and_headers_have_room_beside_the_largest_request() -> None:
    record = a_record(key=b"k" * (63 * 1024 - 100), x=b"h" * 99)

    assert isinstance(read(record), ParsedRequest)
    assert reason_of(read(with_headers(record, x=b"h" * 100))) is Reason.TOO_LARGE


def with_headers(record: Record, **headers: bytes) -> Record:
    return replace(record, headers={**record.headers, **headers})


def test_a_huge_key_does_not_keep_its_dead_letter_out_of_the_topic() -> None:
    ruling = read(a_record(key=b"k" * 10_000_000))

    assert isinstance(ruling, Rejected)
    assert len(ruling.dead_letter.key() or b"") <= 64 * 1024


# -- place and identity -------------------------------------------------------------------------------------


@given(st.integers(0, PARTITIONS - 1), st.none() | st.sampled_from([ADA.encode(), b"other", b""]))
def test_the_place_decides_and_not_the_key(partition: int, key: bytes | None) -> None:
    ruling = read(a_record(partition=partition, key=key))

    if partition == HOME:
        assert isinstance(ruling, ParsedRequest)
    else:
        assert isinstance(ruling, Misrouted)
        assert (ruling.partition, ruling.key) == (HOME, ADA.encode())


def test_a_record_is_moved_once_only() -> None:
    moved = read(a_record(partition=ELSEWHERE, mailstream_rekeyed=b"2/5"))

    assert reason_of(moved) is Reason.BAD_ID


def test_a_copy_that_was_moved_keeps_the_id_of_its_first_place() -> None:
    first = a_record(partition=ELSEWHERE, offset=41)
    moved = read(first)
    assert isinstance(moved, Misrouted)

    again = asked(a_record(moved.value, offset=99, mailstream_rekeyed=b"2/41"))

    assert again.id == email_id.of_place("email.requested", ELSEWHERE, 41, ADA)


def test_the_largest_request_can_be_moved_and_carried() -> None:
    """A copy carries an id that the first record need not have had."""
    request = a_request(text="x")
    request = structs.replace(request, text="x" * (MAX - len(codec.encode(request)) + 1))
    first = a_record(request, partition=ELSEWHERE)
    assert len(first.value or b"") == MAX

    moved = read(first)

    assert isinstance(moved, Misrouted)
    assert asked(a_record(moved.value, mailstream_rekeyed=b"2/7"))
    assert asked(a_record(moved.value, mailstream_carried=b"7"))
    assert reason_of(read(a_record(moved.value))) is Reason.TOO_LARGE


@pytest.mark.parametrize(
    ("record", "same"),
    [
        pytest.param(a_record(a_request(id=ID)), ID, id="the id that API and CLI draw"),
        pytest.param(
            a_record(a_request(source="shop", idempotency_key="17")), email_id.derived("default", "shop", "17", ADA),
            id="from source and idempotency key",
        ),
        pytest.param(
            a_record(ce_source=b"shop", ce_id=b"17"),
            email_id.derived("default", "shop", "17", ADA), id="from the CloudEvents attributes",
        ),
        pytest.param(a_record(), email_id.of_place("email.requested", HOME, 7, ADA), id="from its place"),
    ],
)  # fmt: skip
def test_the_id_follows_from_the_record(record: Record, same: str) -> None:
    assert asked(record).id == same
    assert asked(record).id == same, "read again after a crash"


def test_one_mailbox_in_many_spellings_is_one_email() -> None:
    spellings = ["ada@example.com", "Ada@Example.com", "ADA@EXAMPLE.COM"]

    assert len({asked(a_record(a_request(to, idempotency_key="17"))).id for to in spellings}) == 1


def test_another_tenant_source_key_or_recipient_is_another_email() -> None:
    base = {"tenant": "t", "source": "s", "idempotency_key": "k"}
    ids = {intake.read(a_record(a_request(**base | change)), RULES, NOW.timestamp()).id  # type: ignore[union-attr]
           for change in ({}, {"tenant": "u"}, {"source": "u"}, {"idempotency_key": "u"})}  # fmt: skip

    assert len(ids) == 4


mailboxes = st.builds(
    "{}@{}".format, st.text(min_size=1, max_size=20), st.sampled_from(["example.com", "exämple.org", "例え.jp"])
)


@given(mailboxes)
def test_an_email_lands_where_its_id_says(address: str) -> None:
    try:
        hash_ = recipient_hash(canonical(address))
    except BadAddress:
        return
    partition = partition_of(hash_, PARTITIONS)

    ruling = read(a_record(a_request(address), partition=partition))

    if not isinstance(ruling, Rejected):
        assert isinstance(ruling, ParsedRequest)
        assert ruling.recipient == hash_ == email_id.hash_in(ruling.id)
        assert email_id.partition_in(ruling.id, PARTITIONS) == partition


def test_a_fingerprint_is_made_where_none_came_and_kept_where_one_did() -> None:
    assert asked(a_record()).request.fingerprint == fingerprint_of(a_request())
    assert asked(a_record(a_request(fingerprint="f"))).request.fingerprint == "f"


# -- age and faults -----------------------------------------------------------------------------------------

WEEK = 7 * 86_400.0


@pytest.mark.parametrize(
    ("record", "is_too_old"),
    [
        pytest.param(a_record(age_seconds=WEEK), False, id="a record of a week"),
        pytest.param(a_record(age_seconds=WEEK + 1), True, id="an older one"),
        pytest.param(a_record(a_request(requested_at=later(-WEEK - 1))), True, id="asked long ago, written just now"),
        pytest.param(a_record(a_request(requested_at=later(60)), age_seconds=WEEK + 1), True, id="the older of both"),
        pytest.param(a_record(a_request(requested_at=later(-WEEK - 1)), mailstream_carried=b"7"), False,
                     id="of a carried copy the record's age counts"),
        pytest.param(a_record(a_request(requested_at=later(-WEEK - 1)), age_seconds=WEEK + 1, mailstream_carried=b"7"),
                     True, id="but that does"),
        pytest.param(a_record(a_request(requested_at=datetime(1, 1, 1))), True,
                     id="a time without a zone at the beginning of all times"),
        pytest.param(a_record(a_request(requested_at=datetime(2026, 12, 1, 9))), False, id="without a zone is UTC"),
    ],
)  # fmt: skip
def test_what_was_asked_long_ago_may_have_been_sent_and_forgotten(record: Record, is_too_old: bool) -> None:
    ruling = intake.decide(asked(record), None)

    assert isinstance(ruling, Rejected) == is_too_old
    if is_too_old:
        assert reason_of(ruling) is Reason.EVENT_TOO_OLD


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        pytest.param(a_request(subject=None), Reason.BAD_VALUE, id="no subject"),
        pytest.param(a_request(subject="a\r\nBcc: eve@example.com"), Reason.BAD_VALUE, id="a line break"),
        pytest.param(a_request("ada@exam..com"), Reason.BAD_ADDRESS, id="no mail can go there"),
        pytest.param(a_request(send_at=datetime(2026, 12, 2)), Reason.BAD_VALUE, id="a time without a zone"),
        pytest.param(a_request(from_=Address("eve@example.com")), Reason.SENDER_NOT_ALLOWED, id="not our sender"),
        pytest.param(a_request(tenant="t" * 256), Reason.BAD_VALUE, id="a tenant too long for every status"),
        pytest.param(a_request(fingerprint="f" * 256), Reason.BAD_VALUE, id="a fingerprint too long as well"),
    ],
)
def test_a_new_email_with_a_fault_is_rejected_by_its_id(request_: EmailRequest, reason: Reason) -> None:
    partition = partition_of(recipient_hash(canonical(request_.to.email)), PARTITIONS)
    found = asked(a_record(request_, partition=partition))

    ruling = intake.decide(found, None)

    assert reason_of(ruling) is reason
    assert ruling.id == found.id  # type: ignore[union-attr]


@pytest.mark.parametrize("sender", ["shop@example.com", "Shop@Example.com", "anyone@news.example.com"])
def test_an_allowed_sender_is_allowed_in_any_spelling(sender: str) -> None:
    assert isinstance(intake.decide(asked(a_record(a_request(from_=Address(sender)))), None), New)


# -- beside what is known -----------------------------------------------------------------------------------

KNOWN = a_status(request=structs.replace(a_request(id=ID), fingerprint=fingerprint_of(a_request())))
REPEAT = a_record(a_request(id=ID), offset=50)
OTHER_CONTENT = a_record(a_request(id=ID, text="Another text"), offset=50)


@pytest.mark.parametrize(
    ("record", "known", "expected"),
    [
        pytest.param(REPEAT, None, New, id="nothing known: new"),
        pytest.param(REPEAT, KNOWN, Known, id="the same again: known"),
        pytest.param(REPEAT, a_status(Status.SENT, 1, fingerprint=KNOWN.fingerprint), Known, id="even when it is sent"),
        pytest.param(a_record(a_request(id=ID), offset=7), KNOWN, Known, id="the very record read again"),
        pytest.param(a_record(a_request(id=ID, text="x"), offset=7), KNOWN, Known, id="whatever is in it"),
        pytest.param(OTHER_CONTENT, KNOWN, Reason.ID_CONFLICT, id="the same id with other content"),
        pytest.param(a_record(a_request(id=ID, tenant="eve"), offset=50), KNOWN, Reason.ID_CONFLICT,
                     id="the same id of another tenant"),
        pytest.param(a_record(a_request(id=ID, subject=None), offset=50), structs.replace(KNOWN, fingerprint=None),
                     Reason.BAD_VALUE, id="a bad repeat is only a dead letter"),
        pytest.param(a_record(a_request(id=ID), offset=50, age_seconds=WEEK + 1), KNOWN, Known,
                     id="an old repeat of a known email sends nothing and is no fault"),
        pytest.param(a_record(a_request(id=ID), offset=50, mailstream_carried=b"7"), KNOWN, Carried, id="carried"),
        pytest.param(a_record(a_request(id=ID), offset=50, mailstream_carried=b"7"), None, New,
                     id="carried, and its status lost"),
        pytest.param(REPEAT, fold.rejected(email_id=ID, recipient=f"{HASH:08x}", place=KNOWN.request, at=NOW,  # type: ignore[arg-type]
                                           reason="BAD_VALUE", detail="", writer="w"), Reason.ID_CONFLICT,
                     id="an id that was rejected stays so, and says it"),
    ],
)  # fmt: skip
def test_a_record_means_what_it_says_beside_what_is_known(
    record: Record, known: EmailStatus | None, expected: type | Reason
) -> None:
    ruling = intake.decide(asked(record), known)

    if isinstance(expected, Reason):
        assert reason_of(ruling) is expected
        assert ruling.id is None, "a bad repeat must not touch the email"  # type: ignore[union-attr]
    else:
        assert isinstance(ruling, expected)


def test_a_template_that_does_not_render_is_a_fault_of_a_new_email() -> None:
    found = replace(asked(a_record()), fault=(Reason.TEMPLATE_FAILED, "welcome: data has no name"))

    assert reason_of(intake.decide(found, None)) is Reason.TEMPLATE_FAILED


# -- controls -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "control",
    [
        pytest.param(a_control(), id="cancel"),
        pytest.param(a_control(ControlKind.RESCHEDULE, send_at=later(60)), id="reschedule"),
        pytest.param(a_control(ControlKind.RESCHEDULE, send_at=later(-60)), id="to a time that has come"),
        *(pytest.param(a_control(ControlKind.RESOLVE, to=to), id=f"resolve to {to}")
          for to in ("SENT", "UNCONFIRMED", "RESEND")),
    ],
)  # fmt: skip
def test_a_control_is_for_the_owner_of_its_email(control: Control) -> None:
    record = a_record(control, key=ID.encode())

    assert read(record) == Controlled(record, control)
    assert read(a_record(control, partition=ELSEWHERE)) == Misrouted(HOME, ID.encode(), codec.encode(control))
    assert reason_of(read(a_record(control, partition=ELSEWHERE, mailstream_rekeyed=b"0/1"))) is Reason.BAD_ID


def test_what_a_control_says_is_kept_short() -> None:
    ruling = read(a_record(a_control(by="b" * 90_000, reason="r" * 90_000)))

    assert isinstance(ruling, Controlled)
    assert (len(ruling.control.by), len(ruling.control.reason)) == (255, 500)


# -- batches ------------------------------------------------------------------------------------------------


def unfolded(batch: Batch, **members: Any) -> tuple[EmailRequest, ...]:
    ruling = read(a_record(batch, partition=2, **members))
    assert isinstance(ruling, Unfold)
    assert ruling.fault is None
    return tuple(request_in(item) for item in ruling.items)


def request_in(item: Item) -> EmailRequest:
    request = codec.decode_requested(item.value)
    assert isinstance(request, EmailRequest)
    assert item.id == request.id
    return request


def test_a_batch_may_lie_anywhere_and_each_item_finds_its_place() -> None:
    items = unfolded(Batch(items=(a_request(), a_request("bob@example.com"))))

    for item in items:
        assert item.id is not None
        partition = email_id.partition_in(item.id, PARTITIONS)
        assert asked(a_record(item, partition=partition)).id == item.id


def test_an_item_without_identity_has_the_same_id_each_time_the_batch_is_read() -> None:
    """It is read again after a crash, and published again at other offsets."""
    batch = Batch(items=(a_request(), a_request(), a_request(source="shop", idempotency_key="17")))

    once, again = unfolded(batch), unfolded(batch)

    assert once == again
    assert len({item.id for item in once}) == 3
    assert once[2].id == email_id.derived("default", "shop", "17", ADA)
    assert unfolded(batch, offset=8)[0].id != once[0].id


def test_an_item_is_as_old_as_its_batch() -> None:
    (item,) = unfolded(Batch(items=(a_request(),)), age_seconds=3600)

    assert item.requested_at == later(-3600)


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        pytest.param(a_request("nobody"), Reason.BAD_ADDRESS, id="an address that has no place"),
        pytest.param(a_request(id="em_00000001_x"), Reason.BAD_ID, id="an id of another recipient"),
        pytest.param(a_request(subject=None), Reason.BAD_VALUE, id="a mail without a subject"),
        pytest.param(a_request(from_=Address("eve@example.com")), Reason.SENDER_NOT_ALLOWED, id="not our sender"),
        pytest.param(a_request(requested_at=later(-WEEK - 1)), Reason.EVENT_TOO_OLD, id="asked long ago"),
    ],
)
def test_one_bad_item_refuses_the_whole_batch_and_each_item_is_told(item: EmailRequest, reason: Reason) -> None:
    batch = Batch(items=(a_request(tenant="shop"), structs.replace(item, tenant="shop")), id="em_00000001_b")

    ruling = read(a_record(batch))

    assert isinstance(ruling, Unfold)
    assert ruling.fault is not None
    assert ruling.fault[0] is reason
    assert ruling.fault[1].startswith("item 1: ")
    assert len(ruling.items) == 2
    good = own_record(ruling, 0)
    settled = intake.decide(asked(good), None)
    assert reason_of(settled) is reason
    assert isinstance(settled, Rejected)
    assert (settled.id, settled.tenant) == (ruling.items[0].id, "shop")
    assert settled.dead_letter.record.value == good.value, "what is asked for again one day"


def own_record(unfold: Unfold, index: int) -> Record:
    """The record of an item, as its owner reads it."""
    item = unfold.items[index]
    return Record("email.requested", item.partition, 99, int(NOW.timestamp() * 1000), item.key, item.value,
                    dict(unfold.headers()))  # fmt: skip


def refused(*items: EmailRequest, **members: Any) -> Unfold:
    ruling = read(a_record(Batch(items=items, **members), age_seconds=WEEK + 1))
    assert isinstance(ruling, Unfold)
    return ruling


def test_an_item_that_was_taken_before_its_batch_was_refused_is_left_alone() -> None:
    record = own_record(refused(a_request(id=ID)), 0)

    for status in (Status.QUEUED, Status.SENT, Status.REJECTED):
        assert intake.decide(asked(record), a_status(status)) == Known(ID)


def test_an_item_that_cannot_be_read_is_refused_with_its_batch_and_told_to_its_tenant() -> None:
    ruling = read(a_record(raw_batch({"id": ID, "tenant": "shop", "to": 7}, {"to": 8})))

    assert isinstance(ruling, Unfold)
    first, second = (read(own_record(ruling, index)) for index in range(2))
    assert (reason_of(first), reason_of(second)) == (Reason.BAD_SHAPE, Reason.BAD_SHAPE)
    assert (first.id, first.tenant) == (ID, "shop")  # type: ignore[union-attr]
    assert second.id is None  # type: ignore[union-attr]


def raw_batch(*items: Any) -> bytes:
    return json.dumps({"kind": "batch", "items": items}).encode()


def test_a_batch_with_nobody_to_tell_is_one_dead_letter() -> None:
    record = a_record(raw_batch({"to": 7}))

    ruling = read(record)

    assert reason_of(ruling) is Reason.BAD_SHAPE
    assert ruling.dead_letter.record == record  # type: ignore[union-attr]


def test_a_refused_record_is_never_unfolded_again() -> None:
    ruling = read(a_record(raw_batch({"id": ID, "kind": "batch", "items": [json.loads(raw(id=ID))]}, {"id": f"{ID}2"})))
    assert isinstance(ruling, Unfold)

    for index in range(2):
        assert isinstance(read(own_record(ruling, index)), Rejected)


def test_a_batch_under_a_key_is_remembered_in_each_of_its_items() -> None:
    for item in unfolded(Batch(items=(a_request(), a_request("bob@example.com")), id="em_1_b", fingerprint="f")):
        assert item.batch == InBatch("em_1_b", "f")
        assert fingerprint_of(item) == fingerprint_of(structs.replace(item, batch=None))
    assert unfolded(Batch(items=(a_request(),), id="em_1_b"))[0].batch is None


def test_a_record_that_only_claims_a_batch_id_is_nothing_to_unfold() -> None:
    assert unfolded(Batch(items=(), id="em_1_b", fingerprint="f")) == ()


def test_the_largest_item_of_a_batch_may_have_a_record_of_its_own() -> None:
    room = MAX - len(codec.encode(Batch(items=(a_request(text=""),), id="em_00000001_b", fingerprint="f" * 64)))
    batch = Batch(items=(a_request(text="x" * room),), id="em_00000001_b", fingerprint="f" * 64)
    assert len(codec.encode(batch)) <= MAX
    ruling = read(a_record(batch))
    assert isinstance(ruling, Unfold)

    assert asked(own_record(ruling, 0)).fault is None


# -- whose email it is --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "record",
    [
        pytest.param(raw(id=ID, tenant="shop", subject="a\nb"), id="a mail that cannot be sent"),
        pytest.param(raw(id=ID, tenant="shop", lane="fast"), id="a member that cannot be read"),
        pytest.param(raw(id=ID, tenant="shop", template="t", data={"a": nested(40)}), id="nested too deep"),
        pytest.param(raw(id=ID, tenant="shop", requested_at=later(-WEEK - 1).isoformat()), id="asked long ago"),
        pytest.param(raw(id=ID, tenant="shop", text="x" * MAX), id="too large"),
    ],
)
def test_a_rejected_email_keeps_its_tenant(record: bytes) -> None:
    ruling: Any = read(a_record(record))

    settled = intake.decide(ruling, None) if isinstance(ruling, ParsedRequest) else ruling

    assert isinstance(settled, Rejected)
    assert (settled.id, settled.tenant) == (ID, "shop")


def test_a_version_of_tomorrow_is_told_to_its_tenant_too() -> None:
    ruling = read(a_record(raw(id=ID, tenant="shop"), mailstream_record=b"email.requested.v9"))

    assert isinstance(ruling, Rejected)
    assert (ruling.id, ruling.tenant) == (ID, "shop")


def test_a_bad_control_record_rejects_no_email() -> None:
    """Its id is that of an email which may be asked for in a record that comes later."""
    for bad in (b'{"kind":"cancel","id":"%s","tenant":7}', b'{"kind":"explode","id":"%s"}'):
        ruling = read(a_record(bad.replace(b"%s", ID.encode())))
        assert isinstance(ruling, Rejected)
        assert ruling.id is None
