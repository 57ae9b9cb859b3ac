"""Emails whose outcome is unknown: when they become HELD, and what happens when no evidence comes.

An open claim of another process is HELD once it is older than the longest possible call (amendment 13). A HELD email
ends after HOLD_TIMEOUT: UNCONFIRMED, or sent once more and marked. That clock stands still while webhooks are late.
"""

import heapq
from collections.abc import Callable

import structlog

from mailstream.attempt import Instead
from mailstream.clock import Clock
from mailstream.errors import NotPublished
from mailstream.request import OnAmbiguous
from mailstream.settings import Settings
from mailstream.status import EmailStatus, Status
from streams.claim_log import ClaimLog
from streams.core.webhook_health import WebhookHealth
from streams.metrics import HELD
from streams.table import StatusTable

log = structlog.get_logger(__name__)

CALL_SECONDS = 18.0  #: G1: no call takes longer
LOOK_SECONDS = 0.2
POSTPONE_SECONDS = 10.0
BARRED_SECONDS = 0.5  #: until an email is looked at again that an unread record names
LONGEST_HOLD_SECONDS = 90_000.0  #: 25 h: SendGrid repeats events for 24 h (amendment 13)


class Holds:
    """``resend`` is called with an email that is to be sent once more, marked.

    Nothing is decided while ``is_assigned`` says no, nor about an email while ``is_barred`` says that an unread record
    names it: the evidence may stand there.
    """

    def __init__(
        self,
        settings: Settings,
        table: StatusTable,
        claim_log: ClaimLog,
        clock: Clock,
        health: WebhookHealth,
        resend: Callable[[EmailStatus, int], None],
        *,
        is_assigned: Callable[[], bool],
        is_barred: Callable[[str], bool],
    ) -> None:
        self._is_assigned, self._is_barred = is_assigned, is_barred
        self._table, self._claim_log, self._clock, self._health, self._resend = table, claim_log, clock, health, resend
        self._timeout = settings.hold_timeout
        self._has_webhook = bool(settings.sendgrid_webhook_keys)
        self._due: list[tuple[float, str, int]] = []  #: monotonic time, email id, partition
        self._held: dict[str, int] = {}  #: partition of each HELD email
        HELD.set_function(lambda: len(self._held))

    def changed(self, after: EmailStatus, partition: int) -> None:
        """Watch an email that is PROCESSING elsewhere, or HELD; stop counting one that is neither."""
        if after.status is Status.HELD:
            self._held[after.id] = partition
            since = after.held_at or after.updated_at
            self._watch(after.id, partition, self._timeout - (self._clock.now() - since.timestamp()))
        else:
            self._held.pop(after.id, None)
            if after.status is Status.PROCESSING and not self._claim_log.is_alive(after.nonce):
                self._watch(after.id, partition, CALL_SECONDS - (self._clock.now() - after.updated_at.timestamp()))

    def lose(self, partitions: set[int]) -> None:
        """Forget emails of partitions that belong to others now."""
        self._held = {email_id: home for email_id, home in self._held.items() if home not in partitions}

    def _watch(self, email_id: str, partition: int, seconds: float) -> None:
        wait = min(max(0.0, seconds), max(self._timeout, CALL_SECONDS))
        heapq.heappush(self._due, (self._clock.monotonic() + wait, email_id, partition))

    async def run(self) -> None:
        """Act on what is due, for ever."""
        while True:
            await self._clock.sleep(LOOK_SECONDS)
            while self._is_assigned() and self._due and self._due[0][0] <= self._clock.monotonic():
                _, email_id, partition = heapq.heappop(self._due)
                if partition in self._table.owned():
                    await self._act(email_id, partition)

    async def _act(self, email_id: str, partition: int) -> None:
        status = self._table.get_status(email_id)
        if status is None:
            return
        if self._is_barred(email_id):
            heapq.heappush(self._due, (self._clock.monotonic() + BARRED_SECONDS, email_id, partition))
            return
        try:
            if status.status is Status.PROCESSING and not self._claim_log.is_alive(status.nonce):
                log.warning("held: the worker that claimed it is gone", email=email_id, attempt=status.attempt)
                await self._claim_log.hold(
                    status, partition, "the worker that called is gone; its call may have been accepted"
                )
            elif status.status is Status.HELD:
                await self._end(status, partition)
        except NotPublished:
            heapq.heappush(self._due, (self._clock.monotonic() + POSTPONE_SECONDS, email_id, partition))

    async def _end(self, status: EmailStatus, partition: int) -> None:
        since = (status.held_at or status.updated_at).timestamp()
        waited = self._clock.now() - since
        if waited < self._timeout - 1:  # held again since
            self._watch(status.id, partition, self._timeout - waited)
        elif self._has_webhook and not self._health.is_healthy(self._clock.now()) and waited < LONGEST_HOLD_SECONDS:
            heapq.heappush(self._due, (self._clock.monotonic() + POSTPONE_SECONDS, status.id, partition))
        elif status.on_ambiguous is OnAmbiguous.RESEND and status.doubt is None:
            self._resend(status, partition)
        else:
            await self._claim_log.claim(
                status, partition, instead=Instead.UNCONFIRMED, reason="no evidence came in time"
            )
