"""Never faster than the gap: by the worker's clock and by the emulator's, with real processes."""

import asyncio
from contextlib import ExitStack
from itertools import pairwise

from tests.support.broker import Kafka
from tests.support.mail_system import MailSystem, gaps_between, twice
from tests.support.processes import Programs
from tests.support.system import some_settings, topics_of


async def test_ten_queued_calls_start_one_gap_apart_whatever_time_a_call_takes(
    programs: Programs, kafka: Kafka
) -> None:
    with ExitStack() as stack:  # three systems side by side: they share nothing but the broker
        systems = []
        for latency_seconds in (0.0, 1.5, 3.0):
            settings = some_settings(kafka.bootstrap)
            stack.enter_context(topics_of(settings))
            system = MailSystem(programs, settings)
            system.order(latency_seconds=latency_seconds)
            systems.append(system)
        ids = await asyncio.gather(*(system.publish(10) for system in systems))
        for system in systems:
            system.add_workers(1)

        for system, asked in zip(systems, ids, strict=True):
            calls = await system.accepted(10, within_seconds=50)
            starts = await system.starts(10)
            assert {call["id"] for call in calls} == set(asked)
            assert min(later - earlier for earlier, later in pairwise(starts)) >= 2.0, "never early"
            # the emulator's clock is read when its process gets the processor: on a busy machine milliseconds late
            arrivals = sorted(gaps_between(calls))
            assert arrivals[0] >= 1.98, arrivals
            assert 1.999 <= arrivals[len(arrivals) // 2] <= 2.02, arrivals


async def test_two_then_five_workers_share_one_gap_and_send_nothing_twice(programs: Programs, kafka: Kafka) -> None:
    gap = 0.25
    settings = some_settings(kafka.bootstrap, partitions=8, send_gap=gap, session_timeout=6)
    with topics_of(settings):
        system = MailSystem(programs, settings).start(workers=2)
        ids = await system.publish(60)
        await system.accepted(15, within_seconds=40)

        system.add_workers(3)
        calls = await system.accepted(60, within_seconds=90)

        starts = await system.starts(60)
        assert not twice(calls)
        assert {call["id"] for call in calls} == set(ids)
        assert min(later - earlier for earlier, later in pairwise(starts)) >= gap - 0.005
        await system.all_have(ids, "SENT", within_seconds=10)
