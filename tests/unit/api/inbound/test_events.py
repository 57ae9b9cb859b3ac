"""An element of the webhook is an event or a named mistake, whatever is in it."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.inbound.events import BadEvent, event_of, suppresses
from mailstream.domain import codec, email_id
from mailstream.domain.suppression import Origin

ID = email_id.new("ada@example.com")


def an_element(**members: Any) -> dict[str, Any]:
    return {
        "email": "ada@example.com",
        "event": "delivered",
        "timestamp": 1795000000,
        "sg_event_id": "abc",
        "sg_message_id": "14c5d75ce93.dfd.64b469.filter0001.16648.5515E0B88.0",
        "ms_id": ID,
        "ms_attempt": "2",
        "ms_nonce": "n",
    } | members


def test_an_event_names_email_attempt_and_message() -> None:
    event, address = event_of(an_element())

    assert (event.id, event.attempt, event.nonce) == (ID, 2, "n")
    assert (event.event, event.at.timestamp(), event.message_id) == ("delivered", 1795000000, "14c5d75ce93")
    assert event.is_recipient
    assert address == "ada@example.com"


def test_an_event_about_a_copy_is_no_event_about_the_recipient() -> None:
    event, address = event_of(an_element(email="Copy@Example.com"))

    assert not event.is_recipient
    assert address == "copy@example.com"


def test_the_smtp_id_names_the_message_when_nothing_else_does() -> None:
    event, _ = event_of(an_element(sg_message_id=None, **{"smtp-id": "<14c5d75ce93@ismtpd-555>"}))

    assert event.message_id == "14c5d75ce93"


def test_an_id_that_is_none_of_ours_makes_an_orphan() -> None:
    for foreign in (None, 5, "", "em_", "x" * 500, ["a"]):
        assert event_of(an_element(ms_id=foreign))[0].id is None


def test_a_repeat_under_another_event_id_is_the_same_fact() -> None:
    one, again = event_of(an_element())[0], event_of(an_element(sg_event_id="other"))[0]
    other = event_of(an_element(timestamp=1795000001))[0]

    assert one.dedupe == again.dedupe != other.dedupe


def test_reasons_are_kept_without_addresses_and_links() -> None:
    element = an_element(
        event="bounce", reason="550 5.1.1 <ada@example.com>: unknown " + "x" * 900, ip="203.0.113.5",
        useragent="Mozilla", url="https://example.com/?token=s3cret", category=["a"], tls=1, type="bounce",
    )  # fmt: skip

    detail = event_of(element)[0].detail

    assert detail["reason"].startswith("550 5.1.1 <<address>>: unknown")
    assert len(detail["reason"]) == 500
    assert set(detail) == {"reason", "type"}


@pytest.mark.parametrize(
    ("element", "why"),
    [
        pytest.param(5, "not an object", id="a number"),
        pytest.param(None, "not an object", id="null"),
        pytest.param([], "not an object", id="a list"),
        pytest.param(an_element(event=None), "names no event", id="no name"),
        pytest.param(an_element(event="a b"), "names no event", id="a name that is none"),
        pytest.param(an_element(timestamp=None), "time", id="no time"),
        pytest.param(an_element(timestamp=True), "time", id="a truth for a time"),
        pytest.param(an_element(timestamp=10**20), "time", id="a time beyond all"),
        pytest.param(an_element(timestamp="soon"), "time", id="words for a time"),
    ],
)
def test_a_bad_element_says_what_is_wrong(element: Any, why: str) -> None:
    with pytest.raises(BadEvent, match=why):
        event_of(element)


@pytest.mark.parametrize(
    ("members", "origin"),
    [
        pytest.param({"event": "bounce", "type": "bounce"}, Origin.BOUNCE, id="bounced for good"),
        pytest.param({"event": "bounce", "type": "blocked"}, None, id="refused for now"),
        pytest.param({"event": "spamreport"}, Origin.COMPLAINT, id="a complaint"),
        pytest.param({"event": "unsubscribe"}, Origin.UNSUBSCRIBE, id="unsubscribed"),
        pytest.param({"event": "dropped", "reason": "Bounced Address"}, Origin.PROVIDER, id="the provider's own list"),
        pytest.param({"event": "dropped", "reason": "Recipient List over Package Quota"}, None, id="nothing of theirs"),
        pytest.param({"event": "delivered"}, None, id="delivered"),
    ],
)
def test_an_event_suppresses_its_address_when_it_says_so(members: dict[str, Any], origin: Origin | None) -> None:
    assert suppresses(event_of(an_element(**members))[0]) is origin


TEXT = st.text(max_size=20)
JSON = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), TEXT, st.lists(TEXT), st.dictionaries(TEXT, TEXT)
)
NAMES = st.sampled_from([*an_element(), "reason", "response", "type", "attempt", "url", "smtp-id", "status"])


@given(element=st.dictionaries(NAMES, JSON), base=st.booleans())
def test_any_element_is_an_event_or_a_mistake(element: dict[str, Any], base: bool) -> None:
    try:
        event, _ = event_of((an_element() if base else {}) | element)
    except BadEvent:
        return
    assert codec.decode_event(codec.encode(event)) == event
