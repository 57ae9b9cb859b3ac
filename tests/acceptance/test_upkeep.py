"""What time does to emails: bodies are carried before they expire, and an operator ends what nobody can know."""

import subprocess
import sys
from datetime import UTC, datetime, timedelta

from confluent_kafka.admin import AlterConfigOpType, ConfigEntry
from confluent_kafka.admin._config import ConfigResource
from confluent_kafka.admin._resource import ResourceType

from mailstream.domain import codec, topics
from mailstream.domain.topics import Naming
from mailstream.kafka.config import admin
from mailstream.settings import Settings
from tests.support.mail_system import MailSystem
from tests.support.processes import Programs
from tests.support.system import as_environment
from tests.support.whole_topic import whole_topic


async def test_a_mail_that_waits_longer_than_its_record_is_kept_is_carried_and_sent_once(
    programs: Programs, settings: Settings
) -> None:
    settings = settings.model_copy(update={"send_gap": 0.0, "max_event_age": 60.0})
    name = Naming(settings.topic_prefix).of(topics.REQUESTED)
    retention = ConfigEntry("retention.ms", "10000", incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, name, incremental_configs=[retention])
    brokers = admin(settings)
    brokers.incremental_alter_configs([resource])[resource].result(10)
    system = MailSystem(programs, settings).start()

    id_ = system.ask(send_at=(datetime.now(UTC) + timedelta(seconds=12)).isoformat())
    await system.all_have([id_], "SENT", within_seconds=30)

    copies = [m for m in whole_topic(settings, topics.REQUESTED) if codec.CARRIED_HEADER in dict(m.headers() or ())]
    assert copies, "its record was older than half of the retention"
    assert all(codec.decode_requested(m.value() or b"").id == id_ for m in copies)
    assert [call["id"] for call in system.ledger()] == [id_]


async def test_an_operator_ends_what_nobody_can_know_with_a_name_and_a_reason(
    programs: Programs, settings: Settings
) -> None:
    system = MailSystem(programs, settings, send_gap=0).start()
    lost, again = system.ask("reset@example.com"), system.ask("reset+2@example.com")
    await system.all_have([lost, again], "HELD", within_seconds=20)

    listed = _mailstream(system, "held", "list")
    shown = _mailstream(
        system, "held", "resolve", lost, "--as", "UNCONFIRMED", "--reason", "asked the recipient", "--by", "ada"
    )
    before = system.status(lost)["status"]
    done = _mailstream(
        system,
        "held",
        "resolve",
        lost,
        "--as",
        "UNCONFIRMED",
        "--reason",
        "asked the recipient",
        "--by",
        "ada",
        "--yes",
    )
    late = _mailstream(system, "held", "resolve", lost, "--as", "SENT", "--reason", "no", "--by", "bob", "--yes")
    system.order(rules=[])
    resent = _mailstream(
        system, "held", "resolve", again, "--as", "RESEND", "--reason", "she waits", "--by", "ada", "--yes"
    )

    assert lost in listed.stdout
    assert "Nothing was published" in shown.stderr
    assert before == "HELD"
    assert done.stdout.strip() == "decided: it is UNCONFIRMED", done.stderr
    assert (late.returncode, late.stdout.strip()) == (1, "refused: already_final; it is UNCONFIRMED")
    assert resent.returncode == 0, resent.stdout + resent.stderr
    ended = system.status(lost)
    assert ended["status"] == "UNCONFIRMED"
    assert "asked the recipient" in str(ended["timeline"])


def _mailstream(system: MailSystem, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "cli.main", *arguments],
        env=as_environment(system.settings),
        capture_output=True,
        text=True,
        timeout=60,
    )
