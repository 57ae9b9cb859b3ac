"""A key that is used again after its email was forgotten: what the log says of the first email is not the second's."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mailstream.domain import topics
from mailstream.domain.email_id import partition_in
from mailstream.domain.topics import GROUP_CHECKPOINTS, Naming
from mailstream.kafka import config
from mailstream.kafka.producer import Publisher
from mailstream.settings import Settings
from tests.support.mail_system import MailSystem, an_address
from tests.support.processes import Programs, command

pytestmark = [pytest.mark.long, pytest.mark.timeout(120)]

WAIT_SECONDS = 30.0


async def test_an_email_whose_id_was_used_before_is_sent_though_the_whole_log_is_folded(
    programs: Programs, settings: Settings, tmp_path: Path
) -> None:
    system = MailSystem(programs, settings, send_gap=0, session_timeout=6).start()
    assert system.api is not None
    to = an_address()
    id_ = system.ask(to, key="order-17")
    await system.all_have([id_], "SENT", within_seconds=20)
    for program in (*system.workers, system.api):
        program.stop()
    await _forget(settings, id_)

    system.start()
    due_at = datetime.now(UTC) + timedelta(seconds=WAIT_SECONDS)
    assert system.ask(to, key="order-17", send_at=due_at.isoformat()) == id_
    await system.all_have([id_], "QUEUED", within_seconds=20)
    system.workers[-1].stop()
    group = Naming(settings.topic_prefix).of(GROUP_CHECKPOINTS)
    config.admin(settings).delete_consumer_groups([group])[group].result(10)  # as when its offsets expire
    system.add_workers(1)

    assert system.status(id_)["status"] == "QUEUED"
    assert len(system.ledger()) == 1
    await system.all_have([id_], "SENT", within_seconds=WAIT_SECONDS + 10)
    assert len(system.ledger()) == 2
    audited = command("audit", "verify", "--settle", "0", settings=system.settings, folder=tmp_path)
    assert audited.returncode == 0, audited.stdout + audited.stderr


async def _forget(settings: Settings, id_: str) -> None:
    """As the owner does STATUS_RETENTION after the email became final."""
    publisher = Publisher(settings)
    topic, partition = Naming(settings.topic_prefix).of(topics.STATUS), partition_in(id_, settings.partitions)
    await publisher.publish(topic, None, key=id_.encode(), partition=partition)
    await publisher.close()
