"""More statuses than memory has room for: each email is sent once and in order, and the worker stays small."""

import asyncio
from collections import defaultdict
from itertools import pairwise
from pathlib import Path

import pytest

from mailstream.domain.request import Lane
from mailstream.settings import Settings
from tests.benchmarks.backlog import LOAD_SECONDS, memory_of, taken_in, write
from tests.support.eventually import eventually
from tests.support.mail_system import MailSystem
from tests.support.nursery import Nursery
from tests.support.processes import Programs, programs_in
from tests.support.small_disk import small_disk

EMAILS = 2000
MOST_MIB = 450
CRAMPED = ("tests.support.cramped_worker", "worker")


async def test_a_backlog_whose_statuses_are_in_the_file_is_sent_once_and_in_order_though_the_worker_is_killed(
    programs: Programs, settings: Settings, tmp_path: Path
) -> None:
    recipients = [f"reader-{number}@example.com" for number in range(50)]
    system = MailSystem(programs, settings, send_gap=0, session_timeout=3)
    system.order(latency_seconds=0.1)  # else all may be sent before the kill
    ids = await system.publish(EMAILS, recipients=recipients)
    with Nursery(tmp_path) as nursery:
        first = nursery.worker(system.settings, CRAMPED)
        await system.accepted(EMAILS // 4, within_seconds=40)
        first.kill()
        killed_at = len(system.ledger())
        second = nursery.worker(system.settings, CRAMPED)
        in_doubt = system.settings.max_in_flight  # what was called when it was killed is HELD, and not called again
        await system.accepted(EMAILS - in_doubt, within_seconds=40)
        await eventually(
            lambda: (second.state() or {}).get("waiting") == 0, within_seconds=20, waiting_for="the end of the backlog"
        )
        await eventually(
            lambda: (second.state() or {}).get("in_work") == 0, within_seconds=20, waiting_for="the last call"
        )

    sent = [call["id"] for call in system.ledger()]
    assert killed_at < EMAILS - in_doubt, "it was killed in the middle"
    assert len(sent) == len(set(sent)), "none twice"
    assert set(sent) <= set(ids)
    place = {id_: number for number, id_ in enumerate(ids)}
    of_recipient = defaultdict(list)
    for id_ in sent:
        of_recipient[place[id_] % len(recipients)].append(place[id_])
    wrong = [
        (a, b, sent.index(ids[a]), sent.index(ids[b]))
        for places in of_recipient.values()
        for a, b in pairwise(places)
        if a > b
    ]
    assert not wrong, (
        f"{len(wrong)} pairs of emails of one recipient came in the wrong order, killed at {killed_at}: {wrong[:5]}"
    )


@pytest.mark.long
async def test_a_worker_whose_disk_is_full_ends_and_the_next_one_sends_all(
    programs: Programs, settings: Settings, tmp_path: Path
) -> None:
    system = MailSystem(programs, settings, send_gap=0, session_timeout=6)
    ids = await system.publish(EMAILS)
    with small_disk(tmp_path / "disk", mebibytes=4) as disk, Nursery(tmp_path) as nursery:
        disk.fill()
        on_disk = system.settings.model_copy(update={"data_dir": str(disk.folder), "send_gap": 3600.0})
        first = nursery.worker(on_disk, CRAMPED)
        await eventually(lambda: not first.is_running(), within_seconds=40, waiting_for="the end of the worker")
        assert first.code == 1
        assert "database or disk is full" in first.log.read_text()
        assert "Nothing is lost" in first.log.read_text()

        disk.make_room()
        nursery.worker(on_disk.model_copy(update={"send_gap": 0.0}), CRAMPED)
        calls = await system.accepted(EMAILS, within_seconds=60)

    assert sorted(call["id"] for call in calls) == sorted(ids)


@pytest.mark.long
@pytest.mark.timeout(3600)
async def test_a_million_emails_wait_in_450_mib_and_critical_mail_overtakes_them(
    settings: Settings, tmp_path: Path
) -> None:
    with programs_in(tmp_path, is_forked=False) as programs:
        system = MailSystem(programs, settings.model_copy(update={"send_gap": 2.0, "session_timeout": 30.0}))
        worker = system.programs.worker(system.settings).ready()
        await asyncio.to_thread(write, system.settings, 1_000_000)
        await taken_in(worker, 1_000_000)
        assert memory_of(worker)[1] <= MOST_MIB

        (critical,) = await system.publish(1, lane=Lane.CRITICAL)
        await eventually(
            lambda: critical in {call["id"] for call in system.ledger()}, within_seconds=10, waiting_for="it"
        )

        worker.stop()
        again = system.programs.worker(system.settings).ready(seconds=LOAD_SECONDS)
        assert memory_of(again)[1] <= MOST_MIB
