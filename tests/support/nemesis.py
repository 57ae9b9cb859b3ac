"""What happens to real systems, to one of ours, in an order that a seed decides: who is killed, paused, cut off from Kafka,
started beside the others, which topic takes no writes, when the broker is killed, and when no worker is there at all.
"""

import asyncio
import random
import signal
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from dev.kafka.node import Broker
from mailstream.domain import topics
from mailstream.settings import Settings
from tests.support.history_logs import FaultKind
from tests.support.nursery import REAL, REAL_API, Child, Nursery
from tests.support.proxy import Proxy, Way
from tests.support.run_log import RunLog
from tests.support.unwilling_topic import takes_no_writes, takes_writes

KILL_EVERY_SECONDS = 0.5, 4.0  #: with the rest below: 200 kills and 80 pauses in 15 minutes
KILL_API_EVERY_SECONDS = 3.0, 12.0
REST_SECONDS = 0.2, 1.2  #: between two of the other blows
DOWN_SECONDS = 0.0, 1.0  #: until a killed process is started again
CUT_SECONDS = 0.5, 5.0
STORM_SECONDS = 1.0, 4.0  #: how long a further worker is a member
BROKER_DOWN_SECONDS = 0.2, 3.0
REFUSE_SECONDS = 1.5, 5.0
WRECK_SECONDS = 6.0, 9.0  #: for a group to notice that a worker died, and to share its partitions
ALL_DOWN_HOLDS = 1.1, 1.4  #: of HOLD_TIMEOUT
END_SECONDS = 40.0  #: for a worker to leave in order (its longest call, and a busy machine)
REFUSED = (topics.STATUS, topics.ATTEMPTS, topics.EVENTS, topics.REQUESTED)
#: How often each blow comes beside the others.
BLOWS: Mapping[str, float] = {
    "pause": 9,
    "cut": 2,
    "storm": 2,
    "refuse": 2,
    "restart_broker": 1,
    "wreck": 1,
    "absence": 1,
}


class Nemesis:
    """Three workers, two APIs, and what is done to them. The third worker reaches Kafka through the proxy, the others directly.

    ``blows``: how often each of them comes beside the others; ``order`` tells the provider how to behave.
    """

    def __init__(
        self,
        nursery: Nursery,
        settings: Settings,
        log: RunLog,
        *,
        dice: random.Random,
        broker: Broker,
        proxy: Proxy,
        order: Callable[..., None],
        program: Sequence[str] = REAL,
        api_program: Sequence[str] = REAL_API,
        blows: Mapping[str, float] = BLOWS,
    ) -> None:
        self._nursery, self._settings, self._log, self._dice = nursery, settings, log, dice
        self._programs = {"worker": program, "api": api_program}
        self._order, self._broker, self._proxy = order, broker, proxy
        # of their own: which draw comes first must not depend on how long something took
        self._dice_of_kills, self._dice_of_api_kills = random.Random(dice.random()), random.Random(dice.random())
        self._blows: dict[Callable[[], Coroutine[Any, Any, None]], float] = {
            blow: weight for name, weight in blows.items() for blow in [getattr(self, f"_{name}")]
        }
        self._through = settings.model_copy(update={"kafka_bootstrap": f"127.0.0.1:{proxy.port}"})
        self._extras = 0
        self._killing = asyncio.Lock()  #: kills workers and starts them again: one at a time
        self._down: set[str] = set()  #: killed, and not yet started again
        self.apis = {name: self._start(name) for name in ("api-0", "api-1")}
        self.workers = {name: self._start(name) for name in ("worker-a", "worker-b", "worker-c")}

    async def rage(self, seconds: float, *, kills: bool = True) -> None:
        """Kills, and beside them one other blow after the other; afterwards all run and nothing is cut or refused."""
        until = time.monotonic() + seconds
        killing = [self._kill_now_and_then(until), self._kill_apis_now_and_then(until)] if kills else []
        await asyncio.gather(self._strike(until), *killing)

    async def leave(self) -> dict[str, int | None]:
        """SIGTERM to all. Returns the exit codes; None: it did not end in time."""
        for child in (*self.workers.values(), *self.apis.values()):
            self._do(child, FaultKind.STOP, signal.SIGTERM)
        everyone = self.workers | self.apis
        return {name: await asyncio.to_thread(child.wait, END_SECONDS) for name, child in everyone.items()}

    async def watch(self) -> None:
        """As Kubernetes does: start again all that end by themselves, wake what stopped itself, until cancelled."""
        while True:
            for name, child in (self.workers | self.apis).items():
                self._reborn(name)
                if child.is_running() and child.is_stopped():
                    self._do(child, FaultKind.RESUME, signal.SIGCONT)
            await asyncio.sleep(0.5)

    # -- kills --------------------------------------------------------------------------------------------

    async def _kill_now_and_then(self, until: float) -> None:
        dice = self._dice_of_kills
        while time.monotonic() < until:
            async with self._killing:
                await self._kill(self.workers, dice.choice([*self.workers]), dice)
            await self._sleep(KILL_EVERY_SECONDS, dice)

    async def _kill_apis_now_and_then(self, until: float) -> None:
        """One at a time; the provider's events go to either, as a balancer in front of them does it."""
        dice = self._dice_of_api_kills
        while time.monotonic() < until:
            await self._sleep(KILL_API_EVERY_SECONDS, dice)
            await self._kill(self.apis, dice.choice([*self.apis]), dice)
            url = f"{self.apis[dice.choice([*self.apis])].url}/v1/events/sendgrid"
            await asyncio.to_thread(self._order, webhook={"url": url})

    async def _kill(self, group: dict[str, Child], name: str, dice: random.Random) -> None:
        self._down.add(name)
        group[name].kill()
        self._log.did(FaultKind.KILL, name)
        await self._sleep(DOWN_SECONDS, dice)
        group[name] = self._start(name)
        self._down.remove(name)

    # -- other blows --------------------------------------------------------------------------------------

    async def _strike(self, until: float) -> None:
        order = [*self._blows]  # each comes at least once, however short the run
        self._dice.shuffle(order)
        while order or time.monotonic() < until:
            blow = order.pop() if order else self._dice.choices([*self._blows], [*self._blows.values()])[0]
            await blow()
            for name in (*self.workers, *self.apis):
                self._reborn(name)
            await self._sleep(REST_SECONDS)

    async def _pause(self) -> None:
        """For longer than the group waits: it wakes as one that owns nothing, and does not know it yet."""
        name = self._dice.choice([*self.workers])
        self._do(self.workers[name], FaultKind.PAUSE, signal.SIGSTOP)
        await self._outlive_the_session()
        self._do(self.workers[name], FaultKind.RESUME, signal.SIGCONT)

    async def _doze(self) -> None:
        """Wait until a worker stops itself (a control does that at its worst moment), and wake it when it owns nothing."""
        for child in self.workers.values():
            if child.is_running() and child.is_stopped():
                self._log.did(FaultKind.PAUSE, child.name)
                await self._outlive_the_session()
                self._do(child, FaultKind.RESUME, signal.SIGCONT)

    async def _cut(self) -> None:
        """Nothing, or no answer, between one worker and Kafka; what it asked for may have been done."""
        if self._dice.random() < 0.5:
            self._proxy.cut()
        else:
            self._proxy.drop(Way.ANSWERS)
        self._log.did(FaultKind.CUT, "worker-c")
        await self._sleep(CUT_SECONDS)
        self._proxy.mend()
        self._log.did(FaultKind.MEND, "worker-c")

    async def _storm(self) -> None:
        """A worker joins, and leaves in order before it has settled in."""
        self._extras += 1
        worker = self._nursery.worker(self._settings, self._programs["worker"], name=f"worker-x{self._extras}")
        await self._sleep(STORM_SECONDS)
        self._do(worker, FaultKind.STOP, signal.SIGTERM)
        if await asyncio.to_thread(worker.wait, END_SECONDS) is None:
            worker.kill()
            self._log.did(FaultKind.KILL, worker.name)

    async def _refuse(self) -> None:
        """One topic takes no writes for a while."""
        async with self._refusing(self._dice.choice(REFUSED)):
            await self._sleep(REFUSE_SECONDS)

    async def _restart_broker(self) -> None:
        self._broker.kill()
        self._log.did(FaultKind.BROKER_DOWN, "broker")
        await self._sleep(BROKER_DOWN_SECONDS)
        await asyncio.to_thread(self._broker.start)
        await asyncio.to_thread(self._broker.wait)
        self._log.did(FaultKind.BROKER_UP, "broker")

    async def _wreck(self) -> None:
        """Statuses cannot be written, a worker dies, so that the others read their partitions again, and then all die.

        Of what only their memory knew nothing may be missing.
        """
        async with self._killing:
            async with self._refusing(topics.STATUS):
                await self._sleep(REST_SECONDS)
                first = self._dice.choice([*self.workers.values()])
                self._down.add(first.name)
                self._do(first, FaultKind.KILL, signal.SIGKILL)
                await self._sleep(WRECK_SECONDS)
                self._all_down(signal.SIGKILL)
            await self._sleep(DOWN_SECONDS)
            self._all_up()

    async def _absence(self) -> None:
        """No worker for longer than HOLD_TIMEOUT, while users go on, and the provider's events come late and all at once."""
        async with self._killing:
            await asyncio.to_thread(self._order, webhook={"is_held": True})
            await self._sleep(REST_SECONDS)
            self._all_down(self._dice.choice([signal.SIGKILL, signal.SIGTERM]))
            seconds, share = self._settings.hold_timeout * self._dice.uniform(*ALL_DOWN_HOLDS), self._dice.random()
            await asyncio.sleep(seconds * share)
            await asyncio.to_thread(self._order, webhook={"is_held": False})
            await asyncio.sleep(seconds * (1 - share))
            for worker in self.workers.values():
                await asyncio.to_thread(worker.wait, END_SECONDS)
            self._all_up()

    # -- hands --------------------------------------------------------------------------------------------

    def _all_down(self, number: signal.Signals) -> None:
        self._down.update(self.workers)
        kind = FaultKind.KILL if number is signal.SIGKILL else FaultKind.STOP
        for worker in self.workers.values():
            if worker.is_running():
                self._do(worker, kind, number)
        self._log.did(FaultKind.ALL_DOWN, "workers")

    def _all_up(self) -> None:
        for name in self.workers:
            self.workers[name] = self._start(name)
        self._down.difference_update(self.workers)
        self._log.did(FaultKind.ALL_UP, "workers")

    @asynccontextmanager
    async def _refusing(self, topic: topics.Topic) -> AsyncIterator[None]:
        await asyncio.to_thread(takes_no_writes, self._settings, topic)
        self._log.did(FaultKind.TOPIC_REFUSES, topic.name)
        try:
            yield
        finally:
            await asyncio.to_thread(takes_writes, self._settings, topic)
            self._log.did(FaultKind.TOPIC_TAKES, topic.name)

    def _start(self, name: str) -> Child:
        if name.startswith("api"):
            return self._nursery.api(self._settings, self._programs["api"], name=name)
        settings = self._through if name == "worker-c" else self._settings
        return self._nursery.worker(settings, self._programs["worker"], name=name)

    def _reborn(self, name: str) -> None:
        """As Kubernetes does: what ended because it could not go on is started again."""
        group = self.workers if name in self.workers else self.apis
        if not group[name].is_running() and name not in self._down:
            self._log.did(FaultKind.EXIT, name, group[name].code)
            group[name] = self._start(name)

    def _do(self, child: Child, kind: FaultKind, number: signal.Signals) -> None:
        child.send(number)
        self._log.did(kind, child.name)

    async def _outlive_the_session(self) -> None:
        seconds = self._settings.session_timeout
        await self._sleep((seconds * 1.2, seconds * 1.8))

    async def _sleep(self, between: tuple[float, float], dice: random.Random | None = None) -> None:
        await asyncio.sleep((dice or self._dice).uniform(*between))
