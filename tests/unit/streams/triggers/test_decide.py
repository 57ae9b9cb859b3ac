from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailstream.domain import email_id
from mailstream.domain.dead_letter import Reason
from mailstream.domain.request import Address, ControlKind, Lane, OnAmbiguous
from streams.core.trigger_result import TriggerResult
from streams.triggers import decide
from streams.triggers.decide import Decision
from streams.triggers.event import Received
from streams.triggers.rules import Rules
from tests.support.domain_events import (
    NOW,
    as_bytes,
    cloud_event,
    decision_on,
    example_rules,
    judged,
    received,
    rules_with,
    shipped,
)  # fmt: skip


def test_an_event_asks_for_one_rendered_mail_to_its_recipient() -> None:
    (mail,) = decision_on(cloud_event()).requests

    assert mail.to == Address("ada@example.com", "Ada")
    assert mail.subject == "Your order 1042 is on its way"
    assert mail.template == "order-shipped"
    assert mail.data == {}
    assert mail.id == email_id.derived("dev", "/shop", "1042-shipped/order-shipped", "ada@example.com")
    assert mail.reference == "1042"


def test_the_id_follows_from_the_events_identity_alone() -> None:
    def ids(value: Any, rules: Rules | None = None, **where: Any) -> list[str | None]:
        return [mail.id for mail in decision_on(value, rules, **where).requests]

    first = ids(cloud_event())

    assert ids(cloud_event(time="2026-11-24T09:30:00Z"), offset=99, partition=3) == first
    assert ids(cloud_event(shipped(email="ADA@example.COM"))) == first
    assert ids(cloud_event(id="1043-shipped")) != first
    assert ids(cloud_event(source="/other")) != first
    assert ids(cloud_event(shipped(email="bob@example.com"))) != first
    assert ids(cloud_event(), rules_with(tenant="dev", name="other")) != first
    assert ids(cloud_event(), rules_with(tenant="other", name="order-shipped")) != first


def test_an_identity_of_the_rules_choice_replaces_the_events_id() -> None:
    rules = rules_with(identity="data.order")

    first, second = (decision_on(cloud_event(id=id_), rules).requests[0].id for id_ in ("a", "b"))

    assert first == second


def test_the_fingerprint_is_of_what_was_asked_and_not_of_the_template() -> None:
    def fingerprint(value: Any, **members: Any) -> str | None:
        return decision_on(value, rules_with(**members)).requests[0].fingerprint

    assert fingerprint(cloud_event()) == fingerprint(cloud_event(), tags=["x"])
    assert fingerprint(cloud_event()) != fingerprint(cloud_event(shipped("1043")))


def test_everything_a_rule_says_is_in_the_request() -> None:
    rules = rules_with(
        lane="critical", delay="2h", expires_after="1d", tenant="shop", from_name="The shop", reply_to="help@example.com",
        reference="data.order", tags=["order"], on_ambiguous="resend", unsubscribe=True, **{"from": "shop@example.com"},
    )  # fmt: skip

    (mail,) = decision_on(cloud_event(), rules).requests

    assert mail.lane is Lane.CRITICAL
    assert mail.send_at == datetime(2026, 11, 24, 11, tzinfo=UTC)
    assert mail.expires_at == datetime(2026, 11, 25, 11, tzinfo=UTC)
    assert mail.tenant == "shop"
    assert mail.from_ == Address("shop@example.com", "The shop")
    assert mail.reply_to == Address("help@example.com")
    assert mail.tags == ("order",)
    assert mail.on_ambiguous is OnAmbiguous.RESEND
    assert mail.unsubscribe
    assert mail.requested_at == NOW


@pytest.mark.parametrize(
    ("to", "addresses"),
    [
        ("data.customer", ["ada@example.com"]),
        ("data.customer.email", ["ada@example.com"]),
        ("[data.customer.email, 'bob@example.com']", ["ada@example.com", "bob@example.com"]),
        ("[data.customer, 'ADA@example.com']", ["ada@example.com"]),
        ("'ops@example.com'", ["ops@example.com"]),
    ],
)
def test_each_recipient_gets_one_mail(to: str, addresses: list[str]) -> None:
    assert [mail.to.email for mail in decision_on(cloud_event(), rules_with(to=to)).requests] == addresses


@pytest.mark.parametrize(
    ("when", "applies"),
    [
        ("data.parcel", True),
        ("data.nothing", False),
        ("data.parcel == 'P-1'", True),
        ("length(data.order) > `9`", False),
        ("data.customer.email && !(data.cancelled)", True),
        ("`0`", True),
        ("''", False),
    ],
)
def test_a_rule_applies_when_its_condition_is_true(when: str, applies: bool) -> None:
    decision = decision_on(cloud_event(), rules_with(when=when))

    assert bool(decision.requests) is applies
    assert decision.failures == ()
    assert decision.why_not == (None if applies else f"when: {when}")


@pytest.mark.parametrize(
    ("event", "members", "reason", "told"),
    [
        (shipped(email="nobody"), {}, Reason.BAD_ADDRESS, "rule shipped: to: the address needs"),
        (shipped(email="a@b"), {}, Reason.BAD_ADDRESS, "rule shipped: /to/email"),
        (shipped(name="Ada\nBcc: x"), {}, Reason.BAD_ADDRESS, "rule shipped: /to/name: control characters"),
        (
            {"order": "1", "parcel": "2"},
            {},
            Reason.MAPPING_FAILED,
            "rule shipped: to: 'data.customer' found no recipient",
        ),
        (shipped(), {"to": "data.order"}, Reason.BAD_ADDRESS, "rule shipped: to"),
        (shipped(), {"to": "`[]`"}, Reason.MAPPING_FAILED, "found no recipient"),
        (shipped(), {"to": "`7`"}, Reason.BAD_ADDRESS, "neither an address nor an object"),
        (shipped(), {"when": "length(data.missing)"}, Reason.MAPPING_FAILED, "does not fit the event"),
        (shipped(), {"send_at": "data.order"}, Reason.MAPPING_FAILED, "send_at: 'data.order' gave no RFC 3339"),
        (shipped(), {"identity": "data.nothing"}, Reason.MAPPING_FAILED, "identity: 'data.nothing' gave no"),
        (shipped(), {"reference": "data.customer"}, Reason.MAPPING_FAILED, "reference: 'data.customer' gave neither"),
        (shipped(parcel=None), {}, Reason.TEMPLATE_FAILED, "rule shipped: order-shipped/1/en/body.txt line 3"),
        (shipped("a\nb"), {}, Reason.TEMPLATE_FAILED, "control character"),
        (shipped(), {"send_at": "'2030-01-01T00:00:00Z'"}, Reason.BAD_VALUE, "/send_at"),
    ],
)
def test_a_rule_that_gives_no_mail_says_why_and_repeats_no_value(
    event: dict[str, Any], members: dict[str, Any], reason: Reason, told: str
) -> None:
    decision = decision_on(cloud_event(event), rules_with(**members))

    assert decision.requests == ()
    (failure,) = decision.failures
    assert failure.reason is reason
    assert told in failure.detail
    assert "ada" not in failure.detail.lower()


def test_one_bad_address_costs_only_its_own_mail() -> None:
    decision = decision_on(cloud_event(), rules_with(to="['nobody', data.customer]"))

    assert [mail.to.email for mail in decision.requests] == ["ada@example.com"]
    assert [failure.reason for failure in decision.failures] == [Reason.BAD_ADDRESS]


def test_an_event_that_no_rule_reads_is_left_alone_even_if_only_its_owner_can_read_it() -> None:
    headers = {"ce_specversion": "1.0", "ce_id": "1", "ce_source": "/shop", "ce_type": "order.packed"}

    for record in (received(cloud_event(type="order.packed")), received(b"\x00\xff", headers=headers), received(None)):
        assert judged(record) == decide.Ruling(TriggerResult.UNCONCERNED)


def test_an_event_older_than_the_limit_sends_nothing() -> None:
    assert judged(received(cloud_event(time="2026-11-17T10:00:01Z"))).result is TriggerResult.ASKED
    assert judged(received(cloud_event(time="2026-11-17T09:59:59Z"))).result is TriggerResult.TOO_OLD
    assert judged(received(cloud_event(), recorded_at=NOW - timedelta(days=8))).result is TriggerResult.TOO_OLD


CANCELLED = {"name": "stop", "topic": "shop.orders", "type": "order.cancelled", "to": "data.customer",
             "cancels": "shipped", "identity": "data.order"}  # fmt: skip


def test_a_cancel_names_the_email_that_the_other_rule_asked_for() -> None:
    rules = rules_with(CANCELLED, identity="data.order", delay="3d", tenant="shop")
    (mail,) = decision_on(cloud_event(), rules).requests

    decision = decision_on(cloud_event(shipped(email="ADA@example.com"), id="x", type="order.cancelled"), rules)

    (control,) = decision.controls
    assert control.id == mail.id
    assert control.kind is ControlKind.CANCEL
    assert (control.tenant, control.by, control.reason) == ("shop", "rule stop", "order.cancelled")
    assert decision.requests == ()


def test_a_cancel_from_another_service_names_the_source_that_asked() -> None:
    rules = rules_with(CANCELLED | {"source": "'/shop'"}, identity="data.order")
    (mail,) = decision_on(cloud_event(), rules).requests

    (control,) = decision_on(cloud_event(source="/billing", type="order.cancelled"), rules).controls

    assert control.id == mail.id


def test_a_cancel_is_never_too_old() -> None:
    rules = rules_with(CANCELLED, identity="data.order")

    old = cloud_event(type="order.cancelled", time="2026-01-01T00:00:00Z")

    assert len(decision_on(old, rules).controls) == 1


@pytest.mark.parametrize(
    ("data", "reason"), [({"order": 1}, Reason.MAPPING_FAILED), (shipped(order=""), Reason.MAPPING_FAILED),
                         (shipped(email="nobody"), Reason.BAD_ADDRESS)],
)  # fmt: skip
def test_a_cancel_that_names_nothing_is_a_failure(data: dict[str, Any], reason: Reason) -> None:
    decision = decision_on(cloud_event(data, type="order.cancelled"), rules_with(CANCELLED, identity="data.order"))

    assert decision.controls == ()
    assert [failure.reason for failure in decision.failures] == [reason]


def test_plain_json_without_a_type_goes_to_the_rules_for_any_type() -> None:
    rules = rules_with(type="*")

    (mail,) = decision_on(shipped(), rules, partition=1, offset=4).requests

    assert mail.idempotency_key == "1/4/shipped"
    assert mail.source == "shop.orders"


@given(
    st.binary(max_size=300) | st.none(),
    st.dictionaries(st.sampled_from(["ce_id", "ce_type", "content-type"]), st.binary()),
)
def test_no_record_can_stop_the_rules(value: bytes | None, headers: dict[str, bytes]) -> None:
    record = Received("shop.orders", 0, 0, 0, None, value, headers, "shop.orders")

    assert _judge(record).result in (TriggerResult.UNREADABLE, TriggerResult.UNCONCERNED)


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10) | st.just("ada@example.com"),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["email", "name", "x"]), inner, max_size=4)
    ),
)


@given(st.fixed_dictionaries({}, optional={"order": anything, "customer": anything, "parcel": anything}))
def test_whatever_an_event_holds_a_rule_gives_mails_or_failures(data: dict[str, Any]) -> None:
    ruling = _judge(received(as_bytes(cloud_event(data))))

    match ruling.decisions:
        case (Decision(requests=requests, failures=failures, why_not=why_not),):
            assert why_not is None
            assert requests or failures
        case _:  # a float that is no JSON
            assert ruling.result is TriggerResult.UNREADABLE, ruling
            assert [failure.reason for failure in ruling.failures] == [Reason.BAD_EVENT]


_rules = example_rules()


def _judge(record: Received) -> decide.Ruling:
    return judged(record, _rules)
