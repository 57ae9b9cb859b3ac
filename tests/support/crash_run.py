"""Kill a worker at named points, email by email, each time with a new process in its place."""

import asyncio
import signal
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mailstream.domain.request import OnAmbiguous
from mailstream.settings import Settings
from tests.support.armed_worker import armed
from tests.support.eventually import eventually
from tests.support.history_logs import FaultKind
from tests.support.nursery import REAL, Child, Nursery
from tests.support.run_log import KafkaCaller, RunLog, all_calls

#: From the order to the death of a worker on a machine at its limits: start, join, load, read, call.
DEATH_SECONDS = 60.0
BYSTANDERS = 2


@dataclass(frozen=True, slots=True)
class Victim:
    """The email at which a worker was killed."""

    point: str
    id: str
    policy: OnAmbiguous
    died_at: float  #: seconds since 1970


class CrashRun:
    """One system whose only worker dies again and again. With static membership it comes back at once."""

    def __init__(self, nursery: Nursery, settings: Settings, log: RunLog, name: str) -> None:
        self.settings, self.log = settings, log
        self.victims: list[Victim] = []
        self._nursery, self._name = nursery, name
        self._caller = KafkaCaller(settings, log)

    async def kill_at(self, points: Iterable[str], *, rounds: int, policies: Sequence[OnAmbiguous]) -> None:
        """At each point so many times; the emails' policies take turns."""
        for point in points:
            for number in range(rounds):
                await self._kill_once(point, policies[number % len(policies)])

    async def _kill_once(self, point: str, policy: OnAmbiguous) -> None:
        id_ = await self._caller.ask(on_ambiguous=policy)
        await asyncio.gather(*(self._caller.ask() for _ in range(BYSTANDERS)))
        needle = "*" if point in ("C12", "C13") else id_  # those two are about no email
        worker = self._worker(armed(point, needle))
        if point == "C12":
            await eventually(
                lambda: any(call["id"] == id_ for call in all_calls(self.settings.sendgrid_url)),
                within_seconds=DEATH_SECONDS,
                waiting_for="the call before the revoke",
            )
            worker.send(signal.SIGTERM)
        code = await asyncio.to_thread(worker.wait, DEATH_SECONDS)
        assert code == -signal.SIGKILL, f"{point} of {id_}: exit code {code}\n{worker.last_lines(20)}"
        self.victims.append(Victim(point, id_, policy, time.time()))
        self.log.did(FaultKind.KILL, worker.name)

    async def go_on(self) -> Child:
        """The worker comes back once more, and nothing kills it. Returns it when it is ready."""
        await self._caller.close()
        worker = self._worker(REAL)
        await eventually(worker.is_ready, within_seconds=DEATH_SECONDS, waiting_for="the last worker to be ready")
        return worker

    def _worker(self, program: Sequence[str]) -> Child:
        return self._nursery.worker(self.settings, program, name=self._name)
