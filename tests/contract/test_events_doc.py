"""What docs/events.md shows is true: its rules, its events, and the outbox, relay and all."""

import asyncio
import re
import subprocess
import sys
from pathlib import Path

import pytest
from confluent_kafka import Producer

from examples import outbox
from mailstream.domain import codec, topics
from mailstream.domain.request import EmailRequest
from mailstream.kafka.config import connection
from mailstream.settings import Settings
from mailstream.templates.catalog import Templates
from streams.triggers import decide
from streams.triggers import rules as rule_file
from streams.triggers.rule_schema import CancelRule, MailRule
from streams.triggers.rules import Rules
from streams.webhooks import endpoints
from tests.support.domain_events import TEMPLATES, judged, received
from tests.support.trigger_bench import Bench, requests_in

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "events.md").read_text()


def blocks(kind: str) -> list[str]:
    """The code of each block that begins with this."""
    return re.findall(rf"^```{re.escape(kind)}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def shown(event: str) -> bytes:
    (text,) = blocks(f"json event={event}")
    return text.encode()


def decision(rules: Rules, event: str) -> decide.Decision:
    ruling = judged(received(shown(event)), rules)
    (found,) = ruling.decisions
    return found


def test_every_rule_on_the_page_can_be_used() -> None:
    pages = [rule_file.parse(text) for text in blocks("yaml rules")]

    assert len(pages) == 4
    for rules in pages:
        rule_file.require_usable(rules, Templates(TEMPLATES), Settings())


def test_the_first_event_asks_for_the_mail_that_the_page_shows() -> None:
    (mail,) = decision(rule_file.parse(blocks("yaml rules")[0]), "order.shipped").requests

    assert f"{(mail.id or '')[:12]}… to a***@e***.com: {mail.subject}" in PAGE


def test_the_cancel_on_the_page_withdraws_the_reminder_on_the_page() -> None:
    rules = rule_file.parse(blocks("yaml rules")[1])

    (mail,) = decision(rules, "order.placed").requests
    (control,) = decision(rules, "order.cancelled").controls

    assert control.id == mail.id


def test_the_request_on_the_page_is_one() -> None:
    (text,) = blocks("json request")

    assert isinstance(codec.decode_requested(text.encode()), EmailRequest)


def test_the_endpoints_on_the_page_can_be_used(tmp_path: Path) -> None:
    (text,) = blocks("yaml endpoints")
    (tmp_path / "webhooks.yaml").write_text(text)
    (tmp_path / "crm-webhook").write_text("whsec_" + "a" * 44)

    ((endpoint, _),) = endpoints.load(
        Settings(webhooks_file=str(tmp_path / "webhooks.yaml"), secrets_dir=str(tmp_path))
    )

    assert endpoint.name == "crm"


def test_every_member_of_a_rule_is_on_the_page() -> None:
    members = {field.alias or name for kind in (MailRule, CancelRule)
               for name, field in kind.model_fields.items()}  # fmt: skip

    assert [name for name in members - {"reason"} if f"`{name}`" not in PAGE] == []


class Killed(Exception):
    """The relay dies here."""


async def test_a_relay_that_dies_before_it_crosses_an_event_off_causes_one_mail(
    settings: Settings, tmp_path: Path
) -> None:
    bench, database = Bench(settings), outbox.opened(str(tmp_path / "shop.db"))
    producer, topic = Producer(connection(settings)), bench.name("shop.orders")
    outbox.place_order(database, "1", "ada@example.com", "Ada")
    outbox.place_order(database, "2", "bob@example.com", "Bob")

    def die(_: int) -> None:
        raise Killed

    with pytest.raises(Killed):
        outbox.relay(database, producer, topic, published=die)
    assert outbox.relay(database, producer, topic) == 2
    assert outbox.relay(database, producer, topic) == 0

    async with bench.reading():
        requests = requests_in(await bench.records(topics.REQUESTED, 3))
    assert len({request.id for request in requests}) == 2


def test_an_order_that_is_not_taken_is_not_said(tmp_path: Path) -> None:
    database = outbox.opened(str(tmp_path / "shop.db"))
    outbox.place_order(database, "1", "ada@example.com", "Ada")

    with pytest.raises(Exception, match="UNIQUE"):
        outbox.place_order(database, "1", "eve@example.com", "Eve")

    assert database.execute("SELECT count(*) FROM outbox").fetchone() == (1,)


async def test_the_commands_on_the_page_work(settings: Settings, tmp_path: Path) -> None:
    bench = Bench(settings)
    command = [sys.executable, str(ROOT / "examples" / "outbox.py"), "--database", str(tmp_path / "shop.db")]

    def run(*arguments: str) -> str:
        return subprocess.run([*command, *arguments], capture_output=True, text=True, check=True, timeout=30).stdout

    await asyncio.to_thread(run, "place", "--order", "1042", "--email", "grace@example.com")
    relay = ("relay", "--bootstrap", settings.kafka_bootstrap, "--topic", bench.name("shop.orders"))

    assert await asyncio.to_thread(run, *relay) == "1 events published\n"
    async with bench.reading():
        (request,) = requests_in(await bench.records(topics.REQUESTED, 1))
    assert request.to.email == "grace@example.com"
