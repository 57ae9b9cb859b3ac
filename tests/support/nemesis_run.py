"""One run: a system, its users, its nemesis; then it comes to rest, the audit proves it, and the checker judges it."""

import asyncio
import contextlib
import json
import pickle
import random
import subprocess
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from mailstream.domain import topics
from mailstream.domain.errors import NotCaughtUp
from mailstream.domain.topics import GROUP_WORKER, Naming
from mailstream.kafka.offsets import LogEnds
from mailstream.settings import Settings
from tests.support.api_caller import ApiCaller
from tests.support.broker import ROOT, Kafka
from tests.support.eventually import eventually
from tests.support.held_operator import Operator
from tests.support.history import History, Run
from tests.support.history_logs import Audit, Result
from tests.support.mail_system import MailSystem
from tests.support.nemesis import BLOWS, Nemesis
from tests.support.nursery import REAL, REAL_API, Nursery
from tests.support.processes import Programs, command
from tests.support.proxy import Proxy
from tests.support.run_log import RunLog, all_calls
from tests.support.shop import open_shop, with_rules
from tests.support.stalls import Stalls
from tests.support.system import some_settings, topics_of
from tests.support.traffic import ACTS, Traffic
from tests.support.verdict import Verdict, judge

GAP_SECONDS, SESSION_SECONDS, HOLD_SECONDS = 0.1, 3.0, 10.0
#: From the last blow until every email stands: the longest call (18 s), HOLD_SECONDS, a busy machine; and what piled up meanwhile.
SETTLE_SECONDS = 120.0
#: Longer than anything waits by itself: what has not moved for so long does not come to rest.
STILL_SECONDS = 45.0
READY_SECONDS = 60.0
AUDIT_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class NemesisRun:
    """What came of it."""

    verdict: Verdict
    history: History
    codes: Mapping[str, int | None]  #: of each process; None: it did not end in time

    @property
    def sent_twice(self) -> list[str]:
        """Emails of which the provider took more than one."""
        return [id_ for id_, calls in self.history.accepted.items() if len(calls) > 1]

    def found(self, *invariants: str) -> set[str]:
        """What findings of these invariants are about."""
        return {finding.about for finding in self.verdict.findings if finding.invariant in invariants}


async def nemesis_run(
    programs: Programs,
    kafka: Kafka,
    folder: Path,
    *,
    seconds: float,
    seed: int,
    program: Sequence[str] = REAL,
    api_program: Sequence[str] = REAL_API,
    blows: Mapping[str, float] = BLOWS,
    acts: Mapping[str, float] = ACTS,
    kills: bool = True,
) -> NemesisRun:
    """``blows`` and ``acts`` name what comes, and how often beside the others; ``kills=False``: no kills beside them."""
    assert kafka.broker is not None
    assert kafka.proxied is not None
    print(f"seed {seed}", flush=True)
    dice, log = random.Random(seed), RunLog()
    settings = with_rules(
        some_settings(
            kafka.bootstrap, send_gap=GAP_SECONDS, session_timeout=SESSION_SECONDS, hold_timeout=HOLD_SECONDS
        ),
        folder,
    )
    with (
        topics_of(settings) as admin,
        Proxy(kafka.proxied.advertised, kafka.proxied.port) as proxy,
        Nursery(folder) as nursery,
    ):
        open_shop(admin, settings)
        system = MailSystem(programs, settings)
        key = httpx.get(f"{system.emulator.url}/webhook-key", timeout=10).text
        settings = system.settings = system.settings.model_copy(update={"sendgrid_webhook_keys": (key,)})
        nemesis = Nemesis(
            nursery,
            settings,
            log,
            dice=dice,
            broker=kafka.broker,
            proxy=proxy,
            order=system.order,
            program=program,
            api_program=api_program,
            blows=blows,
        )
        urls = {name: api.url for name, api in nemesis.apis.items()}
        system.order(
            seed=seed,
            latency_seconds=(0.0, 2.0),  # after it took the mail: about one call of each worker is under way at a blow
            rules=[{"do": "drop", "share": 0.01}, {"do": "status", "status": 503, "share": 0.01}],
            webhook={
                "url": f"{urls['api-0']}/v1/events/sendgrid",
                "delay_seconds": (0.5, 8.0),
                "late": {"share": 0.05, "seconds": (5.0, 15.0)},
                "lost_share": 0.05,
                "duplicate_share": 0.02,
                "shuffle": True,
            },
        )
        await eventually(
            lambda: all(child.is_ready() for child in (*nemesis.workers.values(), *nemesis.apis.values())),
            within_seconds=READY_SECONDS,
            waiting_for="three workers and two APIs",
        )

        def processes() -> dict[str, int]:
            children = nemesis.workers | nemesis.apis
            return {name: child.pid for name, child in children.items()} | {"emulator": system.emulator.pid}

        with Stalls(processes, log.samples):
            async with _users(settings, log, urls, dice, acts):
                await nemesis.rage(seconds, kills=kills)
            watch = asyncio.create_task(nemesis.watch())
            await _come_to_rest(system, log)
            watch.cancel()
            codes = await nemesis.leave()
        log.audits.append(await asyncio.to_thread(_audited, settings, folder))
        history = _history(log, settings, seed)
        (folder / "history.pickle").write_bytes(pickle.dumps(history))  # to look at a broken one again
        verdict = judge(history)
        print(f"seed {seed}: {verdict}", flush=True)
        return NemesisRun(verdict, history, codes)


@asynccontextmanager
async def _users(
    settings: Settings, log: RunLog, urls: Mapping[str, str], dice: random.Random, acts: Mapping[str, float]
) -> AsyncIterator[None]:
    """Users and an operator until the block ends; requests that are under way then still get the time for their answer."""
    caller = ApiCaller(urls, log)
    traffic = Traffic(settings, log, urls, random.Random(dice.random()), acts)
    operator = Operator(settings, log, caller, random.Random(dice.random()))
    at_work = [asyncio.create_task(traffic.go_on()), asyncio.create_task(operator.watch())]
    try:
        yield
    finally:
        for task in at_work:
            task.cancel()
        for ended in await asyncio.gather(*at_work, return_exceptions=True):
            if not isinstance(ended, asyncio.CancelledError):
                raise ended
        await traffic.close()
        await operator.close()
        await caller.close()


async def _come_to_rest(system: MailSystem, log: RunLog) -> None:
    """Wait until every email stands and all that is in the topics is settled; what never does is the verdict's to name."""
    settings = system.settings
    last: tuple[float, Any] = time.monotonic(), None

    def stands_or_is_stuck() -> bool:
        nonlocal last
        final = log.history(settings, ()).final
        if (now := {id_: status.rank for id_, status in final.items()}) != last[1]:
            last = time.monotonic(), now
        promised = {ask.id for ask in log.asks if ask.id is not None and ask.result is Result.OK}
        is_at_rest = promised <= final.keys() and all(status.final for status in final.values())
        return is_at_rest or time.monotonic() - last[0] > STILL_SECONDS

    with contextlib.suppress(AssertionError):
        await eventually(
            stands_or_is_stuck,
            within_seconds=SETTLE_SECONDS + len(log.asks) * GAP_SECONDS,
            waiting_for="a final status of every email",
            every_seconds=2.0,
        )
    system.order(webhook={"is_held": True})  # no more news, so that what stands in the topics is all there is
    ends = LogEnds(settings)
    with contextlib.suppress(AssertionError):
        await eventually(
            lambda: _is_read(ends, settings), within_seconds=30, waiting_for="the end of both topics", every_seconds=0.5
        )


async def _is_read(ends: LogEnds, settings: Settings) -> bool:
    naming = Naming(settings.topic_prefix)
    try:
        for topic in (naming.of(topics.REQUESTED), naming.of(topics.EVENTS)):
            committed, last = await ends.committed(topic, naming.of(GROUP_WORKER)), await ends.last(topic)
            if any(offset > committed.get(place, 0) for place, offset in last.items()):
                return False
    except NotCaughtUp:
        return False
    return True


def _audited(settings: Settings, folder: Path) -> Audit:
    """`mailstream audit verify`, when no worker runs any more."""
    begun_at = time.time()
    done = command(
        "audit", "verify", "--settle", "0", "--json", settings=settings, folder=folder, seconds=AUDIT_SECONDS
    )
    assert done.stdout, done.stderr
    report = json.loads(done.stdout)
    print(f"audit: exit code {done.returncode}, {report['found']}", *report["findings"][:20], sep="\n", flush=True)
    differing = tuple(f["about"] for f in report["findings"] if f["kind"] in ("NOT_THE_FOLD", "STALE"))
    found = tuple(f["about"] for f in report["findings"])
    return Audit(begun_at, time.time(), done.returncode, differing, found)


def _history(log: RunLog, settings: Settings, seed: int) -> History:
    return log.history(
        settings,
        all_calls(settings.sendgrid_url),
        run=Run(
            seed=seed,
            commit=_commit(),
            gap_seconds=settings.send_gap,
            session_timeout_seconds=SESSION_SECONDS,
            hold_timeout_seconds=HOLD_SECONDS,
            retries=len(settings.retry_delays),
            most_age_seconds=settings.max_event_age,
            topic_prefix=settings.topic_prefix,
            broker=settings.kafka_bootstrap,
        ),
    )


def _commit() -> str:
    told = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return told.stdout.strip()
