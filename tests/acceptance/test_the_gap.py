"""Never faster than the gap: by the emulator's clock and by what the worker recorded, with real processes."""

from itertools import pairwise

import pytest

from mailstream.settings import Settings
from tests.support.mail_system import MailSystem, gaps_between, twice
from tests.support.processes import Programs


@pytest.mark.parametrize("latency_seconds", [0.0, 1.5, 3.0])
async def test_ten_queued_calls_start_one_gap_apart_whatever_time_a_call_takes(
    programs: Programs, settings: Settings, latency_seconds: float
) -> None:
    system = MailSystem(programs, settings)
    ids = await system.publish(10)
    system.order(latency_seconds=latency_seconds)

    system.start()
    calls = await system.accepted(10, within_seconds=40)

    starts = await system.starts(10)
    assert {call["id"] for call in calls} == set(ids)
    assert min(later - earlier for earlier, later in pairwise(starts)) >= 2.0, "never early, by the worker's clock"
    # the emulator's clock is read when its process gets the processor: on a busy machine some milliseconds late
    arrivals = sorted(gaps_between(calls))
    assert arrivals[0] >= 1.98, arrivals
    assert 1.999 <= arrivals[len(arrivals) // 2] <= 2.02, arrivals


async def test_two_then_five_workers_share_one_gap_and_send_nothing_twice(
    programs: Programs, settings: Settings
) -> None:
    gap = 0.25
    system = MailSystem(programs, settings, send_gap=gap, session_timeout=6).start(workers=2)
    ids = await system.publish(60)
    await system.accepted(15, within_seconds=40)

    system.add_workers(3)
    calls = await system.accepted(60, within_seconds=90)

    assert not twice(calls)
    assert {call["id"] for call in calls} == set(ids)
    starts = await system.starts(60)
    assert min(later - earlier for earlier, later in pairwise(starts)) >= gap - 0.005
    await system.all_have(ids, "SENT", within_seconds=10)
