"""Events of other services, as they stand in their topics."""

import json
from collections.abc import Coroutine
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar, cast

from mailstream.templates.catalog import Rendered, Templates
from streams.triggers import decide
from streams.triggers import rules as rule_file
from streams.triggers.event import Received
from streams.triggers.rules import Rules

EXAMPLES = Path(__file__).parents[2] / "examples"
TEMPLATES = EXAMPLES / "templates"
NOW = datetime(2026, 11, 24, 10, tzinfo=UTC)
WEEK = timedelta(days=7)
T = TypeVar("T")


def shipped(
    order: str = "1042", email: str = "ada@example.com", name: str | None = "Ada", **data: Any
) -> dict[str, Any]:
    """What the shop says when an order leaves the house."""
    return {"order": order, "customer": {"email": email, "name": name}, "parcel": "P-1", **data}


def cloud_event(data: Any = None, **attributes: Any) -> dict[str, Any]:
    """A structured CloudEvent; an attribute that is None is left out."""
    event = {
        "specversion": "1.0",
        "id": "1042-shipped",
        "source": "/shop",
        "type": "order.shipped",
        "time": "2026-11-24T09:00:00Z",
        "data": shipped() if data is None else data,
    } | attributes
    return {name: value for name, value in event.items() if value is not None}


def as_bytes(value: Any) -> bytes:
    """JSON."""
    return json.dumps(value).encode()


def received(value: Any = None, *, headers: dict[str, str] | None = None, topic: str = "shop.orders", offset: int = 0,
             partition: int = 0, recorded_at: datetime = NOW) -> Received:  # fmt: skip
    """A record as the edge hands it on. ``value``: bytes as they are, None for a null value, else JSON of it."""
    return Received(
        name=topic,
        topic=f"test.{topic}",
        partition=partition,
        offset=offset,
        timestamp_ms=int(recorded_at.timestamp() * 1000),
        headers={name: text.encode() for name, text in (headers or {}).items()},
        key=None,
        value=value if value is None or isinstance(value, bytes) else as_bytes(value),
    )


def example_rules() -> Rules:
    """The rules that the project shows."""
    return rule_file.parse((EXAMPLES / "triggers.yaml").read_text())


def rules_with(*more: dict[str, Any], **members: Any) -> Rules:
    """The rule ``shipped``, with these members on top (None leaves one out), and more rules behind it."""
    rule = {
        "name": "shipped",
        "topic": "shop.orders",
        "type": "order.shipped",
        "to": "data.customer",
        "template": "order-shipped",
        "data": {"order": "data.order", "name": "data.customer.name", "parcel": "data.parcel"},
    } | members
    topics = rule.pop("topics", {})
    kept = {name: value for name, value in rule.items() if value is not None}
    return rule_file.parse(json.dumps({"topics": topics, "rules": [kept, *more]}))


def judged(record: Received, rules: Rules | None = None, *, now: datetime = NOW) -> decide.Ruling:
    """The ruling over a record, at a fixed time and rendered with the templates of the examples."""
    return at_once(decide.decide(record, rules or example_rules(), rendered, now=now, max_age=WEEK))


async def rendered(template: str, data: dict[str, Any], locale: str | None) -> Rendered:
    """A mail by the templates of the examples, in this process."""
    return _TEMPLATES.render(template, data, locale=locale)


def at_once(work: Coroutine[Any, Any, T]) -> T:
    """What a coroutine gives that waits for nothing, such as a decision that is rendered in this process."""
    try:
        work.send(None)
    except StopIteration as end:
        return cast("T", end.value)
    raise AssertionError("it waits")


_TEMPLATES = Templates(TEMPLATES)


def decision_on(value: Any, rules: Rules | None = None, **where: Any) -> decide.Decision:
    """What the only rule makes of an event."""
    ruling = judged(received(value, **where), rules)
    (decision,) = ruling.decisions
    return decision
