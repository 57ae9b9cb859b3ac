"""What time does to emails: bodies are carried forward before they expire, old final statuses are forgotten.

*Carry forward* (design §4): at a gap of 2 s a million mails take 23 days, and ``send_at`` may be a year away; so a live
email whose record is older than half of the topic's retention is published again by its owner, with the same id.
*Forget* (amendments 4 and 24): the owner writes a tombstone STATUS_RETENTION after an email became final.
"""

import structlog
from msgspec import structs

from mailstream.clock import Clock
from mailstream.domain import codec, topics
from mailstream.domain.email_id import partition_in
from mailstream.domain.errors import NotCaughtUp, NotPublished
from mailstream.domain.recipient import canonical
from mailstream.domain.request import EmailRequest
from mailstream.domain.status import EmailStatus
from mailstream.domain.topics import Naming
from mailstream.kafka.bodies import Bodies
from mailstream.kafka.producer import Publisher
from mailstream.settings import Settings
from streams.core.caps_and_digests import Groups
from streams.statuses.table import StatusTable

log = structlog.get_logger(__name__)

#: How often all statuses of the owned partitions are looked at, and how many between two turns of the loop.
ROUND_SECONDS, AT_ONCE = 3600.0, 500


class Upkeep:
    """Goes round the owned partitions. What it cannot do now it does in the next round."""

    def __init__(
        self,
        settings: Settings,
        table: StatusTable,
        bodies: Bodies,
        publisher: Publisher,
        groups: Groups,
        clock: Clock,
        *,
        request_retention: float,
    ) -> None:
        """``request_retention``: seconds that the broker keeps a record of ``email.requested``."""
        self._table, self._bodies, self._publisher, self._clock = table, bodies, publisher, clock
        self._groups = groups
        self._topic = Naming(settings.topic_prefix).of(topics.REQUESTED)
        self._retention = settings.status_retention
        self._carry_after = request_retention / 2
        self.round_seconds = min(ROUND_SECONDS, self._carry_after / 10, self._retention / 10)

    async def go_round(self) -> None:
        """Look at every status once."""
        carried = forgotten = 0
        for count, status in enumerate(self._table.statuses(self._table.owned())):
            if count % AT_ONCE == 0:
                await self._clock.sleep(0)
            partition = partition_in(status.id, self._table.partition_count)
            if partition not in self._table.owned():
                continue
            if not self._table.needs_body(status):
                is_over = self._clock.now() - status.updated_at.timestamp() > self._retention
                if is_over and self._table.forget(status.id, partition):
                    self._groups.forget(status.id)
                    forgotten += 1
            elif self._is_old(status):
                carried += await self._carry(status, partition)
        if carried or forgotten:
            log.info("upkeep", carried=carried, forgotten=forgotten)

    def _is_old(self, status: EmailStatus) -> bool:
        written = status.request_at or status.created_at
        return self._clock.now() - written.timestamp() > self._carry_after

    async def _carry(self, status: EmailStatus, partition: int) -> bool:
        """Publish the request again. Accept takes the new coordinates when it reads the copy."""
        assert status.request is not None
        try:
            value = await self._bodies.get(status.request)
            if value is None:
                log.error("a body is gone; its email will end FAILED", email=status.id)
                return False
            request = codec.decode_requested(value)
            assert isinstance(request, EmailRequest)
            headers = [*codec.headers_of(request), (codec.CARRIED_HEADER, _first_record(status))]
            await self._publisher.publish(
                self._topic,
                # a record that named no id got one from its place: the copy is in another
                value if request.id == status.id else codec.encode(structs.replace(request, id=status.id)),
                key=canonical(request.to.email).encode(),
                partition=partition,
                headers=headers,
            )
        except (NotCaughtUp, NotPublished) as error:
            log.warning("not carried, tried again", email=status.id, error=str(error))
            return False
        return True


def _first_record(status: EmailStatus) -> bytes:
    return b"%d/%d" % (status.order, round(status.created_at.timestamp() * 1000))
