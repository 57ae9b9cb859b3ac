"""The first reading of a partition: it comes, and passes no record, though nothing was ever committed that leads back."""

import json
from datetime import datetime
from pathlib import Path

from mailstream.settings import Settings
from tests.support.eventually import eventually
from tests.support.mail_system import MailSystem
from tests.support.nursery import Nursery
from tests.support.processes import Programs
from tests.support.run_log import KafkaCaller, RunLog


async def test_records_that_faust_throws_away_before_anything_was_committed_are_read_again(
    programs: Programs, settings: Settings, tmp_path: Path
) -> None:
    system = MailSystem(programs, settings, send_gap=0, session_timeout=6)
    caller = KafkaCaller(system.settings, RunLog())
    early = [await caller.ask() for _ in range(20)]
    with Nursery(tmp_path) as nursery:
        worker = nursery.worker(system.settings, ("tests.support.wasteful_worker", "worker"))
        await eventually(worker.is_ready, within_seconds=40, waiting_for="the worker")
        late = [await caller.ask() for _ in range(20)]

        await eventually(
            lambda: {call["id"] for call in system.ledger()} >= {*early, *late},
            within_seconds=20,
            waiting_for="40 emails",
        )
    await caller.close()


async def test_an_assignment_that_was_made_without_our_topics_is_made_again(
    programs: Programs, settings: Settings, tmp_path: Path
) -> None:
    system = MailSystem(programs, settings, send_gap=0, session_timeout=6)
    caller = KafkaCaller(system.settings, RunLog())
    asked = await caller.ask()
    with Nursery(tmp_path) as nursery:
        worker = nursery.worker(system.settings, ("tests.support.forgetful_worker", "worker"))

        await eventually(
            lambda: [call["id"] for call in system.ledger()] == [asked], within_seconds=40, waiting_for="the email"
        )
        assert "Ignoring missing topic" in worker.log.read_text(), "nothing was tried"
    await caller.close()


async def test_a_new_owner_reads_what_waits_within_two_seconds(
    programs: Programs, settings: Settings, tmp_path: Path
) -> None:
    system = MailSystem(programs, settings, send_gap=0, session_timeout=6)
    caller = KafkaCaller(system.settings, RunLog())
    await caller.ask()
    with Nursery(tmp_path) as nursery:
        worker = nursery.worker(system.settings)
        [call] = await system.accepted(1, within_seconds=20)
    await caller.close()

    lines = [json.loads(line) for line in worker.log.read_text().splitlines() if line.startswith("{")]
    [loaded] = [line["timestamp"] for line in lines if line["event"] == "partitions loaded"]
    assert call["at"] - datetime.fromisoformat(loaded).timestamp() < 2.0
