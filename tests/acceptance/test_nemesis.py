"""Nothing lost, nothing sent twice, no lie, never too fast: while workers die, stop, lose Kafka, and Kafka dies too."""

import asyncio
import contextlib
import os
import random
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import httpx
import pytest

from mailstream.request import OnAmbiguous
from mailstream.settings import Settings
from tests.support.broker import ROOT, Kafka
from tests.support.eventually import eventually
from tests.support.history import History, Run
from tests.support.mail_system import MailSystem, an_address
from tests.support.nemesis import Nemesis
from tests.support.nursery import REAL, Nursery
from tests.support.processes import Programs
from tests.support.proxy import Proxy
from tests.support.run_log import ApiCaller, KafkaCaller, RunLog, all_calls
from tests.support.system import some_settings, topics_of
from tests.support.verdict import Verdict, judge

CLAIMLESS = ("tests.support.claimless_worker", "worker")
#: The same in every normal run; ``make test-faults`` draws one, and SEED repeats it.
USUAL_SEED = 20_260
GAP_SECONDS, SESSION_SECONDS = 0.1, 3.0
#: Between two asks: 5 a second, half of what the gap lets through, so that what piles up goes away.
ASK_SECONDS = 0.2
HOLD_SECONDS = 10.0
SHORT_SECONDS = 60.0
#: From the last blow until every email stands: G1 (18 s), HOLD_SECONDS, a busy machine; and what piled up meanwhile.
SETTLE_SECONDS = 120.0


@pytest.mark.timeout(400)
async def test_a_minute_of_faults_loses_nothing_and_sends_nothing_twice(
    programs: Programs, own_kafka: Kafka, tmp_path: Path
) -> None:
    verdict, _ = await _run(programs, own_kafka, tmp_path, seconds=SHORT_SECONDS, seed=_seed(USUAL_SEED))
    assert verdict.holds, f"{verdict}"


@pytest.mark.long
@pytest.mark.timeout(0)
async def test_a_long_time_of_faults_loses_nothing_and_sends_nothing_twice(
    programs: Programs, own_kafka: Kafka, tmp_path: Path
) -> None:
    seconds = float(os.environ.get("DURATION") or 900)
    verdict, _ = await _run(programs, own_kafka, tmp_path, seconds=seconds, seed=_seed(int(time.time())))
    assert verdict.holds, f"{verdict}"


@pytest.mark.long  # of the normal run's time: the checker's planted histories are there all the time
@pytest.mark.timeout(400)
async def test_without_the_claim_the_same_faults_send_mails_twice(
    programs: Programs, own_kafka: Kafka, tmp_path: Path
) -> None:
    verdict, history = await _run(
        programs, own_kafka, tmp_path, seconds=SHORT_SECONDS, seed=_seed(USUAL_SEED), program=CLAIMLESS
    )
    sent_twice = [id_ for id_, calls in history.accepted.items() if len(calls) > 1]
    assert sent_twice, f"{verdict}"
    assert not verdict.holds
    assert {"I2", "I3"} & {finding.invariant for finding in verdict.findings if finding.about in sent_twice}


def _seed(otherwise: int) -> int:
    return int(os.environ.get("SEED") or otherwise)


async def _run(
    programs: Programs,
    kafka: Kafka,
    folder: Path,
    *,
    seconds: float,
    seed: int,
    program: Sequence[str] = REAL,
) -> tuple[Verdict, History]:
    assert kafka.broker is not None
    assert kafka.proxied is not None
    print(f"seed {seed}")
    dice, log = random.Random(seed), RunLog()
    settings = some_settings(
        kafka.bootstrap, send_gap=GAP_SECONDS, session_timeout=SESSION_SECONDS, hold_timeout=HOLD_SECONDS
    )
    with (
        topics_of(settings),
        Proxy(kafka.proxied.advertised, kafka.proxied.port) as proxy,
        Nursery(folder) as nursery,
    ):
        system = MailSystem(programs, settings)
        key = httpx.get(f"{system.emulator.url}/webhook-key", timeout=10).text
        settings = system.settings.model_copy(update={"sendgrid_webhook_keys": (key,)})
        api = programs.api(settings).ready()
        system.order(
            seed=seed,
            latency_seconds=(0.0, 2.0),  # after it took the mail: about one call of each worker is under way at a blow
            rules=[{"do": "drop", "share": 0.01}, {"do": "status", "status": 503, "share": 0.01}],
            webhook={"url": f"{api.url}/v1/events/sendgrid", "delay_seconds": (0.5, 8.0), "lost_share": 0.05},
        )
        nemesis = Nemesis(nursery, settings, log, dice=dice, broker=kafka.broker, proxy=proxy, program=program)
        await eventually(
            lambda: all(worker.is_ready() for worker in nemesis.workers.values()),
            within_seconds=60,
            waiting_for="three workers",
        )
        traffic = asyncio.create_task(_traffic(settings, api.url, log, random.Random(seed + 1)))
        await nemesis.rage(seconds)
        traffic.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await traffic

        watch = asyncio.create_task(nemesis.watch())
        with contextlib.suppress(AssertionError):  # what never came to rest is the verdict's to name
            await eventually(
                lambda: _all_stand(log, settings),
                within_seconds=SETTLE_SECONDS + len(log.asks) * GAP_SECONDS,
                waiting_for="a final status of every email",
                every_seconds=2.0,
            )
        watch.cancel()
        codes = await nemesis.leave()
        history = _history(log, settings, system.emulator.url, seed)
        verdict = judge(history)
        print(f"seed {seed}: {verdict}")
        if program is REAL:
            assert not verdict.figures["unfinished"], f"{verdict}"
            assert set(codes.values()) == {0}, codes
            assert verdict.figures["exposed"], "no email was in flight at any blow: nothing was tried"
        return verdict, history


async def _traffic(settings: Settings, api_url: str, log: RunLog, dice: random.Random) -> None:
    """Both sources, both policies, some mailboxes that get several mails; and somebody who looks."""
    by_kafka, by_http = KafkaCaller(settings, log), ApiCaller(lambda: api_url, log)
    mailboxes = [an_address() for _ in range(10)]
    asked: list[str] = []
    try:
        while True:
            to = dice.choice(mailboxes) if dice.random() < 0.2 else None
            policy = dice.choice([OnAmbiguous.HOLD, OnAmbiguous.HOLD, OnAmbiguous.RESEND])
            caller = by_http if dice.random() < 0.3 else by_kafka
            if (id_ := await caller.ask(to, on_ambiguous=policy)) is not None:
                asked.append(id_)
            if asked and dice.random() < 0.5:
                await by_http.look_up(dice.choice(asked[-50:]))
            await asyncio.sleep(dice.uniform(0, 2 * ASK_SECONDS))
    finally:
        await by_kafka.close()
        await by_http.close()


def _all_stand(log: RunLog, settings: Settings) -> bool:
    final = log.history(settings, ()).final
    return all(ask.id is None or (ask.id in final and final[ask.id].final) or ask.result != "ok" for ask in log.asks)


def _history(log: RunLog, settings: Settings, emulator_url: str, seed: int) -> History:
    return log.history(
        settings,
        all_calls(emulator_url),
        run=Run(
            seed=seed,
            commit=_commit(),
            gap_seconds=settings.send_gap,
            session_timeout_seconds=SESSION_SECONDS,
            topic_prefix=settings.topic_prefix,
            broker=settings.kafka_bootstrap,
        ),
    )


def _commit() -> str:
    told = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return told.stdout.strip()
