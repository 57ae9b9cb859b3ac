"""A shop that says what happened and knows nothing about mail; the rules of the workers turn that into emails."""

import json
import time
from datetime import UTC, datetime
from pathlib import Path

from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from mailstream.domain import email_id
from mailstream.domain.errors import NotPublished
from mailstream.domain.request import ControlKind
from mailstream.kafka.producer import Publisher
from mailstream.settings import Settings
from tests.support.domain_events import as_bytes, cloud_event, shipped
from tests.support.history_logs import Ask, Result, Word
from tests.support.run_log import RunLog

TOPIC, PARTITIONS, SOURCE, TENANT = "shop.orders", 3, "/shop", "dev"
REMINDER_DELAY_SECONDS = 2
_MAIL = {
    "topic": TOPIC, "to": "data.customer", "template": "order", "tenant": TENANT, "data": {"order": "data.order"}
}  # fmt: skip
RULES = [
    _MAIL | {"name": "shipped", "type": "order.shipped"},
    _MAIL | {"name": "reminder", "type": "order.placed", "identity": "data.order",
             "delay": f"{REMINDER_DELAY_SECONDS}s"},
    {"name": "stop", "topic": TOPIC, "type": "order.cancelled", "to": "data.customer", "cancels": "reminder",
     "identity": "data.order"},
]  # fmt: skip


def with_rules(settings: Settings, folder: Path) -> Settings:
    """Settings of a worker that knows the rules for the shop's events; rules and template are written to the folder."""
    rules, template = folder / "triggers.yaml", folder / "templates" / "order" / "1" / "en"
    rules.write_text(json.dumps({"rules": RULES}))
    template.mkdir(parents=True)
    (template / "subject.txt").write_text("Your order {{ order }}")
    (template / "body.txt").write_text("Something happened to your order {{ order }}.")
    return settings.model_copy(update={"triggers_file": str(rules), "templates_dir": str(folder / "templates")})


def open_shop(admin: AdminClient, settings: Settings) -> None:
    """Make the topic of its events."""
    for created in admin.create_topics([NewTopic(settings.topic_prefix + TOPIC, PARTITIONS, 1)]).values():
        created.result(10)


class Shop:
    """Says events, and notes them as asks and words about emails. Make it inside the loop."""

    def __init__(self, settings: Settings, log: RunLog) -> None:
        self._topic, self._log = settings.topic_prefix + TOPIC, log
        self._publisher = Publisher(settings)

    async def say_shipped(self, order: str, to: str) -> None:
        """A mail at once. Said again, it is the same event."""
        await self._ask("order.shipped", order, to, f"{order}-order.shipped/shipped")

    async def say_placed(self, order: str, to: str) -> None:
        """A mail in a moment."""
        await self._ask("order.placed", order, to, f"{order}/reminder")

    async def say_cancelled(self, order: str, to: str) -> None:
        """Withdraws that mail."""
        id_ = email_id.derived(TENANT, SOURCE, f"{order}/reminder", to)
        begun_at, result = time.time(), await self._said("order.cancelled", order, to)
        self._log.words.append(Word(begun_at, time.time(), ControlKind.CANCEL, id_, result))

    async def close(self) -> None:
        """Wait for what is under way."""
        await self._publisher.close()

    async def _ask(self, kind: str, order: str, to: str, name: str) -> None:
        begun_at, result = time.time(), await self._said(kind, order, to)
        id_ = email_id.derived(TENANT, SOURCE, name, to)
        self._log.asks.append(Ask(begun_at, result, None, id_, time.time(), to=to, by="trigger"))

    async def _said(self, kind: str, order: str, to: str) -> Result:
        event = cloud_event(
            shipped(order, to), id=f"{order}-{kind}", type=kind, source=SOURCE, time=datetime.now(UTC).isoformat()
        )
        try:
            await self._publisher.publish(self._topic, as_bytes(event), key=order.encode())
        except NotPublished:
            return Result.INFO
        return Result.OK
