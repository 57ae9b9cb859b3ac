"""What the worker may refuse the API refuses before the 202: for each reason how, or why it cannot happen there."""

from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.content import Content, parse
from api.keys import DEV_KEY
from api.problems import Problem
from api.schemas import EmailBody
from mailstream.domain import codec, senders
from mailstream.domain.dead_letter import Reason
from mailstream.domain.recipient import canonical, partition_of, recipient_hash
from mailstream.domain.record import Record
from mailstream.domain.request import Control, ControlKind, EmailRequest
from mailstream.domain.validation import mistakes_of_control
from mailstream.settings import Settings
from streams.core import intake
from streams.core.intake import ParsedRequest, Rejected, Rules, Ruling

NOW = datetime(2026, 12, 1, 9, tzinfo=UTC)
ADA = "ada@example.com"
PLAIN = {"to": ADA, "subject": "Hello", "text": "Hi"}
SETTINGS = Settings(_env_file=None, sender="shop@example.com")
PARTITIONS = 4


class Refused(NamedTuple):
    """A body that the API refuses with this code, and the same in a record, which the worker refuses for the reason."""

    members: dict[str, Any]
    code: str


def nested(levels: int) -> Any:
    return {"a": nested(levels - 1)} if levels else 1


#: Each reason: how the API refuses it, or why a record of the API can never have it, or what its tenant sees then.
DOOR: dict[Reason, list[Refused] | str] = {
    Reason.NOT_JSON: "a record is encoded by us; what is nested deeper than 32 levels is refused as BAD_VALUE",
    Reason.BAD_SHAPE: "a record is encoded by us from the struct that the worker decodes: see the round trip below",
    Reason.BAD_VALUE: [
        Refused({"subject": "a\nb"}, "control_character"),
        Refused({"subject": None}, "missing"),
        Refused({"template": "t", "subject": None, "text": None, "data": nested(33)}, "bad_value"),
        Refused({"cc": [ADA]}, "repeated"),
        Refused({"headers": {"To": "x"}}, "forbidden_header"),
        Refused({"attachments": [{"filename": "a", "content": "?"}]}, "not_base64"),
        Refused({"tags": ["a", "a"]}, "repeated"),
        Refused({"metadata": {"ms_id": "x"}}, "reserved"),
        Refused({"reference": "\u2028"}, "control_character"),
        Refused({"send_at": "2028-12-01T09:00:00Z"}, "too_far"),
    ],
    Reason.BAD_ADDRESS: [Refused({"to": "nobody"}, "bad_address")],
    Reason.BAD_ID: "the id is made of the recipient's hash, in the partition of that hash",
    Reason.UNKNOWN_KIND: "a body has no member `kind`, and the version in the header is ours",
    Reason.UNKNOWN_ID: "only an email that the log has is cancelled or put off; one of a strict batch names the batch",
    Reason.ID_CONFLICT: "the first record with an id decides, and is read back before the answer: 422",
    Reason.TOO_LARGE: "413, from the bytes of the record itself: tests/integration/api/test_batch.py",
    Reason.SENDER_NOT_ALLOWED: [Refused({"from": "eve@example.org"}, "sender_not_allowed")],
    Reason.EVENT_TOO_OLD: "the API dates it with the brokers' time; if no worker comes for MAX_EVENT_AGE: REJECTED",
    Reason.TEMPLATE_FAILED: [Refused({"template": "t", "subject": None, "text": None}, "template_failed")],
    Reason.MAPPING_FAILED: "only for domain events",
    Reason.BAD_EVENT: "only for webhook posts and domain events",
}


def read(request: EmailRequest, now: datetime = NOW) -> Ruling:
    rules = Rules(PARTITIONS, 7 * 86_400.0, senders.of_account(SETTINGS.sender, SETTINGS.senders_allowed))
    try:
        hash_ = recipient_hash(canonical(request.to.email))
    except ValueError:
        hash_ = 0
    record = Record("email.requested", partition_of(hash_, PARTITIONS), 7, int(now.timestamp() * 1000), b"k",
                      codec.encode(request), {})  # fmt: skip
    return intake.read(record, rules, now.timestamp())


async def settled(body: bytes) -> EmailRequest:
    return await Content(SETTINGS).settled(parse(EmailBody, body).request(), DEV_KEY, NOW, "POST /v1/emails", None)


def a_body(members: dict[str, Any]) -> bytes:
    return msgspec.json.encode({name: value for name, value in (PLAIN | members).items() if value is not None})


def test_every_reason_has_its_place_here() -> None:
    assert set(DOOR) == set(Reason)


@pytest.mark.parametrize(
    ("reason", "refused"),
    [
        pytest.param(reason, each, id=f"{reason} {each.code} {number}")
        for reason, found in DOOR.items()
        if isinstance(found, list)
        for number, each in enumerate(found)
    ],
)
async def test_what_the_worker_would_refuse_gets_no_202(reason: Reason, refused: Refused) -> None:
    body = a_body(refused.members)

    with pytest.raises(Problem) as problem:
        await settled(body)

    codes = {mistake.code for mistake in problem.value.errors} | {problem.value.code.word}
    assert refused.code in codes
    if reason is Reason.TEMPLATE_FAILED:
        return  # found out when the worker renders, not by intake
    ruling = read(parse(EmailBody, body).request())
    settled_ = intake.decide(ruling, None) if isinstance(ruling, ParsedRequest) else ruling
    assert isinstance(settled_, Rejected)
    assert settled_.dead_letter.reason is reason


@pytest.mark.parametrize(
    "send_at", [None, NOW.replace(tzinfo=None), NOW + timedelta(days=400)], ids=["none", "no zone", "too far"]
)
def test_a_word_that_the_worker_would_refuse_is_refused_by_the_same_check(send_at: datetime | None) -> None:
    control = Control(kind=ControlKind.RESCHEDULE, id="em_00000001_x", send_at=send_at)

    assert mistakes_of_control(control, now=NOW)
    record = Record("email.requested", 1, 7, 0, None, codec.encode(control), {})
    assert isinstance(intake.read(record, Rules(PARTITIONS, 1.0, frozenset()), NOW.timestamp()), Rejected)


async def test_a_clock_of_a_worker_that_is_slow_refuses_nothing_that_the_api_let_in() -> None:
    request = await settled(a_body({"send_at": (NOW + timedelta(days=366)).isoformat()}))

    ruling = read(request, NOW - timedelta(minutes=5))

    assert isinstance(ruling, ParsedRequest)
    assert ruling.fault is None


plain_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
members = st.fixed_dictionaries(
    {},
    optional={
        "subject": st.text(),
        "text": st.text(),
        "html": st.text(),
        "from": st.sampled_from(["shop@example.com", "SHOP@example.com", "eve@example.org"]),
        "to": st.sampled_from([ADA, "Ada@EXAMPLE.com", "ü@exämple.com", "a@b", {"email": ADA, "name": "A, B"}]),
        "reply_to": st.sampled_from([ADA, "x"]),
        "cc": st.lists(st.sampled_from([ADA, "b@example.com", "x"]), max_size=3),
        "headers": st.dictionaries(st.text(max_size=80), st.text(), max_size=3),
        "data": st.dictionaries(st.text(max_size=5), plain_json, max_size=3),
        "send_at": st.datetimes(timezones=st.just(UTC)).map(datetime.isoformat),
        "expires_at": st.datetimes(timezones=st.just(UTC)).map(datetime.isoformat),
        "reference": st.text(max_size=300),
        "tags": st.lists(st.text(max_size=260), max_size=11),
        "metadata": st.dictionaries(st.text(max_size=260), st.text(), max_size=3),
        "lane": st.sampled_from(["critical", "bulk"]),
        "test": st.booleans(),
    },
)


@given(members)
async def test_whatever_gets_a_202_is_taken_by_the_worker(given_: dict[str, Any]) -> None:
    try:
        request = await settled(a_body(given_))
    except Problem:
        return

    ruling = read(request)

    assert isinstance(ruling, ParsedRequest)
    assert ruling.fault is None
    assert ruling.id == request.id
