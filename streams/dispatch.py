"""Who is next, and when may its call start: begins the work that ``sending.py`` does for one email.

No task of its own: it takes a turn whenever something woke it, or when its timer says so. (A wait that wakes for every
email and builds a task each time cost as much as the claim.)
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any

import structlog

from mailstream.clock import Clock
from mailstream.email_id import partition_in
from mailstream.errors import NotCaughtUp, NotPublished
from mailstream.log.publish import Publisher
from mailstream.settings import Settings
from mailstream.status import EmailStatus, Status
from streams.bodies import Bodies
from streams.claim_log import ClaimLog
from streams.core.pace import Mode, Pace
from streams.core.schedule import Schedule
from streams.core.trouble import Trouble
from streams.core.waiting import Waiting, waiting
from streams.gate import look
from streams.metrics import PAUSED
from streams.sending import Sending
from streams.table import StatusTable

log = structlog.get_logger(__name__)

LEAST_LEAD_SECONDS = 0.05  #: how long before its start an email is claimed, at least (amendment 8)
UNACKNOWLEDGED_SECONDS = 5.0  #: G2
AGAIN_SECONDS = 1.0  #: until an email that could not be claimed is tried again
SOON_SECONDS = 0.01  #: until the schedule is asked again that had too many emails to look at
LOOK_SECONDS = 0.25  #: how often it asks whether it may go on


class Dispatch:
    """``closed`` says why nothing may start now, or None; ``failed`` is told of a bug, which ends the process."""

    def __init__(
        self,
        settings: Settings,
        *,
        schedule: Schedule,
        pace: Pace,
        sending: Sending,
        claim_log: ClaimLog,
        table: StatusTable,
        bodies: Bodies,
        publisher: Publisher,
        trouble: Trouble,
        clock: Clock,
        closed: Callable[[], str | None],
        failed: Callable[[BaseException], None],
    ) -> None:
        self._limit = settings.max_in_flight
        self._schedule, self._pace, self._sending, self._claim_log = schedule, pace, sending, claim_log
        self._table, self._bodies, self._publisher, self._trouble = table, bodies, publisher, trouble
        self._clock, self._closed, self._failed = clock, closed, failed
        self._work: set[asyncio.Task[None]] = set()
        self._barred: Counter[str] = Counter()  #: emails that may not be claimed, and how many reasons there are
        self._resends: set[str] = set()  #: of these, the HELD ones that go once more when the last reason is gone
        self._lining_up = 0  #: emails between schedule and call
        self._loop = asyncio.get_running_loop()
        self._is_woken = self._is_stopped = False
        self._timer: asyncio.TimerHandle | None = None

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

    def changed(self, after: EmailStatus, partition: int) -> None:
        """Keep the schedule in step with a status."""
        if after.status in (Status.QUEUED, Status.RETRYING) and after.id not in self._barred:
            self._schedule.add(waiting(after, partition), self._clock.now())
            self.wake()
            return
        self._schedule.remove(after.id)
        if after.final:
            self._bodies.forget(after.request)

    def resend(self, status: EmailStatus, partition: int) -> None:
        """Let a HELD email go once more, marked, as soon as it may be claimed."""
        if status.id in self._barred:
            self._resends.add(status.id)
            return
        self._schedule.add(waiting(status, partition), self._clock.now())
        self.wake()

    def bar(self, email_id: str) -> None:
        """Claim this email for no call until ``unbar`` was called as often: an unread or undecided record names it."""
        self._barred[email_id] += 1
        if self._schedule.remove(email_id) is not None:
            status = self._table.get_status(email_id)
            if status is not None and status.status is Status.HELD:
                self._resends.add(email_id)

    def unbar(self, email_id: str) -> None:
        """Let the email wait again, if it still does and nothing else bars it."""
        self._barred[email_id] -= 1
        if self._barred[email_id] > 0:
            return
        del self._barred[email_id]
        is_resend = email_id in self._resends
        self._resends.discard(email_id)
        partition = partition_in(email_id, self._table.partition_count)
        status = self._table.get_status(email_id) if partition in self._table.owned() else None
        self._wait_again(email_id, partition, resend_of=status.attempt if is_resend and status else None)

    def is_barred(self, email_id: str) -> bool:
        """Whether an unread or undecided record names this email."""
        return email_id in self._barred

    async def drain(self, *, calls_too: bool) -> None:
        """Wait until nothing is in work; at a revoke that is no stop, until nobody lines up for a call."""
        while self._work and (calls_too or self._lining_up):
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
            self._failed(error)
            return
        if seconds is not None:
            self._timer = self._loop.call_later(seconds, self.wake)

    def _begin_what_may(self) -> float | None:
        """Begin all that may begin now. Returns seconds until the next look; None: somebody will wake it."""
        if self._may_not_claim():
            return LOOK_SECONDS
        now = self._clock.now()
        for email in self._schedule.expired(now, at_most=100):
            self._spawn(self._one(email, lambda: None))
        while len(self._work) < self._limit:
            seconds = self._until_claim()
            if seconds <= 0 and (due := self._schedule.next(now)) is not None:
                self._lining_up += 1
                self._spawn(self._paced(due))
                continue
            if (at := self._schedule.wakes_at(now)) is None:
                return None
            seconds = max(seconds, at - now)
            if seconds <= 0:
                return SOON_SECONDS
            return min(seconds, LOOK_SECONDS) if self._schedule else seconds
        return None  # the end of any work wakes it

    def _may_not_claim(self) -> str | None:
        if why := self._closed():
            return why
        if self._publisher.oldest_seconds() > UNACKNOWLEDGED_SECONDS or self._table.unwritten():
            return "what cannot be recorded is not sent"  # G2
        wait = self._trouble.probe_in(self._clock.monotonic())
        PAUSED.labels("trouble").set(0 if wait is None else 1)
        if wait is None:
            return None
        if wait == 0 and not self._work and self._until_claim() <= LOOK_SECONDS:
            self._spawn(self._sending.probe())
        return "the provider is in trouble"

    def _until_claim(self) -> float:
        """Seconds until the next email should be claimed, so that its call can start in its time."""
        now = look()
        start = self._pace.next_start(now)
        if start is None:
            return LOOK_SECONDS
        if self._pace.mode is Mode.UNPACED:
            return start - now.monotonic
        lead = min(max(LEAST_LEAD_SECONDS, 2 * self._claim_log.slow_seconds()), max(self._pace.gap / 2, 0.001))
        return start + self._lining_up * self._pace.seconds_per_start() - lead - now.monotonic

    # -- work ---------------------------------------------------------------------------------------------

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._work.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._work.discard(task)
        self.wake()
        if not task.cancelled() and (error := task.exception()) is not None:
            self._failed(error)

    async def _paced(self, email: Waiting) -> None:
        is_lining_up = True

        def started() -> None:
            nonlocal is_lining_up
            if is_lining_up:
                is_lining_up = False
                self._lining_up -= 1
                self.wake()

        try:
            await self._one(email, started)
        finally:
            started()
            self._schedule.done(email.recipient, self._clock.now())

    async def _one(self, email: Waiting, started: Callable[[], None]) -> None:
        before = self._table.get_status(email.id)
        attempt = before.attempt if before is not None and before.status is Status.HELD else None
        try:
            await self._sending.send(email, started, is_barred=self.is_barred)
        except (NotPublished, NotCaughtUp) as error:
            log.warning("not claimed, tried again", email=email.id, error=str(error))
            await self._clock.sleep(AGAIN_SECONDS)
        self._wait_again(email.id, email.partition, resend_of=attempt)

    def _wait_again(self, email_id: str, partition: int, resend_of: int | None = None) -> None:
        """Put an email back that is still to be sent: also the marked resend of this attempt, if it was not claimed."""
        status = self._table.get_status(email_id) if partition in self._table.owned() else None
        if status is None or email_id in self._schedule:
            return
        is_resend = status.status is Status.HELD and status.attempt == resend_of
        if email_id in self._barred:
            if is_resend:
                self._resends.add(email_id)
            return
        if is_resend or status.status in (Status.QUEUED, Status.RETRYING):
            self._schedule.add(waiting(status, partition), self._clock.now())
            self.wake()
