"""A cluster of three whose machines die in turn, and then two at once: nothing lost, nothing twice (row 9)."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from mailstream.domain.errors import NoKafka
from tests.support.api_caller import ApiCaller
from tests.support.eventually import eventually
from tests.support.history_logs import FaultKind, Result
from tests.support.mail_system import MailSystem
from tests.support.processes import Programs
from tests.support.run_log import KafkaCaller, RunLog, all_calls
from tests.support.system import some_settings, topics_of
from tests.support.three_brokers import ThreeBrokers, three_brokers
from tests.support.verdict import judge

pytestmark = [pytest.mark.long, pytest.mark.timeout(400)]

RESUMED_SECONDS = 10.0
#: What may start after an acknowledgement fails to come, and the calls that were won before.
SILENT_SECONDS = 6.0


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[ThreeBrokers]:
    """Three nodes of this test alone."""
    try:
        with three_brokers(tmp_path / "cluster") as cluster:
            yield cluster
    except NoKafka as error:
        pytest.skip(str(error))


async def test_machines_that_die_delay_mails_and_neither_lose_nor_repeat_one(
    cluster: ThreeBrokers, programs: Programs
) -> None:
    log = RunLog()
    settings = some_settings(cluster.bootstrap, send_gap=0.1, session_timeout=6, replication_factor=3)
    prefix = settings.topic_prefix
    with topics_of(settings):
        system = MailSystem(programs, settings).start()
        assert system.api is not None
        async with _asking(system, log) as http:
            await system.accepted(20, within_seconds=30)
            for id_ in (1, 2, 3):
                led = sum(leader == id_ for leader in cluster.leaders(prefix).values())
                assert led, f"node {id_} leads nothing: its death would try nothing"
                taken = _taken(log)
                cluster.kill(id_)
                log.did(FaultKind.BROKER_DOWN, f"broker-{id_}")
                killed_at = time.time()
                await _in_thread(lambda id_=id_: cluster.is_led_by_others(prefix, id_), waiting_for="other leaders")
                led_at = time.time()
                first = await _first_call_after(system, led_at)
                await eventually(
                    lambda taken=taken: _taken(log) > taken + 3, within_seconds=20, waiting_for="an API that takes mail"
                )
                print(f"node {id_} led {led}: others lead after {led_at - killed_at:.1f} s, call {first:.1f} s later")
                assert first <= RESUMED_SECONDS
                await asyncio.to_thread(cluster.start, id_)
                log.did(FaultKind.BROKER_UP, f"broker-{id_}")
                await _in_thread(lambda: cluster.is_whole(prefix), waiting_for="three replicas of everything")

            # two of three: no record can be acknowledged
            for id_ in (1, 2):
                cluster.kill(id_)
                log.did(FaultKind.BROKER_DOWN, f"broker-{id_}")
            await asyncio.sleep(SILENT_SECONDS)
            calls, asks = len(all_calls(system.emulator.url)), len(log.asks)
            begun = time.monotonic()
            assert await http.ask() is None
            assert log.asks[-1].code == 503
            assert time.monotonic() - begun < 4
            await asyncio.sleep(10)
            assert len(all_calls(system.emulator.url)) == calls, "nothing is called while claims cannot be written"
            assert all(ask.result is not Result.OK for ask in log.asks[asks:])
            assert system.workers[0].is_running()
            await asyncio.to_thread(cluster.start, 1, 2)
            log.did(FaultKind.BROKER_UP, "broker-1 and broker-2")
            await _in_thread(
                lambda: -1 not in cluster.leaders(prefix).values() and bool(cluster.leaders(prefix)),
                waiting_for="leaders",
            )
            first = await _first_call_after(system, time.time())
            print(f"two nodes dead: call {first:.1f} s after leadership was back")
            assert first <= RESUMED_SECONDS
            await asyncio.sleep(5)

        await eventually(
            lambda: all(status.final for status in log.history(settings, ()).final.values()),
            within_seconds=90,
            waiting_for="a final status of every email",
            every_seconds=2.0,
        )
        assert all(worker.stop() == 0 for worker in system.workers), "the worker lived through all of it"
        verdict = judge(log.history(system.settings, all_calls(system.emulator.url)))
        print(verdict)
        assert verdict.holds, str(verdict)


@contextlib.asynccontextmanager
async def _asking(system: MailSystem, log: RunLog) -> AsyncIterator[ApiCaller]:
    """A few emails a second from both sources until the block ends. It gets a caller of the API."""
    assert system.api is not None
    api_url = system.api.url
    by_kafka, by_http, other = (
        KafkaCaller(system.settings, log),
        ApiCaller({"api-0": api_url}, log),
        ApiCaller({"api-0": api_url}, log),
    )

    async def ask(caller: KafkaCaller | ApiCaller) -> None:
        while True:
            await caller.ask()
            await asyncio.sleep(0.4)

    tasks = [asyncio.create_task(ask(caller)) for caller in (by_kafka, by_http)]
    try:
        yield other
    finally:
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        for caller in (by_kafka, by_http, other):
            await caller.close()
    assert all(isinstance(result, asyncio.CancelledError) for result in results), results


async def _first_call_after(system: MailSystem, moment: float) -> float:
    """Seconds from this moment to the next call."""

    def first() -> float:
        calls = [call["at"] for call in all_calls(system.emulator.url) if call["at"] > moment]
        assert calls, "no call"
        return min(calls) - moment

    return await eventually(first, within_seconds=30, waiting_for="a call")


async def _in_thread(fact: Callable[[], bool], *, waiting_for: str) -> None:
    await eventually(lambda: asyncio.to_thread(fact), within_seconds=60, waiting_for=waiting_for, every_seconds=0.1)


def _taken(log: RunLog) -> int:
    """How many emails the API took."""
    return sum(ask.code == 202 for ask in log.asks)
