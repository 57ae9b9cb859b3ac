"""Who is next, and when may its call start: begins the work that ``attempt.py`` does for one email.

No task of its own: it takes a turn whenever something woke it, or when its timer says so. (A wait that wakes for every
email and builds a task each time cost as much as the claim.)
"""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import structlog

from mailstream.clock import Clock
from mailstream.domain.errors import NotCaughtUp, NotPublished
from mailstream.domain.status import Status
from streams.core.circuit_breaker import CircuitBreaker
from streams.core.pace import Mode, Pace
from streams.core.waiting import Waiting
from streams.metrics import PAUSED
from streams.sending.attempt import Sending
from streams.sending.clearance import Clearance
from streams.sending.gate import read_clocks
from streams.statuses.claim_log import ClaimLog
from streams.statuses.queue import Queue
from streams.statuses.table import StatusTable

log = structlog.get_logger(__name__)

LEAST_LEAD_SECONDS = 0.05  #: how long before its start an email is claimed, at least
AGAIN_SECONDS = 1.0  #: until an email that could not be claimed is tried again
SOON_SECONDS = 0.01  #: until the schedule is asked again that had too many emails to look at
LOOK_SECONDS = 0.25  #: how often it asks whether it may go on


@dataclass(slots=True, kw_only=True, eq=False)
class Dispatcher:
    """Make it inside the running loop. ``failed`` is told of a bug, which ends the process."""

    limit: int  #: emails that may be in work at once
    queue: Queue
    pace: Pace
    sending: Sending
    claim_log: ClaimLog
    table: StatusTable
    breaker: CircuitBreaker
    clock: Clock
    clearance: Clearance
    failed: Callable[[BaseException], None]
    _loop: asyncio.AbstractEventLoop = field(init=False, default_factory=asyncio.get_running_loop)
    _work: set[asyncio.Task[None]] = field(init=False, default_factory=set)
    _lined_up: set[str] = field(init=False, default_factory=set)  #: emails between schedule and call
    _is_woken: bool = field(init=False, default=False)
    _is_stopped: bool = field(init=False, default=False)
    _timer: asyncio.TimerHandle | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self.queue.listener = self.wake

    # -- what others say ----------------------------------------------------------------------------------

    def wake(self) -> None:
        """Something changed: look again, soon."""
        if not self._is_woken and not self._is_stopped:
            self._is_woken = True
            self._loop.call_soon(self._turn)

    def stop(self) -> None:
        """Begin nothing any more."""
        self._is_stopped = True
        if self._timer is not None:
            self._timer.cancel()

    async def drain(self, *, calls_too: bool) -> None:
        """Wait until nothing is in work; at a revoke without a stop, until no email lines up for a call."""
        while self._work and (calls_too or self._lined_up):
            await asyncio.wait(self._work, timeout=0.1, return_when=asyncio.FIRST_COMPLETED)

    def in_work(self) -> int:
        """How many emails are between schedule and outcome."""
        return len(self._work)

    # -- turns --------------------------------------------------------------------------------------------

    def _turn(self) -> None:
        self._is_woken = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._is_stopped:
            return
        try:
            seconds = self._begin_what_may()
        except Exception as error:
            self.failed(error)
            return
        if seconds is not None:
            self._timer = self._loop.call_later(seconds, self.wake)

    def _begin_what_may(self) -> float | None:
        """Begin all that may begin now. Returns seconds until the next look; None: another part wakes it."""
        if self.clearance.why_no_claim() or self._is_in_trouble():
            return LOOK_SECONDS
        now = self.clock.now()
        for email in self.queue.schedule.expired(now, at_most=100):
            self._spawn(self._send(email, is_due=False))
        while len(self._work) < self.limit:
            seconds = self._until_claim()
            if seconds <= 0 and (due := self.queue.schedule.next(now)) is not None:
                self._lined_up.add(due.id)
                self._spawn(self._send(due, is_due=True))
                continue
            if (at := self.queue.schedule.wakes_at(now)) is None:
                return None
            seconds = max(seconds, at - now)
            if seconds <= 0:
                return SOON_SECONDS
            return min(seconds, LOOK_SECONDS) if self.queue.schedule else seconds
        return None  # the end of any work wakes it

    def _is_in_trouble(self) -> bool:
        """Whether the provider fails, or refuses us; now and then it is asked."""
        wait = self.breaker.probe_in(self.clock.monotonic())
        PAUSED.labels("trouble").set(0 if wait is None else 1)
        if wait is None:
            return False
        if wait == 0 and not self._work and self._until_claim() <= LOOK_SECONDS:
            self._spawn(self.sending.probe())
        return True

    def _until_claim(self) -> float:
        """Seconds until the next email should be claimed, so that its call can start in its time."""
        now = read_clocks()
        start = self.pace.next_start(now)
        if start is None:
            return LOOK_SECONDS
        if self.pace.mode is Mode.UNPACED:
            return start - now.monotonic
        lead = min(max(LEAST_LEAD_SECONDS, 2 * self.claim_log.slow_seconds()), max(self.pace.gap / 2, 0.001))
        return start + len(self._lined_up) * self.pace.seconds_per_start() - lead - now.monotonic

    # -- work ---------------------------------------------------------------------------------------------

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._work.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._work.discard(task)
        self.wake()
        if not task.cancelled() and (error := task.exception()) is not None:
            self.failed(error)

    async def _send(self, email: Waiting, *, is_due: bool) -> None:
        """Bring an email as far as it goes now; it waits again if it is still to be sent."""
        status = self.table.get_status(email.id)
        resend_of = status.attempt if status is not None and status.status is Status.HELD else None
        try:
            if status is not None:
                await self.sending.send(
                    status, email.partition, partial(self._started, email.id), is_barred=self.queue.is_barred
                )
        except (NotPublished, NotCaughtUp) as error:
            log.warning("not claimed, tried again", email=email.id, error=str(error))
            await self.clock.sleep(AGAIN_SECONDS)
        finally:
            if is_due:
                self._started(email.id)
                self.queue.schedule.done(email.recipient, self.clock.now())
        self.queue.wait_again(email.id, email.partition, resend_of=resend_of)

    def _started(self, email_id: str) -> None:
        if email_id in self._lined_up:
            self._lined_up.discard(email_id)
            self.wake()
