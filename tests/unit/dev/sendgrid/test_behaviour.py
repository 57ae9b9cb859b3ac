"""Faults on order."""

from typing import Any

import msgspec
import pytest

from dev.sendgrid.behaviour import Behaviour


def ordered(*rules: dict[str, Any], seed: int = 1) -> Behaviour:
    behaviour = Behaviour()
    behaviour.order(msgspec.json.encode({"seed": seed, "rules": rules}))
    return behaviour


def met(behaviour: Behaviour, *recipients: str) -> list[int | None]:
    rules = [behaviour.for_recipient(recipient) for recipient in recipients]
    return [None if rule is None else rule.status for rule in rules]


def test_without_orders_nothing_goes_wrong() -> None:
    behaviour = Behaviour()

    assert behaviour.before_the_body() is None
    assert met(behaviour, "ada@example.com") == [None]
    assert behaviour.seconds(behaviour.latency_seconds) == 0


def test_the_first_rule_that_applies_decides() -> None:
    behaviour = ordered({"do": "status", "status": 500, "recipient": "a*@example.com"}, {"do": "status", "status": 429})

    assert met(behaviour, "ada@example.com", "A@EXAMPLE.COM", "bob@example.com") == [500, 500, 429]


def test_a_rule_skips_and_is_used_up() -> None:
    behaviour = ordered({"do": "status", "status": 500, "skip": 1, "next": 2})

    assert met(behaviour, *["ada@example.com"] * 5) == [None, 500, 500, None, None]
    assert behaviour.rules == []


def test_a_share_is_met_about_as_often() -> None:
    behaviour = ordered({"do": "status", "status": 500, "share": 0.25})

    hits = met(behaviour, *["ada@example.com"] * 2000).count(500)

    assert 400 < hits < 600


def test_a_reset_comes_before_the_body_unless_it_asks_for_a_recipient() -> None:
    early = ordered({"do": "status", "status": 500, "recipient": "x@*"}, {"do": "reset", "next": 1})
    late = ordered({"do": "reset", "recipient": "ada@*"})

    assert early.before_the_body() is not None
    assert early.before_the_body() is None
    assert late.before_the_body() is None
    assert late.for_recipient("ada@example.com") is not None


def test_a_rule_for_a_recipient_does_not_meet_what_cannot_be_read() -> None:
    behaviour = ordered({"do": "status", "status": 500, "recipient": "*"}, {"do": "status", "status": 429})

    rule = behaviour.for_recipient(None)

    assert rule is not None
    assert rule.status == 429


@pytest.mark.parametrize(
    ("rule", "takes"),
    [
        ({"do": "drop"}, True),
        ({"do": "silent"}, True),
        ({"do": "slow"}, True),
        ({"do": "reset"}, False),
        ({"do": "reset", "accepted": True}, True),
        ({"do": "status", "status": 503}, False),
        ({"do": "status", "status": 503, "accepted": True}, True),
        ({"do": "status", "status": 202, "accepted": False}, False),
    ],
)
def test_a_fault_takes_the_mail_as_sendgrid_would_unless_told(rule: dict[str, Any], takes: bool) -> None:
    assert ordered(rule).rules[0].takes_the_mail is takes
