"""A provider that says no, not now, or nothing: who waits, what is asked meanwhile, and that no mail pays for it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest

from mailstream.settings import Settings
from tests.support.eager_worker import PROBE_SECONDS
from tests.support.eventually import eventually
from tests.support.mail_system import MailSystem, twice
from tests.support.nursery import Child, Nursery
from tests.support.processes import Programs

EAGER = ("tests.support.eager_worker", "worker")
BESIDES = 3  #: calls that may be under way when the first answer comes
RESET_SECONDS = 5
DEADLINE_SECONDS = 18.0  #: of a call


@asynccontextmanager
async def a_system(
    programs: Programs, settings: Settings, folder: Path, **changes: Any
) -> AsyncIterator[tuple[MailSystem, Child]]:
    """API, emulator and one eager worker that may have few calls under way."""
    system = MailSystem(programs, settings, session_timeout=10, max_in_flight=BESIDES, **changes)
    system.api = programs.api(system.settings)
    with Nursery(folder) as nursery:
        worker = nursery.worker(system.settings, EAGER)
        await eventually(worker.is_ready, within_seconds=40, waiting_for="the worker")
        system.api.ready()
        yield system, worker


def statuses(system: MailSystem, ids: list[str]) -> set[str]:
    """What the API says of them."""
    return {str(system.status(id_)["status"]) for id_ in ids}


async def test_a_429_makes_the_account_wait_as_long_as_it_says_and_costs_no_retry(
    programs: Programs, settings: Settings, tmp_path: Path
) -> None:
    async with a_system(programs, settings, tmp_path, send_gap=0.05, retry_delays=()) as (system, _):
        system.order(rules=[{"do": "status", "status": 429, "rate_limit_reset_seconds": RESET_SECONDS, "next": 1}])
        ids = [system.ask() for _ in range(20)]

        await system.all_have(ids, "SENT", within_seconds=40)

        calls = system.ledger(refused=True)
        [refused] = [number for number, call in enumerate(calls) if call["answer"] == "429"]
        besides = [call for call in calls[refused + 1 :] if call["at"] < calls[refused]["at"] + 0.5]
        first_after = calls[refused + 1 + len(besides)]
        assert len(besides) < BESIDES
        # the reset and the answer's Date are whole seconds
        assert RESET_SECONDS - 1 <= first_after["at"] - calls[refused]["at"] < RESET_SECONDS * 1.1 + 5
        assert not twice(system.ledger())


async def test_an_account_that_is_refused_pauses_the_sender_and_fails_no_mail(
    programs: Programs, settings: Settings, tmp_path: Path
) -> None:
    async with a_system(programs, settings, tmp_path, send_gap=0.05, retry_delays=()) as (system, worker):
        system.order(rules=[{"do": "status", "status": 401}])
        ids = [system.ask() for _ in range(10)]
        await eventually(
            lambda: "account_fault" in str(worker.state()),
            within_seconds=15,
            waiting_for="a worker that says why it pauses",
        )
        assert not worker.is_ready()
        assert 'mailstream_paused{reason="trouble"} 1.0' in httpx.get(f"{worker.url}/metrics").text

        await asyncio.sleep(4 * PROBE_SECONDS)

        calls = system.ledger(refused=True)
        probes = [call for call in calls if call["is_sandbox"]]
        assert 2 <= len(probes) <= 5
        assert all(after["at"] - before["at"] > PROBE_SECONDS * 0.9 for before, after in pairwise(probes))
        assert len(calls) - len(probes) <= BESIDES
        assert statuses(system, ids) <= {"QUEUED", "PROCESSING", "RETRYING"}
        assert "nothing is sent until a probe passes" in worker.log.read_text()

        system.order(rules=[])
        await system.all_have(ids, "SENT", within_seconds=20)
        await eventually(worker.is_ready, within_seconds=5, waiting_for="a worker that is ready again")
        assert not twice(system.ledger())


async def test_a_provider_that_fails_holds_a_few_and_keeps_the_others_back(
    programs: Programs, settings: Settings, tmp_path: Path
) -> None:
    async with a_system(programs, settings, tmp_path, send_gap=0.05) as (system, worker):
        system.order(rules=[{"do": "status", "status": 503}])
        ids = [system.ask() for _ in range(30)]
        await eventually(
            lambda: "provider_failing" in str(worker.state()), within_seconds=15, waiting_for="the breaker to open"
        )
        await asyncio.sleep(3 * PROBE_SECONDS)

        exposed = {call["id"] for call in system.ledger(refused=True) if not call["is_sandbox"]}
        assert 5 <= len(exposed) <= 5 + BESIDES

        system.order(rules=[])
        await system.all_have([id_ for id_ in ids if id_ not in exposed], "SENT", within_seconds=30)
        assert statuses(system, sorted(exposed)) == {"HELD"}  # a 503 proves nothing
        assert not {call["id"] for call in system.ledger() if not call["is_sandbox"]} & exposed


@pytest.mark.long
async def test_answers_that_do_not_end_hold_their_mail_at_the_deadline_and_delay_no_other(
    programs: Programs, settings: Settings, tmp_path: Path
) -> None:
    async with a_system(programs, settings, tmp_path, send_gap=0.05) as (system, _):
        endless = [system.ask("silent@example.com"), system.ask("slow@example.com")]
        await eventually(lambda: len(system.ledger()) >= 2, within_seconds=10, waiting_for="two calls without an end")

        await system.all_have([system.ask() for _ in range(20)], "SENT", within_seconds=10)
        assert statuses(system, endless) == {"PROCESSING"}
        await system.all_have(endless, "HELD", within_seconds=DEADLINE_SECONDS + 10)


async def test_a_new_key_in_its_file_is_used_without_a_restart(
    programs: Programs, settings: Settings, tmp_path: Path
) -> None:
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    file = secrets / "MAILSTREAM_SENDGRID_API_KEY"
    file.write_text("SG.old")
    system = MailSystem(programs, settings, send_gap=0, secrets_dir=str(secrets)).start()
    [worker] = system.workers
    system.order(api_keys=["SG.old"])
    await system.all_have([system.ask()], "SENT", within_seconds=10)

    system.order(api_keys=["SG.new"])
    id_ = system.ask()
    await eventually(
        lambda: "account_fault" in httpx.get(f"{worker.url}/readyz").text,
        within_seconds=10,
        waiting_for="a worker that says why it pauses",
    )
    file.write_text("SG.new")

    await system.all_have([id_], "SENT", within_seconds=10)  # a probe a minute would come too late
    assert worker.is_running()
    assert "SG." not in worker.log.read_text()
    assert not twice(system.ledger())
