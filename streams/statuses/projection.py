"""What the log says becomes what the table shows: the one place where statuses are made in the worker.

Records of the owned partitions of ``email.attempts`` come here in log order, ours and those of others alike. Each is
folded; the status after it is written; then its waiters are told. So a status never says more than what
stands in the log, and a late record of a paused former owner is just one more record.
"""

import asyncio
from collections.abc import Callable, Sequence, Set
from functools import partial
from typing import Protocol

import msgspec
import structlog
from msgspec import structs

from mailstream.domain import codec
from mailstream.domain.attempt import ClaimRecord
from mailstream.domain.email_id import partition_in
from mailstream.domain.status import EmailStatus, Status, order_of_merge
from streams.core import fold
from streams.core.claims import Verdict
from streams.core.offset_tracker import InFlight, OffsetTracker
from streams.failpoints import failpoint
from streams.metrics import EMAILS_IN, VERDICTS
from streams.statuses.claim_log import ClaimLog
from streams.statuses.table import StatusTable

log = structlog.get_logger(__name__)

AT_ONCE = 500  #: statuses of new partitions that are told between two turns of the loop


class Follower(Protocol):
    """Keeps something that follows from the statuses of the owned partitions."""

    def changed(self, before: EmailStatus | None, after: EmailStatus, partition: int) -> None:
        """A status is now ``after``, by this worker or another; ``before`` is None when it was not known here."""


class Projection:
    """``followers`` are told of each change of a status; while its partition is loaded, of none."""

    def __init__(self, table: StatusTable, writer: str, claim_log: ClaimLog, followers: Sequence[Follower]) -> None:
        self.writer = writer
        #: Partitions that are not whole yet, each with the emails of which a record may have lowered what is known.
        self.loading: dict[int, set[str]] = {}
        self._own_prefix = b'{"writer":' + msgspec.json.encode(writer)
        self._table, self._claim_log, self._followers = table, claim_log, followers
        self._settled: OffsetTracker[int] = (
            OffsetTracker()
        )  #: which records of ``email.attempts`` need never be read again
        self._open: dict[str, InFlight[int]] = {}  #: the claim of each email whose attempt is not closed
        #: New emails whose first status is not durable, and their partition: nothing may be claimed for them.
        self._unborn: dict[str, int] = {}

    # -- the log ------------------------------------------------------------------------------------------

    def attempt(self, partition: int, offset: int, value: bytes | None) -> None:
        """Take the next record of a partition of ``email.attempts``.

        Raises OffsetGap when records were skipped: the first claim could be among them.
        """
        slot = self._settled.add(partition, offset)
        if slot is None:
            return
        try:
            record = codec.decode_attempt(value or b"")
        except codec.Undecodable as error:
            log.error("a record of email.attempts cannot be read and is passed over", reason=error.reason,
                      partition=partition, offset=offset)  # fmt: skip
            self._settled.done(slot)
            return
        before = self._table.get_status(record.id)
        if before is None:  # older than the statuses that are kept
            self._settled.done(slot)
            self._claim_log.read_back(record.nonce, has_won=False)
            return
        verdict, after = fold.attempted(before, record)
        VERDICTS[verdict].inc()
        if after is before:
            self._settled.done(slot)
        elif isinstance(record, ClaimRecord) and after.status is Status.PROCESSING:
            self._open[record.id] = slot  # read again after a crash: only the log knows whose it is
            self.put(after, partition)
        else:
            self.put(after, partition, partial(self._settled.done, slot))
            failpoint("C11", record.id)
        if isinstance(record, ClaimRecord):
            # known and still PROCESSING under our nonce: its status was read before the claim itself
            is_known_winner = verdict is Verdict.KNOWN and (after.status, after.nonce) == (
                Status.PROCESSING,
                record.nonce,
            )
            self._claim_log.read_back(record.nonce, has_won=verdict is Verdict.WON or is_known_winner)

    def _changed(self, before: EmailStatus | None, after: EmailStatus, partition: int) -> None:
        if partition not in self.loading:
            for follower in self._followers:
                follower.changed(before, after, partition)

    # -- statuses -----------------------------------------------------------------------------------------

    def put(self, after: EmailStatus, partition: int, then: Callable[[], None] | None = None) -> None:
        """Write a change: what an attempt means, an event, a refused control, a carried copy.

        Does nothing, and never calls ``then``, when the partition is not ours any more: its new owner decides.
        """
        if partition not in self._table.owned():
            return
        before = self._table.get_status(after.id)
        after = structs.replace(after, writer=self.writer)
        claim = None if after.status is Status.PROCESSING else self._open.pop(after.id, None)
        self._table.put(after, partition, partial(self._written, claim, then) if claim or then else None)
        self._changed(before, after, partition)
        if before is None or after.status is not before.status:
            EMAILS_IN[after.status].inc()

    def create(self, status: EmailStatus, partition: int, then: Callable[[], None]) -> None:
        """A new email. It is announced, and can be claimed, only when its first status is durable.

        Else a claim could be in the log of an email that is unknown after a crash, and be overlooked.
        """
        if partition not in self._table.owned():
            return
        self._unborn[status.id] = partition
        self._table.put(status, partition, partial(self._born, status.id, partition, then))
        EMAILS_IN[status.status].inc()

    def _born(self, email_id: str, partition: int, then: Callable[[], None]) -> None:
        self._unborn.pop(email_id, None)
        if partition in self._table.owned() and (status := self._table.get_status(email_id)) is not None:
            self._changed(None, status, partition)
        then()

    def is_pending(self, email_id: str) -> bool:
        """Whether the email's first status is not durable yet."""
        return email_id in self._unborn

    def _written(self, claim: InFlight[int] | None, then: Callable[[], None] | None) -> None:
        if claim is not None:
            self._settled.done(claim)
        if then is not None:
            then()

    def status(self, partition: int, offset: int, key: bytes, value: bytes | None) -> None:
        """Take the next record of a partition of ``email.status``.

        One that raises an email (of the former owner, just before it lost the partition) is adopted. One that lowers it
        is written over, as compaction would leave nothing else. While a partition is loaded all records count, our own
        of an earlier ownership too, and of two equal ones the later; what lowers is written over when all is known.
        """
        lowered = self.loading.get(partition)
        if value is None:
            if lowered is not None:
                self._table.drop(key)
            return
        if lowered is None and value.startswith(self._own_prefix):
            return
        if not self._stands(partition, offset, value):
            email_id = key.decode("utf-8", "replace")
            if lowered is None:
                self._table.rewrite(email_id, partition)
            else:
                lowered.add(email_id)

    def _stands(self, partition: int, offset: int, value: bytes) -> bool:
        """Whether the record is as high as what is known, or higher; then it is adopted."""
        try:
            other = codec.decode_status(value)
        except codec.Undecodable:
            log.error("a record of email.status cannot be read", partition=partition, offset=offset)
            return False
        known = self._table.get_status(other.id)
        if known is not None and order_of_merge(other) < order_of_merge(known):
            return False
        if known is None or partition in self.loading or order_of_merge(other) > order_of_merge(known):
            self._table.remember(other, value)
            if other.status is not Status.PROCESSING and (claim := self._open.pop(other.id, None)) is not None:
                self._settled.done(claim)
            self._changed(known, other, partition)
        return True

    # -- partitions ---------------------------------------------------------------------------------------

    def gained(self, partitions: Set[int]) -> None:
        """These are loaded from now on, until they are ``whole``."""
        self.loading |= {partition: set() for partition in partitions}

    async def whole(self, partitions: Set[int]) -> None:
        """All is known of these partitions now: write over each record that lowers an email, and tell the followers."""
        for partition in partitions:
            for email_id in self.loading.pop(partition, set()):
                self._table.rewrite(email_id, partition)
        for count, status in enumerate(self._table.statuses(partitions)):
            if count % AT_ONCE == 0:
                await asyncio.sleep(0)
            self._changed(None, status, partition_in(status.id, self._table.partition_count))

    def begin(self, partition: int, offset: int) -> None:
        """The next record of this partition of ``email.attempts`` will be the one at ``offset``."""
        self._settled.begin(partition, offset)

    def checkpoint(self, partition: int) -> int | None:
        """The offset of ``email.attempts`` below which nothing needs to be read again; None when nothing was read."""
        return self._settled.head(partition)

    def lost(self, partitions: Set[int]) -> None:
        """Forget partitions that belong to others now."""
        for partition in partitions:
            self.loading.pop(partition, None)
            self._settled.forget_one(partition)
        for email_id, slot in list(self._open.items()):
            if slot.place in partitions:
                del self._open[email_id]
        self._unborn = {email_id: home for email_id, home in self._unborn.items() if home not in partitions}
