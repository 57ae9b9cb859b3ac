"""A worker whose wall clock is wrong sends nothing, says so, and judges nothing by it; then it goes on (row 28)."""

import asyncio
import re
import time
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import httpx
import pytest

from mailstream.settings import Settings
from tests.support.eventually import eventually
from tests.support.mail_system import MailSystem, twice
from tests.support.nursery import Child, Nursery
from tests.support.processes import Programs
from tests.support.run_log import all_calls
from tests.support.shifted_worker import shift

pytestmark = [pytest.mark.long, pytest.mark.timeout(120)]

GAP_SECONDS = 0.1
#: A datetime has microseconds.
ROUNDING_SECONDS = 2e-6
HOUR, YEAR = 3_600.0, 31_536_000.0


@pytest.mark.parametrize(
    "steps",
    [
        pytest.param((HOUR,), id="an hour ahead"),
        pytest.param((-HOUR,), id="an hour behind"),
        pytest.param((YEAR,), id="a year ahead"),
        pytest.param((-YEAR,), id="a year behind"),
        pytest.param((0.0, YEAR, -HOUR), id="jumping ten times a second"),
    ],
)
async def test_a_clock_that_steps_stops_calls_and_ends_no_email(
    programs: Programs, settings: Settings, tmp_path: Path, steps: tuple[float, ...]
) -> None:
    system = MailSystem(programs, settings, send_gap=GAP_SECONDS, session_timeout=6)
    system.api = programs.api(system.settings).ready()
    expires_at = datetime.now(UTC) + timedelta(minutes=50)
    ids = await system.publish(80, expires_at=expires_at)
    later = await system.publish(3, send_at=datetime.now(UTC) + timedelta(minutes=30), expires_at=expires_at)
    with Nursery(tmp_path) as nursery:
        clock = tmp_path / "clock"
        shift(clock, 0)
        worker = nursery.worker(system.settings, ("tests.support.shifted_worker", str(clock)))
        await system.accepted(10, within_seconds=30)

        shift(clock, *steps)
        is_jumping = len(steps) > 1
        await asyncio.sleep(0.5)  # what has passed its gate may still reach the provider
        calls = len(all_calls(system.emulator.url))
        ids += await system.publish(5, expires_at=expires_at)
        await eventually(lambda: _says_so(worker, is_jumping=is_jumping), within_seconds=10, waiting_for="an alarm")
        await asyncio.sleep(3)
        if not is_jumping:  # between two jumps it is right
            assert len(all_calls(system.emulator.url)) == calls, "a call was started by a wrong clock"
        assert {system.status(id_)["status"] for id_ in [*ids, *later]} <= {"QUEUED", "PROCESSING", "SENT"}

        shift(clock, 0)
        await eventually(worker.is_ready, within_seconds=10, waiting_for="a worker that trusts its clock again")
        await system.all_have(ids, "SENT", within_seconds=40)
        await system.all_have(later, "QUEUED", within_seconds=1)
        assert not twice(system.ledger())
        starts = await system.starts(
            len(ids)
        )  # as recorded at the gate: the emulator hears of them later on a busy machine
        assert min(later - earlier for earlier, later in pairwise(starts)) >= GAP_SECONDS - ROUNDING_SECONDS
        assert _metric(worker, "mailstream_clock_error_seconds") == 0


async def test_a_worker_that_starts_with_a_wrong_clock_takes_requests_and_sends_when_it_is_right(
    programs: Programs, settings: Settings, tmp_path: Path
) -> None:
    system = MailSystem(programs, settings, send_gap=0, session_timeout=6)
    system.api = programs.api(system.settings).ready()
    with Nursery(tmp_path) as nursery:
        clock = tmp_path / "clock"
        shift(clock, YEAR)
        worker = nursery.worker(system.settings, ("tests.support.shifted_worker", str(clock)))
        ids = await system.publish(5, expires_at=datetime.now(UTC) + timedelta(minutes=15))
        await system.all_have(ids, "QUEUED", within_seconds=30)
        await eventually(lambda: _says_so(worker), within_seconds=10, waiting_for="an alarm")
        assert not all_calls(system.emulator.url)

        shift(clock, 0)
        await system.all_have(ids, "SENT", within_seconds=20)
        assert "mailstream-reason" not in worker.last_lines(100)
        statuses = [system.status(id_) for id_ in ids]
        assert all(abs(_seconds(status["created_at"]) - time.time()) < HOUR / 2 for status in statuses)


def _says_so(worker: Child, *, is_jumping: bool = False) -> bool:
    state = worker.state() or {}
    reason = " ".join(state.get("reasons", ()))
    assert not state["ready"]
    assert state["live"]
    assert re.search(r"this machine's clock is \d+ s (ahead of|behind) the brokers'. Set it right \(NTP\)", reason), (
        reason
    )
    assert '"nothing is sent"' in worker.log.read_text() or "nothing is sent" in worker.log.read_text()
    return is_jumping or (
        _metric(worker, 'mailstream_paused{reason="clock"}') == 1
        and abs(_metric(worker, "mailstream_clock_error_seconds")) > HOUR - 60
    )


def _metric(worker: Child, name: str) -> float:
    lines = httpx.get(f"{worker.url}/metrics", timeout=5).text.splitlines()
    return next((float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name + " ")), 0.0)


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
