from typing import Any

import pytest

from mailstream.domain.errors import WrongRules
from mailstream.settings import Settings
from mailstream.templates.catalog import Templates
from streams.triggers import rules as rule_file
from tests.support.domain_events import TEMPLATES, example_rules, rules_with

GOOD = """
rules:
  - name: shipped
    topic: shop.orders
    type: order.shipped
    to: data.customer
    template: order-shipped
"""


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("to: data.customer", "to: 'data.['", "t.yaml line 6: rules.0.to: not a JMESPath expression"),
        ("to: data.customer", "to: 7", "t.yaml line 6: rules.0.to: expected a JMESPath expression as text"),
        ("to: data.customer", "too: data.customer", "t.yaml line 6: rules.0.too: Extra inputs are not permitted"),
        ("to: data.customer", "cc: x", "t.yaml line 3: rules.0.to: Field required"),
        (
            "to: data.customer",
            "to: x\n    delay: 3",
            "t.yaml line 7: rules.0.delay: expected a whole number with a unit",
        ),
        ("to: data.customer", "to: x\n    lane: fast", "t.yaml line 7: rules.0.lane: Input should be"),
        ("to: data.customer", "to: x\n    from: nobody", "t.yaml line 7: rules.0.from: the address needs the form"),
        ("to: data.customer", "to: x\n    delay: 1d\n    send_at: y", "line 3: rules.0: send_at and delay exclude"),
        ("to: data.customer", "to: x\n    to: y", "t.yaml line 7: to stands here a second time"),
        ("to: data.customer", "to: x\n    data: {a: '['}", "t.yaml line 7: rules.0.data.a: not a JMESPath expression"),
        ("shop.orders", "shop orders", "t.yaml line 4: rules.0.topic: String should match"),
        ("name: shipped", "name: Shipped!", "t.yaml line 3: rules.0.name: String should match"),
        ("order.shipped", "[]", "t.yaml line 5: rules.0.type: Value should have at least 1 item"),
        (GOOD, "rules: [", "t.yaml line 1: not valid YAML"),
        (GOOD, "", "t.yaml line 1: the file: Input should be"),
        (GOOD, "- a", "t.yaml line 1: the file: Input should be"),
        (GOOD, "rules: []", "t.yaml line 1: rules: List should have at least 1 item"),
    ],
)
def test_a_mistake_is_told_with_its_line_and_place(old: str, new: str, told: str) -> None:
    with pytest.raises(WrongRules) as error:
        rule_file.parse(GOOD.replace(old, new), "t.yaml")

    assert told in str(error.value)


def test_all_mistakes_are_told_at_once() -> None:
    with pytest.raises(WrongRules) as error:
        rule_file.parse("rules: [{name: A}, {to: 1}]")

    assert len(str(error.value).splitlines()) > 5


def test_two_rules_of_one_name_are_refused_because_it_is_part_of_their_ids() -> None:
    rule = GOOD.split("rules:")[1]

    with pytest.raises(WrongRules, match="two rules are called shipped"):
        rule_file.parse(f"rules:{rule}{rule.lstrip(chr(10))}")


@pytest.mark.parametrize("cancels", ["shipped", "stop", "nothing"])
def test_a_cancel_must_name_a_mail_rule_with_an_identity(cancels: str) -> None:
    cancel = {"name": "stop", "topic": "shop.orders", "type": "x", "to": "a", "identity": "b", "cancels": cancels}

    with pytest.raises(WrongRules, match=f"rule stop: {cancels} must be a rule with a template and an identity"):
        rules_with(cancel)


def test_rules_are_found_by_topic_and_type() -> None:
    rules = rule_file.parse(
        GOOD + GOOD.split("rules:")[1].replace("shipped\n", "any\n", 1).replace("order.shipped", "'*'")
    )

    assert [rule.name for rule in rules.matching("shop.orders", "order.shipped")] == ["shipped", "any"]
    assert [rule.name for rule in rules.matching("shop.orders", "order.placed")] == ["any"]
    assert rules.matching("shop.returns", "order.shipped") == ()
    assert rules.topics == ("shop.orders",)


def test_a_topic_carries_the_prefix_unless_its_name_is_exact() -> None:
    assert example_rules().full_name("shop.orders", "test.") == "test.shop.orders"
    exact = rules_with(topics={"shop.orders": {"exact_name": True}})
    assert exact.full_name("shop.orders", "test.") == "shop.orders"


def test_settings_for_a_topic_that_no_rule_reads_are_a_mistake() -> None:
    with pytest.raises(WrongRules, match="no rule reads the topic shop"):
        rules_with(topics={"shop.retruns": {"id": "id"}})


@pytest.mark.parametrize(
    ("sender", "allowed", "is_fine"),
    [
        ("shop@example.com", (), True),
        ("Shop@EXAMPLE.com", (), True),
        ("other@example.com", (), False),
        ("other@example.org", ("other@example.org",), True),
        ("any@example.net", ("@example.net",), True),
        ("any@sub.example.net", ("@example.net",), False),
    ],
)
def test_a_rule_sends_only_from_senders_that_the_settings_allow(
    sender: str, allowed: tuple[str, ...], is_fine: bool
) -> None:
    rules = rules_with(**{"from": sender})
    settings = Settings(sender="shop@example.com", senders_allowed=allowed)

    if is_fine:
        rule_file.require_usable(rules, Templates(TEMPLATES), settings)
    else:
        with pytest.raises(WrongRules, match="rule shipped: its from"):
            rule_file.require_usable(rules, Templates(TEMPLATES), settings)


def test_a_rule_needs_a_template_that_is_there() -> None:
    with pytest.raises(WrongRules, match="rule shipped: there is no template order-shipped@9 "):
        rule_file.require_usable(rules_with(template="order-shipped@9"), Templates(TEMPLATES), Settings())


@pytest.mark.parametrize(
    ("members", "told"),
    [
        ({"tags": ["a", "a"]}, "rule shipped: /tags/1: this tag stands here twice"),
        ({"tags": ["a\nb"]}, "rule shipped: /tags/0: control characters"),
        ({"reply_to": "a@b"}, "rule shipped: /reply_to/email"),
        ({"from": "sender@example.com", "from_name": "The\nshop"}, "rule shipped: /from/name"),
    ],
)
def test_what_would_be_wrong_with_every_mail_is_told_at_the_start(members: dict[str, object], told: str) -> None:
    with pytest.raises(WrongRules) as error:
        rule_file.require_usable(rules_with(**members), Templates(TEMPLATES), Settings(sender="sender@example.com"))

    assert told in str(error.value)


@pytest.mark.parametrize(
    ("members", "told"),
    [
        ({"digest": {"window": "2d", "template": "comments"}}, "digest.window: Input should be less than or equal"),
        ({"digest": {"window": "0s", "template": "comments"}}, "digest.window: Input should be greater than"),
        ({"digest": {"window": "1h"}}, "digest.template: Field required"),
        ({"digest": {"window": "1h", "template": "comments"}, "delay": "1h"}, "a digest has a time of its own"),
        ({"cap": {"count": 0, "per": "1d"}}, "cap.count: Input should be greater than or equal to 1"),
        ({"cap": {"count": 1, "per": "31d"}}, "cap.per: Input should be less than or equal"),
    ],
)
def test_a_cap_or_digest_that_cannot_be_kept_is_a_mistake(members: dict[str, Any], told: str) -> None:
    with pytest.raises(WrongRules) as error:
        rules_with(**members)

    assert told in str(error.value)


def test_the_template_of_a_digest_must_be_there() -> None:
    rules = rules_with(digest={"window": "1h", "template": "nowhere"})

    with pytest.raises(WrongRules, match="there is no template nowhere"):
        rule_file.require_usable(rules, Templates(TEMPLATES), Settings())
