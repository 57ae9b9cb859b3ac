"""What stood in the log when a worker got its partitions counts before anything that the worker decides."""

import asyncio
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from mailstream.domain import codec, topics
from mailstream.domain.status import Status
from mailstream.domain.topics import Topic
from mailstream.kafka import admin, config
from mailstream.settings import Settings
from tests.support.eventually import eventually
from tests.support.mail_system import KEY, MailSystem
from tests.support.nursery import Child, Nursery
from tests.support.processes import Programs
from tests.support.unchecked_worker import UNCHECKED
from tests.support.unwilling_topic import takes_no_writes, takes_writes
from tests.support.whole_topic import whole_topic

READY_SECONDS = 40


@pytest.mark.timeout(200)
async def test_no_email_with_a_202_is_lost_while_statuses_cannot_be_written_and_a_worker_joins(
    programs: Programs, settings: Settings, tmp_path: Path
) -> None:
    system = MailSystem(programs, settings, send_gap=0, session_timeout=6).start(workers=0)
    with Nursery(tmp_path) as nursery:
        first = await a_worker(nursery, system, "first")
        with refusing(settings, topics.STATUS):
            ids = [system.ask() for _ in range(40)]
            second = nursery.worker(system.settings, UNCHECKED, name="second")
            await eventually(
                lambda: second.log.exists() and "partitions loaded" in second.log.read_text(),
                within_seconds=40,
                waiting_for="a rebalance",
            )
            await asyncio.sleep(4)  # what is read again by then would be committed
            first.kill()
            second.kill()
        await a_worker(nursery, system, "third")

        await system.all_have(ids, "SENT", within_seconds=60)


@pytest.mark.timeout(200)
async def test_a_cancel_that_is_durable_before_a_worker_starts_wins(
    programs: Programs, settings: Settings, tmp_path: Path
) -> None:
    system = MailSystem(programs, settings, send_gap=0, session_timeout=6).start(workers=0)
    with Nursery(tmp_path) as nursery:
        worker = await a_worker(nursery, system, "worker")
        due = datetime.now(UTC) + timedelta(seconds=6)
        ids = [system.ask(send_at=due.isoformat()) for _ in range(8)]
        await eventually(lambda: statuses(system, ids) == {"QUEUED"}, within_seconds=10, waiting_for="QUEUED")
        worker.kill()
        await system.publish(3000)  # they stand before the cancels, unread
        await asyncio.sleep(max(0.0, (due - datetime.now(UTC)).total_seconds()))
        assert await cancelled(system, ids) == {202}

        worker = await a_worker(nursery, system, "worker")

        await system.all_have(ids, "CANCELLED", within_seconds=30)
        assert not {call["id"] for call in system.ledger(refused=True)} & set(ids)
        assert "looked through what stands unread" in worker.log.read_text()


@pytest.mark.timeout(200)
async def test_evidence_that_stands_in_the_log_counts_before_a_held_email_is_resent_or_ended(
    programs: Programs, settings: Settings, tmp_path: Path
) -> None:
    system = MailSystem(programs, settings, send_gap=0, session_timeout=6, hold_timeout=8)
    key = httpx.get(f"{system.emulator.url}/webhook-key", timeout=10).text
    system.settings = system.settings.model_copy(update={"sendgrid_webhook_keys": (key,)})
    system.start(workers=0)
    assert system.api is not None
    system.order(webhook={"url": f"{system.api.url}/v1/events/sendgrid", "is_held": True})
    with Nursery(tmp_path) as nursery:
        worker = await a_worker(nursery, system, "worker")
        policies = ["hold", "resend"] * 2  # five in a row would look like a provider in trouble
        ids = [system.ask(f"drop+{n}@example.com", on_ambiguous=policy) for n, policy in enumerate(policies)]
        await system.all_have(ids, "HELD", within_seconds=20)
        worker.send(signal.SIGTERM)
        assert await asyncio.to_thread(worker.wait, 30) == 0
        system.order(webhook={"is_held": False})
        await eventually(
            lambda: {codec.event_id(m.value() or b"") for m in whole_topic(settings, topics.EVENTS)} >= {*ids},
            within_seconds=20,
            waiting_for="the provider's events in the log",
        )
        await asyncio.sleep(9)  # HOLD_TIMEOUT has passed for all of them

        started_at = time.time()
        await a_worker(nursery, system, "worker")

        await eventually(lambda: statuses(system, ids) == {"DELIVERED"}, within_seconds=20, waiting_for="DELIVERED")
        assert not [call for call in system.ledger(refused=True) if call["at"] > started_at]
        shown = [codec.decode_status(m.value()) for m in whole_topic(settings, topics.STATUS) if m.value()]
        assert Status.UNCONFIRMED not in {status.status for status in shown}


async def a_worker(nursery: Nursery, system: MailSystem, name: str) -> Child:
    worker = nursery.worker(system.settings, name=name)
    await eventually(worker.is_ready, within_seconds=READY_SECONDS, waiting_for=f"worker {name}")
    return worker


def statuses(system: MailSystem, ids: list[str]) -> set[str]:
    return {system.status(id_)["status"] for id_ in ids}


async def cancelled(system: MailSystem, ids: list[str]) -> set[int]:
    assert system.api is not None
    async with httpx.AsyncClient(base_url=system.api.url, headers=KEY, timeout=20) as http:
        answers = await asyncio.gather(*(http.post(f"/v1/emails/{id_}/cancel") for id_ in ids))
    return {answer.status_code for answer in answers}


@contextmanager
def refusing(settings: Settings, topic: Topic) -> Iterator[None]:
    """The topic takes no records: what a cluster does that has too few replicas left."""
    brokers = config.admin(settings)
    takes_no_writes(settings, topic)
    try:
        yield
    finally:
        takes_writes(settings, topic)
        while any(finding.difference for finding in admin.inspect(brokers, settings)):
            time.sleep(0.05)  # the broker answers with the old value for a moment, and then no worker starts
