"""Append a claim, wait until the log is read back up to it, say who won; append outcomes until the broker has them.

Claims go out and come back in batches, so they cost latency (about a millisecond), not rate.
"""

import asyncio
import itertools
from collections import deque
from dataclasses import dataclass
from datetime import datetime

import structlog

from mailstream import codec
from mailstream.attempt import AttemptRecord, ClaimRecord, HeldRecord, Instead, OutcomeRecord, ReleasedRecord
from mailstream.clock import Clock, moment
from mailstream.errors import NotPublished
from mailstream.log.publish import Publisher
from mailstream.status import EmailStatus
from streams.failpoints import failpoint, failpoint_soon
from streams.projection import Projection

log = structlog.get_logger(__name__)

REPEAT_SECONDS = 1.0  #: between two tries to append an outcome


@dataclass(frozen=True, slots=True)
class Won:
    """A claim that won: the right to make one call, or an ending that holds."""

    id: str
    attempt: int
    nonce: str
    partition: int


class ClaimLog:
    """Writes ``email.attempts``; the projection reads it back."""

    def __init__(
        self, publisher: Publisher, topic: str, projection: Projection, clock: Clock, *, worker: str, boot: str
    ) -> None:
        self._publisher, self._topic, self._projection, self._clock = publisher, topic, projection, clock
        self._worker, self._boot = worker, boot
        self._count = itertools.count(1)
        self._releases: set[asyncio.Task[None]] = set()
        self._seconds: deque[float] = deque(maxlen=100)  #: how long the newest claims took

    def slow_seconds(self) -> float:
        """About the 99th percentile of how long a claim takes, from the newest hundred."""
        return sorted(self._seconds)[len(self._seconds) * 99 // 100] if self._seconds else 0.0

    def is_mine(self, nonce: str | None) -> bool:
        """Whether this very process made the claim with this nonce."""
        return nonce is not None and nonce.startswith(self._boot)

    async def claim(
        self,
        status: EmailStatus,
        partition: int,
        *,
        instead: Instead | None = None,
        not_before: datetime | None = None,
        possible_duplicate: bool = False,
        by: str | None = None,
        reason: str | None = None,
        control: int | None = None,
    ) -> Won | None:
        """Claim the next attempt of an email. None: another claim came first, or the log allows none.

        Raises NotPublished: nobody may call; should the claim be in the log all the same and win, it is released.
        """
        nonce = f"{self._boot}-{next(self._count)}"  # the boot part is random: a restart repeats none (K1)
        won = Won(status.id, status.attempt + 1, nonce, partition)
        record = ClaimRecord(
            id=status.id,
            attempt=won.attempt,
            nonce=nonce,
            worker=self._worker,
            at=moment(self._clock.now()),
            instead=instead,
            not_before=not_before,
            possible_duplicate=possible_duplicate,
            by=by,
            reason=reason,
            control=control,
        )
        verdict = self._projection.expect(nonce)
        begun = self._clock.monotonic()
        try:
            failpoint_soon("C3", won.id)
            await self._append(record, partition)  # acknowledged first: what replicas lack may yet vanish
            failpoint("C4", won.id)
            has_won = await verdict
            self._seconds.append(self._clock.monotonic() - begun)
            return won if has_won else None
        except NotPublished:
            if instead is None:  # an ending that comes back as winner holds: it needs nobody to act on it
                self._give_back_if_won(verdict, won)
            raise

    def _give_back_if_won(self, verdict: "asyncio.Future[bool]", won: Won) -> None:
        def give_back(done: "asyncio.Future[bool]") -> None:
            if not done.cancelled() and done.result():
                task = asyncio.ensure_future(self.release(won, "given up before the call"))
                self._releases.add(task)
                task.add_done_callback(self._releases.discard)

        verdict.add_done_callback(give_back)

    async def release(self, won: Won, reason: str) -> None:
        """Append RELEASED: claimed, certainly not called (K5)."""
        await self._append_surely(
            ReleasedRecord(
                id=won.id,
                attempt=won.attempt,
                nonce=won.nonce,
                worker=self._worker,
                at=moment(self._clock.now()),
                reason=reason,
            ),
            won.partition,
        )

    async def outcome(self, record: OutcomeRecord, partition: int) -> None:
        """Append what the call proved, and return when the broker has it, however long that takes."""
        failpoint_soon("C9", record.id)
        await self._append_surely(record, partition)

    async def hold(self, status: EmailStatus, partition: int, reason: str) -> None:
        """Append that the newest attempt's outcome cannot be known."""
        assert status.nonce is not None
        record = HeldRecord(
            id=status.id,
            attempt=status.attempt,
            nonce=status.nonce,
            worker=self._worker,
            at=moment(self._clock.now()),
            reason=reason,
        )
        await self._append_surely(record, partition)

    @property
    def worker(self) -> str:
        """Worker id and boot: how records of this process are signed."""
        return self._worker

    async def _append(self, record: AttemptRecord, partition: int) -> None:
        await self._publisher.publish(
            self._topic,
            codec.encode(record),
            key=record.id.encode(),
            partition=partition,
            headers=codec.headers_of(record),
        )

    async def _append_surely(self, record: AttemptRecord, partition: int) -> None:
        while True:
            try:
                return await self._append(record, partition)
            except NotPublished as error:  # the same record again: a repeat in the log means nothing new
                if self._publisher.is_closing:
                    raise
                log.warning("not acknowledged, appended again", email=record.id, error=str(error))
                await asyncio.sleep(REPEAT_SECONDS)
