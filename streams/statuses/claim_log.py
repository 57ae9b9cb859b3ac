"""Append a claim, wait until the log is read back up to it, say who won; append outcomes until the broker has them.

Claims go out and come back in batches, so they cost latency (about a millisecond), not rate.
"""

import asyncio
import itertools
from collections import deque
from collections.abc import Set
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from mailstream.clock import Clock, moment
from mailstream.domain import codec
from mailstream.domain.attempt import AttemptRecord, ClaimRecord, HeldRecord, Instead, OutcomeRecord, ReleasedRecord
from mailstream.domain.errors import NotPublished, PartitionLost
from mailstream.domain.status import EmailStatus
from mailstream.kafka.producer import Publisher, publish_surely
from streams.failpoints import failpoint, failpoint_soon


@dataclass(frozen=True, slots=True)
class Won:
    """A claim that won: the right to make one call, or an ending that holds."""

    id: str
    attempt: int
    nonce: str
    partition: int


class ClaimLog:
    """Writes ``email.attempts``; the projection reads it back."""

    def __init__(self, publisher: Publisher, topic: str, clock: Clock, *, worker: str, boot: str) -> None:
        self._publisher, self._topic, self._clock = publisher, topic, clock
        self.worker = worker  #: worker id and boot: how records of this process are signed
        self._boot = boot
        self._count = itertools.count(1)
        self._releases: set[asyncio.Task[None]] = set()
        #: Who waits for the verdict on a claim that was not read back, by nonce, and in which partition.
        self._verdicts: dict[str, tuple[int, asyncio.Future[bool]]] = {}
        self._alive: set[str] = set()  #: nonces of claims that this process acts on
        self._seconds: deque[float] = deque(maxlen=100)  #: how long the newest claims took

    def slow_seconds(self) -> float:
        """About the 99th percentile of how long a claim takes, from the newest hundred."""
        return sorted(self._seconds)[len(self._seconds) * 99 // 100] if self._seconds else 0.0

    def is_alive(self, nonce: str | None) -> bool:
        """Whether this process acts on the claim with this nonce, and will say what came of it."""
        return nonce in self._alive

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
        into: str | None = None,
    ) -> Won | None:
        """Claim the next attempt of an email. None: another claim came first, or the log allows none.

        Raises NotPublished: there may be no call; should the claim be in the log all the same and win, it is released.
        """
        nonce = f"{self._boot}-{next(self._count)}"  # the boot part is random: a restart repeats none
        won = Won(status.id, status.attempt + 1, nonce, partition)
        record = ClaimRecord(
            id=status.id,
            attempt=won.attempt,
            nonce=nonce,
            worker=self.worker,
            at=moment(self._clock.now()),
            order=status.order,
            instead=instead,
            not_before=not_before,
            possible_duplicate=possible_duplicate,
            by=by,
            reason=reason,
            control=control,
            into=into,
        )
        verdict: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._verdicts[nonce] = partition, verdict
        self._alive.add(nonce)
        begun = self._clock.monotonic()
        try:
            failpoint_soon("C3", won.id)
            await self._append(record, partition, surely=False)  # acknowledged first: what replicas lack may yet vanish
            failpoint("C4", won.id)
            has_won = await verdict
        except (NotPublished, PartitionLost):
            verdict.add_done_callback(partial(self._give_back_if_won, won, is_ending=instead is not None))
            raise
        self._seconds.append(self._clock.monotonic() - begun)
        if not has_won or instead is not None:  # an ending needs no further act
            self._alive.discard(nonce)
        return won if has_won else None

    def read_back(self, nonce: str, *, has_won: bool) -> None:
        """The log has brought the claim with this nonce; told by the projection of every claim, ours or not."""
        _, verdict = self._verdicts.pop(nonce, (0, None))
        if verdict is not None and not verdict.done():
            verdict.set_result(has_won)

    def lost(self, partitions: Set[int]) -> None:
        """Tell those who wait for a verdict in partitions that belong to others now."""
        for nonce, (partition, verdict) in list(self._verdicts.items()):
            if partition in partitions:
                del self._verdicts[nonce]
                if not verdict.done():
                    verdict.set_exception(PartitionLost("the partition was lost before the claim was read back"))

    def _give_back_if_won(self, won: Won, done: "asyncio.Future[bool]", *, is_ending: bool) -> None:
        """Release a claim that was given up, if it comes back as winner; an ending simply holds.

        Also when its partition goes before it was read back: it may have won where we do not read any more, and then
        only this process can tell the next owner that it was not called.
        """
        if done.cancelled():
            return
        is_unread = done.exception() is not None
        if not is_ending and (is_unread or done.result()):
            why = "the partition was lost before the call" if is_unread else "given up before the call"
            release = asyncio.ensure_future(self.release(won, why))
            self._releases.add(release)
            release.add_done_callback(self._releases.discard)
        else:
            self._alive.discard(won.nonce)

    async def release(self, won: Won, reason: str) -> None:
        """Append RELEASED: claimed, certainly not called."""
        await self._append(ReleasedRecord(**self._about(won, reason)), won.partition)
        self._alive.discard(won.nonce)

    async def outcome(self, record: OutcomeRecord, partition: int) -> None:
        """Append what the call proved, and return when the broker has it, however long that takes."""
        failpoint_soon("C9", record.id)
        await self._append(record, partition)
        self._alive.discard(record.nonce)

    async def hold(self, status: EmailStatus, partition: int, reason: str) -> None:
        """Append that the newest attempt's outcome cannot be known."""
        await self._append(HeldRecord(**self._about(status, reason)), partition)

    def _about(self, claim: Won | EmailStatus, reason: str) -> dict[str, Any]:
        """What a word about a claim says of it and of its writer."""
        at = moment(self._clock.now())
        return {"id": claim.id, "attempt": claim.attempt, "nonce": claim.nonce, "worker": self.worker, "at": at,
                "reason": reason}  # fmt: skip

    async def _append(self, record: AttemptRecord, partition: int, *, surely: bool = True) -> None:
        publish = partial(publish_surely, self._publisher) if surely else self._publisher.publish
        key, headers = record.id.encode(), codec.headers_of(record)
        await publish(self._topic, codec.encode(record), key=key, partition=partition, headers=headers)
