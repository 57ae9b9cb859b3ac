"""Emails whose outcome is unknown: when they become HELD, and what happens when no evidence comes.

An open claim of another process is HELD once it is older than the longest possible call. A HELD email
ends after HOLD_TIMEOUT: UNCONFIRMED, or sent once more and marked. That clock stands still while webhooks are late.
"""

import heapq
from collections.abc import Set
from dataclasses import dataclass, field

import structlog

from mailstream.clock import Clock
from mailstream.domain.attempt import Instead
from mailstream.domain.email_id import partition_in
from mailstream.domain.errors import NotPublished
from mailstream.domain.request import OnAmbiguous
from mailstream.domain.status import ACCEPTED, EmailStatus, Status
from mailstream.settings import Settings
from streams.core.webhook_health import WebhookHealth
from streams.metrics import HELD
from streams.sending.clearance import Clearance
from streams.statuses.claim_log import ClaimLog
from streams.statuses.queue import Queue
from streams.statuses.table import StatusTable

log = structlog.get_logger(__name__)

CALL_SECONDS = 18.0  #: no call takes longer: the sum of the provider's deadlines
LOOK_SECONDS = 0.2
POSTPONE_SECONDS = 10.0
BARRED_SECONDS = 0.5  #: until an email is looked at again that an unread record names
LONGEST_HOLD_SECONDS = 90_000.0  #: 25 h: SendGrid repeats events for 24 h


@dataclass(slots=True, kw_only=True, eq=False)
class Holds:
    """Nothing is decided while no partition is loaded, nor about an email that an unread record names.

    The evidence may stand there.
    """

    settings: Settings
    table: StatusTable
    claim_log: ClaimLog
    clock: Clock
    health: WebhookHealth
    queue: Queue
    clearance: Clearance
    _due: list[tuple[float, str, int]] = field(init=False, default_factory=list)  #: monotonic time, email id, partition
    _held: dict[str, int] = field(init=False, default_factory=dict)  #: partition of each HELD email

    def __post_init__(self) -> None:
        HELD.set_function(lambda: len(self._held))

    def changed(self, before: EmailStatus | None, after: EmailStatus, partition: int) -> None:
        """Watch an email that is PROCESSING elsewhere, or HELD, and whether an event comes about one that is SENT."""
        if after.status in ACCEPTED:
            self.health.accepted(after, self.clock.now())
        if after.status is Status.HELD:
            self._held[after.id] = partition
            since = after.held_at or after.updated_at
            self._watch(after.id, partition, self.settings.hold_timeout - (self.clock.now() - since.timestamp()))
            return
        self._held.pop(after.id, None)
        if after.status is Status.PROCESSING and not self.claim_log.is_alive(after.nonce):
            self._watch(after.id, partition, CALL_SECONDS - (self.clock.now() - after.updated_at.timestamp()))

    def lost(self, partitions: Set[int]) -> None:
        """Forget emails of partitions that belong to others now: their events are heard there."""
        self._held = {email_id: home for email_id, home in self._held.items() if home not in partitions}
        count = self.table.partition_count
        self.health.lose(lambda email_id: partition_in(email_id, count) in partitions)

    def _watch(self, email_id: str, partition: int, seconds: float) -> None:
        wait = min(max(0.0, seconds), max(self.settings.hold_timeout, CALL_SECONDS))
        heapq.heappush(self._due, (self.clock.monotonic() + wait, email_id, partition))

    async def look(self) -> None:
        """Act on what is due."""
        while self.clearance.partitions and self._due and self._due[0][0] <= self.clock.monotonic():
            _, email_id, partition = heapq.heappop(self._due)
            if partition in self.table.owned():
                await self._act(email_id, partition)

    async def _act(self, email_id: str, partition: int) -> None:
        status = self.table.get_status(email_id)
        if status is None:
            return
        if self.queue.is_barred(email_id):
            heapq.heappush(self._due, (self.clock.monotonic() + BARRED_SECONDS, email_id, partition))
            return
        try:
            if status.status is Status.PROCESSING and not self.claim_log.is_alive(status.nonce):
                log.warning("held: the worker that claimed it is gone", email=email_id, attempt=status.attempt)
                await self.claim_log.hold(
                    status, partition, "the worker that called is gone; its call may have been accepted"
                )
            elif status.status is Status.HELD:
                await self._end(status, partition)
        except NotPublished:
            heapq.heappush(self._due, (self.clock.monotonic() + POSTPONE_SECONDS, email_id, partition))

    async def _end(self, status: EmailStatus, partition: int) -> None:
        since = (status.held_at or status.updated_at).timestamp()
        waited = self.clock.now() - since
        if waited < self.settings.hold_timeout - 1:  # held again since
            self._watch(status.id, partition, self.settings.hold_timeout - waited)
        elif (
            self.settings.sendgrid_webhook_keys
            and not self.health.is_healthy(self.clock.now())
            and waited < LONGEST_HOLD_SECONDS
        ):
            heapq.heappush(self._due, (self.clock.monotonic() + POSTPONE_SECONDS, status.id, partition))
        elif status.on_ambiguous is OnAmbiguous.RESEND and status.doubt is None:
            self.queue.resend(status, partition)
        else:
            await self.claim_log.claim(
                status, partition, instead=Instead.UNCONFIRMED, reason="no evidence came in time"
            )
