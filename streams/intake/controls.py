"""Cancel, reschedule, resolve: decided by a claim in the log, never by a look at the status alone."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from weakref import WeakValueDictionary

import structlog
from msgspec import structs

from mailstream.clock import Clock, moment
from mailstream.domain.attempt import Instead
from mailstream.domain.dead_letter import Reason
from mailstream.domain.errors import NotPublished
from mailstream.domain.request import Control, ControlKind, OnAmbiguous
from mailstream.domain.status import EmailStatus, Status
from streams.core import fold
from streams.core.caps_and_digests import CapAndDigestIndex
from streams.core.claims import is_open
from streams.core.faults import Fault
from streams.statuses.claim_log import ClaimLog
from streams.statuses.projection import Projection
from streams.statuses.queue import Queue
from streams.statuses.table import StatusTable

log = structlog.get_logger(__name__)

AGAIN_SECONDS = 1.0  #: until a record is tried again that could not be decided
#: A claim of our own that has not reached its gate is given back for a cancel; how often that is waited for.
LOOKS, LOOK_SECONDS = 100, 0.02
#: What is claimed; an operator who resolves says it.
_INSTEAD = {ControlKind.CANCEL: Instead.CANCELLED, ControlKind.RESCHEDULE: Instead.RESCHEDULED}


@dataclass(slots=True, kw_only=True, eq=False)
class Controls:
    """Carries out control records. Each ends decided: won, or refused and shown on the timeline."""

    table: StatusTable
    projection: Projection
    claim_log: ClaimLog
    clock: Clock
    queue: Queue
    groups: CapAndDigestIndex
    #: Asks for the release of a claim that is not past its gate; False: it is too late.
    recall: Callable[[str], bool]
    #: By email, while records about it are undecided. A lock lets them in in the order in which they came.
    _locks: WeakValueDictionary[str, asyncio.Lock] = field(init=False, default_factory=WeakValueDictionary)

    async def decide(
        self,
        control: Control,
        partition: int,
        offset: int,
        then: Callable[[], None],
        *,
        first: Callable[[], Awaitable[None]] | None = None,
    ) -> Fault | None:
        """Decide one record, however long that takes; ``then`` is called when the decision is durable.

        Returns why the record makes no sense, if so: it is a dead letter, and ``then`` was not called. ``first`` is
        awaited when its turn has come.

        A record that cannot be decided now keeps its place: were a later one decided first, this one would look decided
        when it is read again. When the partition goes the record stays unacked, and its next owner reads it.
        """
        lock = self._locks.setdefault(control.id, asyncio.Lock())
        self.queue.bar(control.id)
        try:
            async with lock:
                while partition in self.table.owned():
                    try:
                        if first is not None:
                            await first()
                        return await self._decide(control, partition, offset, then)
                    except NotPublished as error:
                        log.warning("not decided yet, tried again", email=control.id, error=str(error))
                        await self.clock.sleep(AGAIN_SECONDS)
                return None
        finally:
            self.queue.unbar(control.id)

    async def _decide(self, control: Control, partition: int, offset: int, then: Callable[[], None]) -> Fault | None:
        while True:
            while self.projection.is_pending(control.id):
                await self.clock.sleep(LOOK_SECONDS)
            status = self.table.get_status(control.id)
            if partition not in self.table.owned():
                return None  # the partition is another worker's now, and so is the record
            if status is None:
                return Reason.UNKNOWN_ID, "no email with this id was asked for"
            if control.tenant is not None and control.tenant != status.tenant:
                return Reason.ID_CONFLICT, "the email belongs to another tenant"
            if offset <= status.control:  # decided before, read again
                self.table.when_durable(status.id, then)
                return None
            if (why := self._refusal(control, status)) is not None:
                if why == "already_sending" and await self._was_given_back(status):
                    continue
                decided = self._decided(status, control, offset, f"{control.kind.value}_refused", why)
                self.projection.put(decided, partition, then)
                return None
            if control.kind is ControlKind.RESOLVE and control.to == "RESEND":
                ordered = self._decided(status, control, offset, "resend_ordered", None)
                ordered = structs.replace(ordered, on_ambiguous=OnAmbiguous.RESEND)  # so that a crash does not lose it
                self.projection.put(ordered, partition, then)
                self.queue.resend(ordered, partition)
                return None
            won = await self.claim_log.claim(
                status,
                partition,
                instead=_INSTEAD.get(control.kind) or Instead(control.to or ""),
                not_before=control.send_at,
                by=control.by or None,
                reason=control.reason or None,
                control=offset,
            )
            if won is not None:
                then()  # the winning claim is in the log and says it all
                return None

    def _refusal(self, control: Control, status: EmailStatus) -> str | None:
        if status.final:
            return "already_final"
        if control.kind is ControlKind.RESOLVE:
            if status.status is not Status.HELD:
                return "not_held"
            return "already_resent" if control.to == "RESEND" and status.doubt else None
        if status.status is Status.HELD or status.doubt is not None:
            return "in_doubt"  # it may have been sent: nothing may say that it was not
        if control.kind is ControlKind.CANCEL and self.groups.parts_of(status.id):
            return "already_digested"  # others ended in its favour: their events would be told nowhere
        return "already_sending" if is_open(status) else None

    async def _was_given_back(self, status: EmailStatus) -> bool:
        """Whether our own claim, not at its gate yet, was released for this."""
        if not self.claim_log.is_alive(status.nonce) or not self.recall(status.id):
            return False
        for _ in range(LOOKS):
            await self.clock.sleep(LOOK_SECONDS)
            now = self.table.get_status(status.id)
            if now is None or not is_open(now):
                return now is not None
        return False

    def _decided(self, status: EmailStatus, control: Control, offset: int, what: str, why: str | None) -> EmailStatus:
        return fold.noted_control(
            status, control=offset, what=what, why=why, by=control.by, at=moment(self.clock.now())
        )
