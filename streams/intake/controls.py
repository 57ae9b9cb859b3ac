"""Cancel, reschedule, resolve: decided by a claim in the log, never by a look (K8, amendments 9, 13 and 28)."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import structlog
from msgspec import structs

from mailstream.clock import Clock, moment
from mailstream.domain.attempt import Instead
from mailstream.domain.errors import NotPublished
from mailstream.domain.request import Control, ControlKind, OnAmbiguous
from mailstream.domain.status import EmailStatus, Status
from streams.core import fold
from streams.core.caps_and_digests import Groups
from streams.core.claims import is_open
from streams.statuses.claim_log import ClaimLog
from streams.statuses.projection import Projection
from streams.statuses.queue import Queue
from streams.statuses.table import StatusTable

log = structlog.get_logger(__name__)

AGAIN_SECONDS = 1.0  #: until a record is tried again that could not be decided
#: A claim of our own that has not reached its gate is given back for a cancel; how often that is waited for.
LOOKS, LOOK_SECONDS = 100, 0.02


@dataclass(slots=True)
class _Line:
    """Those who wait to decide about one email; the lock lets them in by the order of their coming."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    length: int = 0  #: with the one whose turn it is


@dataclass(slots=True, kw_only=True, eq=False)
class Controls:
    """Carries out control records. Each ends decided: won, or refused and shown on the timeline."""

    table: StatusTable
    projection: Projection
    claim_log: ClaimLog
    clock: Clock
    queue: Queue
    groups: Groups
    give_back: Callable[
        [str], bool
    ]  #: asks for the release of a claim that is not past its gate; False: it is too late
    #: Emails with undecided records; first come, first decided.
    _lines: dict[str, _Line] = field(init=False, default_factory=dict)

    async def decide(
        self,
        control: Control,
        partition: int,
        offset: int,
        then: Callable[[], None],
        *,
        first: Callable[[], Awaitable[bool]] | None = None,
    ) -> None:
        """Decide one record, however long that takes; ``then`` is called when the decision is durable.

        ``first`` is awaited before, when its turn has come; False: there is nothing to decide.

        A record that cannot be decided now keeps its place: were a later one decided first, this one would look decided
        when it is read again. When the partition goes the record stays unacked, and its next owner reads it.
        """
        if (line := self._lines.get(control.id)) is None:
            line = self._lines[control.id] = _Line()
            self.queue.bar(control.id)
        line.length += 1
        try:
            async with line.lock:
                while partition in self.table.owned():
                    try:
                        if first is not None and not await first():
                            return None
                        return await self._decide(control, partition, offset, then)
                    except NotPublished as error:
                        log.warning("not decided yet, tried again", email=control.id, error=str(error))
                        await self.clock.sleep(AGAIN_SECONDS)
        finally:
            line.length -= 1
            if not line.length:
                del self._lines[control.id]
                self.queue.unbar(control.id)

    async def _decide(self, control: Control, partition: int, offset: int, then: Callable[[], None]) -> None:
        while True:
            while self.projection.is_unborn(control.id):
                await self.clock.sleep(LOOK_SECONDS)
            status = self.table.get_status(control.id)
            if partition not in self.table.owned():
                return  # the partition is another worker's now, and so is the record
            if status is None:
                then()  # forgotten meanwhile: it was final for long
                return
            if offset <= status.control:  # decided before, read again
                self.table.when_durable(status.id, then)
                return
            if (why := self._refusal(control, status)) is not None:
                if why == "already_sending" and await self._was_given_back(status):
                    continue
                decided = self._decided(status, control, offset, f"{control.kind.value}_refused", why)
                self.projection.put(decided, partition, then)
                return
            if control.kind is ControlKind.RESOLVE and control.to == "RESEND":
                ordered = self._decided(status, control, offset, "resend_ordered", None)
                ordered = structs.replace(ordered, on_ambiguous=OnAmbiguous.RESEND)  # so that a crash does not lose it
                self.projection.put(ordered, partition, then)
                self.queue.resend(ordered, partition)
                return
            won = await self.claim_log.claim(
                status,
                partition,
                instead=self._instead(control),
                not_before=control.send_at,
                by=control.by or None,
                reason=control.reason or None,
                control=offset,
            )
            if won is not None:
                then()  # the winning claim is in the log and says it all
                return

    def _instead(self, control: Control) -> Instead:
        match control.kind:
            case ControlKind.CANCEL:
                return Instead.CANCELLED
            case ControlKind.RESCHEDULE:
                return Instead.RESCHEDULED
            case ControlKind.RESOLVE:
                return Instead.SENT if control.to == "SENT" else Instead.UNCONFIRMED

    def _refusal(self, control: Control, status: EmailStatus) -> str | None:
        if status.final:
            return "already_final"
        if control.kind is ControlKind.RESOLVE:
            if status.status is not Status.HELD:
                return "not_held"
            return "already_resent" if control.to == "RESEND" and status.doubt else None
        if status.status is Status.HELD or status.doubt is not None:
            return "in_doubt"  # it may have been sent: nothing may say that it was not (amendment 3)
        if control.kind is ControlKind.CANCEL and self.groups.parts_of(status.id):
            return "already_digested"  # others ended in its favour: their events would be told nowhere
        return "already_sending" if is_open(status) else None

    async def _was_given_back(self, status: EmailStatus) -> bool:
        """Whether our own claim, not at its gate yet, was released for this (amendment 28)."""
        if not self.claim_log.is_alive(status.nonce) or not self.give_back(status.id):
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
