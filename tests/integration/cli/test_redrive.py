"""Dead letters and failed emails on a real broker: listed, shown, and asked for again only when that is wanted."""

import asyncio
import json
from datetime import UTC, datetime

import pytest
from confluent_kafka import Producer
from typer.testing import CliRunner, Result

from cli.verbs import app
from mailstream.domain import codec, topics
from mailstream.domain.email_id import partition_in
from mailstream.domain.request import EmailRequest
from mailstream.domain.status import Coordinates, EmailStatus, Status, rank_of
from mailstream.kafka.config import connection
from mailstream.settings import Settings
from tests.support.domain_events import EXAMPLES, TEMPLATES, as_bytes, cloud_event, shipped
from tests.support.poison import ADA, ID, good
from tests.support.records import records_in
from tests.support.system import as_environment
from tests.support.trigger_bench import Bench

AT = datetime(2026, 11, 24, 9, tzinfo=UTC)


class Shell:
    """The command line, with the settings of one system."""

    def __init__(self, settings: Settings) -> None:
        files = {"triggers_file": str(EXAMPLES / "triggers.yaml"), "templates_dir": str(TEMPLATES)}
        self.settings = settings.model_copy(update=files)
        self._environment = as_environment(settings) | {
            f"MAILSTREAM_{name.upper()}": value for name, value in files.items()
        }

    def run(self, *arguments: str) -> Result:
        return CliRunner().invoke(app, list(arguments), env=self._environment)

    def requested(self) -> list[EmailRequest]:
        found = records_in(self.settings, self.settings.topic_prefix + topics.REQUESTED.name)
        decoded = [codec.decode_requested(record.value() or b"") for record in found]
        return [request for request in decoded if isinstance(request, EmailRequest)]


@pytest.fixture
def shell(settings: Settings) -> Shell:
    return Shell(settings)


@pytest.fixture
def letters(settings: Settings) -> None:
    """Two events that cannot be mailed: one by a rule that will be mended, one for good."""
    bench = Bench(settings)
    bench.say(b"no json", key=b"k")
    bench.say(as_bytes(cloud_event(shipped(email="nobody"))), key=b"k")

    async def rejected() -> None:
        async with bench.reading():
            await bench.records(topics.REJECTED, 2)

    asyncio.run(rejected())


@pytest.mark.usefixtures("letters")
def test_dead_letters_are_listed_by_filter_and_show_no_address(shell: Shell) -> None:
    rows = [json.loads(line) for line in shell.run("dead-letters", "list", "--json").stdout.splitlines()]

    assert {row["reason"] for row in rows} == {"BAD_EVENT", "BAD_ADDRESS"}
    assert len(shell.run("dead-letters", "list", "--reason", "BAD_EVENT").stdout.splitlines()) == 1
    assert shell.run("dead-letters", "list", "--topic", "shop.returns").stdout == ""
    assert shell.run("dead-letters", "list", "--until", "2020-01-01").stdout == ""
    assert len(shell.run("dead-letters", "list", "--limit", "1").stdout.splitlines()) == 1


@pytest.mark.usefixtures("letters")
def test_one_dead_letter_is_shown_whole(shell: Shell) -> None:
    (row,) = [json.loads(line) for line in shell.run(
        "dead-letters", "list", "--reason", "BAD_EVENT", "--json").stdout.splitlines()]  # fmt: skip

    shown = json.loads(shell.run("dead-letters", "show", row["place"], "--json").stdout)

    assert shown["value"] == "no json"
    assert shown["from"]["topic"] == shell.settings.topic_prefix + "shop.orders"
    assert shell.run("dead-letters", "show", "0/99999").exit_code == 1
    assert shell.run("dead-letters", "show", "here").exit_code == 2


@pytest.mark.usefixtures("letters")
def test_a_dry_run_says_what_is_of_no_use_and_writes_nothing(shell: Shell) -> None:
    result = shell.run("dead-letters", "retry")

    assert result.exit_code == 0
    assert result.stdout.count("no use:") == 2
    assert "Nothing was asked" in result.stderr
    assert shell.requested() == []


def test_a_rejected_request_is_asked_for_again_once(shell: Shell) -> None:
    producer = Producer(connection(shell.settings))
    old = as_bytes(good(requested_at="2020-01-01T00:00:00Z"))
    headers = [
        ("dlt-original-topic", (shell.settings.topic_prefix + "email.requested").encode()),
        ("dlt-original-partition", b"1"), ("dlt-original-offset", b"7"), ("dlt-original-timestamp", b"0"),
        ("mailstream-reason", b"EVENT_TOO_OLD"), ("mailstream-detail", b"asked for long ago"),
    ]  # fmt: skip
    producer.produce(shell.settings.topic_prefix + "email.rejected", old, b"k", 2, headers=headers)
    assert producer.flush(10) == 0

    assert "→ em_" in shell.run("redrive", "dead-letters").stdout
    assert shell.run("redrive", "dead-letters", "--yes").exit_code == 2, "it must say why"
    for _ in range(2):
        result = shell.run("redrive", "dead-letters", "2/0", "--why", "the topic was stopped", "--by", "ann", "--yes")
        assert result.exit_code == 0, result.output

    first, second = shell.requested()
    assert first.id == second.id
    assert first.redrive_of is not None
    record = records_in(shell.settings, shell.settings.topic_prefix + "email.requested")[0]
    assert dict(record.headers() or [])["mailstream-causation"] == b"email.rejected/2/0"
    assert dict(record.headers() or [])["mailstream-redriven-by"] == b"ann"


def test_failed_emails_are_found_by_id_or_status_with_the_body_that_was_asked_for(shell: Shell) -> None:
    settings, producer = shell.settings, Producer(connection(shell.settings))
    partition = partition_in(ID, settings.partitions)
    body = as_bytes(good(id=ID))
    producer.produce(settings.topic_prefix + "email.requested", body, ADA.encode(), partition)
    for status in (Status.QUEUED, Status.FAILED):
        record = EmailStatus(
            writer="w", id=ID, tenant="default", recipient=ID[3:11], to_masked="a***@e***.com", status=status,
            final=status is Status.FAILED, rank=rank_of(status, 1), created_at=AT, updated_at=AT,
            request=Coordinates(partition, 0),
        )  # fmt: skip
        producer.produce(settings.topic_prefix + "email.status", codec.encode(record), ID.encode(), partition)
    assert producer.flush(10) == 0

    by_status = json.loads(shell.run("redrive", "emails", "--status", "FAILED", "--json").stdout)
    assert shell.run("redrive", "emails", "--status", "EXPIRED", "--json").stdout.strip() == "[]"
    result = shell.run("redrive", "emails", ID, "--why", "the domain is back", "--yes", "--json")

    assert json.loads(result.stdout) == by_status
    old, new = shell.requested()
    assert new.redrive_of == old.id == ID
    assert new.subject == old.subject


def test_redrive_wants_to_be_told_what(shell: Shell) -> None:
    assert shell.run("redrive", "emails").exit_code == 2
    assert shell.run("redrive", "emails", "em_x", "--why", "x").exit_code == 2
    assert "Not in email.status" in shell.run("redrive", "emails", ID).stderr
