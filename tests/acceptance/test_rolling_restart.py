"""Three workers restarted one after the other under load: no doubt is left behind, and how long each partition waits."""

import asyncio
import contextlib
import random
import signal
import time
from collections import defaultdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from mailstream.domain.email_id import partition_in
from mailstream.domain.status import Status
from mailstream.settings import Settings
from tests.support.eventually import eventually
from tests.support.mail_system import MailSystem, twice
from tests.support.nursery import Child, Nursery
from tests.support.processes import Programs
from tests.support.run_log import KafkaCaller, RunLog, all_calls

ASK_SECONDS = 0.02
LATENCY_SECONDS = 0.5  #: of a call: some are under way at every stop
STOP_SECONDS = 30.0
STOPS = 40  #: of three workers each
#: Longest that a partition may go without a call: the drain, two assignments, a start; on a busy machine.
PAUSE_SECONDS = 20.0


@pytest.mark.timeout(180)
@pytest.mark.parametrize(
    "is_static",
    [
        pytest.param(False, id="members that leave"),
        pytest.param(True, id="static members", marks=pytest.mark.long),  # not the default (ADR-0015)
    ],
)
async def test_a_rolling_restart_leaves_nothing_held(
    programs: Programs, settings: Settings, tmp_path: Path, *, is_static: bool
) -> None:
    system = MailSystem(programs, settings, send_gap=0, session_timeout=10, static_membership=is_static)
    system.order(latency_seconds=LATENCY_SECONDS)
    settings, log = system.settings, RunLog()
    with Nursery(tmp_path) as nursery:
        workers = [nursery.worker(settings, name=f"worker-{number}") for number in range(3)]
        await _ready(workers)
        traffic = asyncio.create_task(_ask_on(settings, log))
        await asyncio.sleep(2)
        began = time.time()
        for worker in workers:
            worker.send(signal.SIGTERM)
            assert await asyncio.to_thread(worker.wait, STOP_SECONDS) == 0, worker.last_lines(20)
            await _ready([nursery.worker(settings, name=worker.name)])
        ended = time.time()
        await asyncio.sleep(2)
        traffic.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await traffic
        asked = {ask.id for ask in log.asks}
        await eventually(
            lambda: {call["id"] for call in all_calls(system.emulator.url)} >= asked,
            within_seconds=60,
            waiting_for=f"{len(asked)} calls",
            every_seconds=0.5,
        )

    calls = all_calls(system.emulator.url)
    history = log.history(settings, calls)
    pauses = _pauses(calls, settings.partitions)
    told = ", ".join(f"{partition}: {seconds:.2f} s" for partition, seconds in sorted(pauses.items()))
    print(f"{len(asked)} mails, three restarts in {ended - began:.1f} s, longest pause of partition {told}")
    assert not twice(calls)
    held = [id_ for id_, all_ in history.statuses.items() if any(s.status is Status.HELD for _, s in all_)]
    assert not held
    assert max(pauses.values()) < PAUSE_SECONDS


@pytest.mark.long
@pytest.mark.timeout(600)
async def test_workers_that_stop_while_their_group_is_assigned_end_in_order(
    programs: Programs, settings: Settings, tmp_path: Path
) -> None:
    system = MailSystem(programs, settings, send_gap=0.1, session_timeout=3)
    system.order(latency_seconds=(0.0, 2.0))
    settings, dice = system.settings, random.Random(7)
    with Nursery(tmp_path) as nursery:
        traffic = asyncio.create_task(_ask_on(settings, RunLog(), seconds=0.2))
        for number in range(STOPS):
            workers = [nursery.worker(settings, name=f"worker-{name}") for name in range(3)]
            await asyncio.sleep(dice.uniform(1.5, 4.5))  # joining, loading, just loaded
            for worker in workers:
                await asyncio.sleep(dice.choice([0, 0, dice.uniform(0, 0.3)]))
                worker.send(signal.SIGTERM)
            codes = [await asyncio.to_thread(worker.wait, STOP_SECONDS) for worker in workers]
            assert codes == [0, 0, 0], f"stop {number}: {codes}"
        traffic.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await traffic


async def _ready(workers: list[Child]) -> None:
    await eventually(
        lambda: all(worker.is_ready() for worker in workers), within_seconds=60, waiting_for="ready workers"
    )


async def _ask_on(settings: Settings, log: RunLog, *, seconds: float = ASK_SECONDS) -> None:
    caller = KafkaCaller(settings, log)
    try:
        while True:
            await caller.ask()
            await asyncio.sleep(seconds)
    finally:
        await caller.close()


def _pauses(calls: list[dict[str, Any]], partitions: int) -> dict[int, float]:
    """Each partition to the longest time between two of its calls, in seconds; somebody always waited."""
    times: dict[int, list[float]] = defaultdict(list)
    for call in calls:
        times[partition_in(call["id"], partitions)].append(call["at"])
    return {partition: max(b - a for a, b in pairwise(sorted(at))) for partition, at in times.items()}
