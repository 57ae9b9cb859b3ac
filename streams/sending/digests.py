"""Several events of one recipient become one mail (ADR-0012). The order of the log makes it whole:

1. the first of them that is due claims its call, as every email does;
2. its owner claims, for each of the others, the ending ``SUPPRESSED`` *into* it;
3. the mail is made of exactly those whose ending the log holds, and called for.

Killed after 1, the others still wait and make a digest of their own. Killed after 2, the endings name the email in whose
mail they stand, and who calls for it again renders the same events. So no event is told twice, and none is lost.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from mailstream.clock import Clock
from mailstream.domain.attempt import Instead
from mailstream.domain.errors import TemplateError
from mailstream.domain.request import EmailRequest
from mailstream.domain.status import EmailStatus, Status
from mailstream.kafka.bodies import Bodies
from streams.core.caps_and_digests import CapAndDigestIndex
from streams.core.schedule import Schedule
from streams.failpoints import failpoint
from streams.rendering import Rendering
from streams.statuses.claim_log import ClaimLog, Won
from streams.statuses.table import StatusTable

MOST_EVENTS = 100  #: in one mail; the others make the next one


@dataclass(frozen=True, slots=True)
class Mail:
    """What an email becomes, and the others that must end in its favour before it may be called for."""

    asked: EmailRequest  #: as it was asked for
    request: EmailRequest  #: rendered
    joining: tuple[EmailStatus, ...] = ()


@dataclass(slots=True, eq=False)
class Digests:
    """Finds, renders and ends what becomes one mail."""

    groups: CapAndDigestIndex
    table: StatusTable
    bodies: Bodies
    rendering: Rendering
    claim_log: ClaimLog
    schedule: Schedule
    clock: Clock

    async def mail(self, status: EmailStatus, request: EmailRequest) -> Mail:
        """The mail that an email becomes now: alone as it is, else a digest with those that are due.

        Raises BodyGone, TemplateError, NotCaughtUp.
        """
        joining = self._joining(status)
        while True:
            try:
                return Mail(request, await self._rendered(status, request, joining), joining)
            except TemplateError:  # too much for one mail, perhaps: fewer, and the rest later
                if not joining:
                    raise
                joining = joining[: len(joining) // 2]

    async def join(self, won: Won, status: EmailStatus, mail: Mail) -> EmailRequest:
        """End the others in favour of a claimed email, and return the mail with those whose ending the log holds.

        Raises NotPublished, NotCaughtUp, BodyGone, TemplateError: nothing may be called for now.
        """
        claims = [
            self.claim_log.claim(
                other, won.partition, instead=Instead.SUPPRESSED, into=won.id, reason=f"digested into {won.id}"
            )
            for other in mail.joining
        ]
        # all of them are waited for: one that is on its way may still end its email in favour of this one
        for result in await asyncio.gather(*claims, return_exceptions=True):
            if isinstance(result, BaseException):
                raise result
        failpoint("C5b", won.id)
        return await self._rendered(status, mail.asked, ())

    def _joining(self, status: EmailStatus) -> tuple[EmailStatus, ...]:
        if status.status is not Status.QUEUED:
            return ()  # a repeated call is for the same mail
        found: list[EmailStatus] = []
        now = self.clock.now()
        room = MOST_EVENTS - 1 - len(self.groups.parts_of(status.id))
        for email_id in self.groups.due_with(status, now):
            if len(found) >= room:
                break
            other = self.table.get_status(email_id)
            # in the schedule: its first status is durable, and no control record is being decided about it
            if other is None or email_id not in self.schedule:
                continue
            if other.expires_at is None or other.expires_at.timestamp() > now:
                found.append(other)
        return tuple(found)

    async def _rendered(
        self, status: EmailStatus, request: EmailRequest, joining: Sequence[EmailStatus]
    ) -> EmailRequest:
        parts = [self.table.get_status(email_id) for email_id in self.groups.parts_of(status.id)]
        several = [status, *(other for other in (*parts, *joining) if other is not None)]
        if len(several) == 1:
            return await self.rendering.rendered(request)
        events = []
        for one in sorted(several, key=lambda one: one.order):
            events.append((request if one is status else await self.bodies.request(one)).data)
        return await self.rendering.digest(request, events)
