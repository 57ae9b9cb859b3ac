"""What happens to real systems, to one of ours, in an order that a seed decides (guarantees §7): who is killed, paused,
cut off from Kafka, started beside the others, and when the broker is killed.
"""

import asyncio
import random
import signal
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from dev.kafka.node import Broker
from mailstream.settings import Settings
from tests.support.history_logs import FaultKind
from tests.support.nursery import REAL, Child, Nursery
from tests.support.proxy import Proxy, Way
from tests.support.run_log import RunLog

KILL_EVERY_SECONDS = 0.5, 4.0  #: with the rest below: 300 kills and 100 pauses in 15 minutes
REST_SECONDS = 0.2, 1.2  #: between two of the other blows
DOWN_SECONDS = 0.0, 1.0  #: until a killed worker is started again
CUT_SECONDS = 0.5, 5.0
STORM_SECONDS = 1.0, 4.0  #: how long a further worker is a member
BROKER_DOWN_SECONDS = 0.2, 3.0
END_SECONDS = 40.0  #: for a worker to leave in order (G1, and a busy machine)


class Nemesis:
    """Three workers and what is done to them. The third reaches Kafka through the proxy, the others directly."""

    def __init__(
        self,
        nursery: Nursery,
        settings: Settings,
        log: RunLog,
        *,
        dice: random.Random,
        broker: Broker,
        proxy: Proxy,
        program: Sequence[str] = REAL,
    ) -> None:
        self._nursery, self._log, self._dice, self._program = nursery, log, dice, program
        # of their own: which draw comes first must not depend on how long something took
        self._dice_of_kills = random.Random(dice.random())
        self._broker, self._proxy, self._session_seconds = broker, proxy, settings.session_timeout
        through = settings.model_copy(update={"kafka_bootstrap": f"127.0.0.1:{proxy.port}"})
        self._settings = {"worker-a": settings, "worker-b": settings, "worker-c": through}
        self._extra_settings, self._extras = settings, 0
        self._down: set[str] = set()  #: killed, and not yet started again
        self.workers = {name: self._start(name) for name in self._settings}

    async def rage(self, seconds: float) -> None:
        """Kills, and beside them one other blow after the other; afterwards all three workers run and nothing is cut."""
        until = time.monotonic() + seconds
        await asyncio.gather(self._kill_now_and_then(until), self._strike(until))

    async def _kill_now_and_then(self, until: float) -> None:
        while time.monotonic() < until:
            await self._kill()
            await self._sleep(KILL_EVERY_SECONDS, self._dice_of_kills)

    async def _strike(self, until: float) -> None:
        weights: dict[Callable[[], Coroutine[Any, Any, None]], int] = {
            self._pause: 9,
            self._cut: 2,
            self._storm: 2,
            self._restart_broker: 1,
        }
        order = [*weights]  # each comes at least once, however short the run
        self._dice.shuffle(order)
        while time.monotonic() < until:
            blow = order.pop() if order else self._dice.choices([*weights], [*weights.values()])[0]
            await blow()
            await self._sleep(REST_SECONDS)

    async def leave(self) -> dict[str, int | None]:
        """SIGTERM to everybody. Returns the exit codes; None: it did not end in time."""
        for worker in self.workers.values():
            self._do(worker, FaultKind.STOP, signal.SIGTERM)
        return {name: await asyncio.to_thread(worker.wait, END_SECONDS) for name, worker in self.workers.items()}

    def _start(self, name: str) -> Child:
        return self._nursery.worker(self._settings[name], self._program, name=name)

    async def _kill(self) -> None:
        name = self._dice_of_kills.choice([*self.workers])
        self.workers[name].kill()
        self._log.did(FaultKind.KILL, name)
        self._down.add(name)
        await self._sleep(DOWN_SECONDS, self._dice_of_kills)
        self.workers[name] = self._start(name)
        self._down.remove(name)

    async def _pause(self) -> None:
        """For longer than the group waits: it wakes as one that owns nothing, and does not know it yet."""
        name = self._dice.choice([*self.workers])
        self._do(self.workers[name], FaultKind.PAUSE, signal.SIGSTOP)
        await self._sleep((self._session_seconds * 1.2, self._session_seconds * 1.8))
        self._do(self.workers[name], FaultKind.RESUME, signal.SIGCONT)
        await self._reborn(name)

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
        await self._reborn("worker-c")

    async def _storm(self) -> None:
        """A worker joins, and leaves in order before it has settled in."""
        self._extras += 1
        name = f"worker-x{self._extras}"
        worker = self._nursery.worker(self._extra_settings, self._program, name=name)
        await self._sleep(STORM_SECONDS)
        self._do(worker, FaultKind.STOP, signal.SIGTERM)
        if await asyncio.to_thread(worker.wait, END_SECONDS) is None:
            worker.kill()
            self._log.did(FaultKind.KILL, name)

    async def _restart_broker(self) -> None:
        self._broker.kill()
        self._log.did(FaultKind.BROKER_DOWN, "broker")
        await self._sleep(BROKER_DOWN_SECONDS)
        await asyncio.to_thread(self._broker.start)
        await asyncio.to_thread(self._broker.wait)
        self._log.did(FaultKind.BROKER_UP, "broker")
        for name in self.workers:
            await self._reborn(name)

    async def _reborn(self, name: str) -> None:
        """As Kubernetes does: who ended because it could not go on is started again."""
        if not self.workers[name].is_running() and name not in self._down:
            self._log.did(FaultKind.EXIT, name, self.workers[name].code)
            self.workers[name] = self._start(name)

    async def watch(self) -> None:
        """Start again whoever ends by itself, until cancelled."""
        while True:
            for name in self.workers:
                await self._reborn(name)
            await asyncio.sleep(0.5)

    def _do(self, worker: Child, kind: FaultKind, number: signal.Signals) -> None:
        worker.send(number)
        self._log.did(kind, worker.name)

    async def _sleep(self, between: tuple[float, float], dice: random.Random | None = None) -> None:
        await asyncio.sleep((dice or self._dice).uniform(*between))
