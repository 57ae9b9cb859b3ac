"""What time does to emails: bodies are carried forward before they expire, old final statuses are forgotten.

*Carry forward*: at a gap of 2 s a million mails take 23 days, and ``send_at`` may be a year away; so a live
email whose record is older than half of the topic's retention is published again by its owner, with the same id.
*Forget*: the owner writes a tombstone STATUS_RETENTION after an email became final.
"""

from dataclasses import dataclass, field

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
from streams.core.caps_and_digests import CapAndDigestIndex
from streams.statuses.table import StatusTable

log = structlog.get_logger(__name__)

#: How often all statuses of the owned partitions are looked at, and how many between two turns of the loop.
ROUND_SECONDS, AT_ONCE = 3600.0, 500


@dataclass(slots=True, eq=False)
class Retention:
    """Goes round the owned partitions. What it cannot do now it does in the next round."""

    settings: Settings
    table: StatusTable
    bodies: Bodies
    publisher: Publisher
    groups: CapAndDigestIndex
    clock: Clock
    request_retention: float = field(kw_only=True)  #: seconds that the broker keeps a record of ``email.requested``

    @property
    def round_seconds(self) -> float:
        """From the end of a round to the next one."""
        return min(ROUND_SECONDS, self.request_retention / 20, self.settings.status_retention / 10)

    async def go_round(self) -> None:
        """Look at every status once."""
        carried = forgotten = 0
        for count, status in enumerate(self.table.statuses(self.table.owned())):
            if count % AT_ONCE == 0:
                await self.clock.sleep(0)
            partition, now = partition_in(status.id, self.table.partition_count), self.clock.now()
            if partition not in self.table.owned():
                continue
            if not self.table.needs_body(status):
                is_over = now - status.updated_at.timestamp() > self.settings.status_retention
                if is_over and self.table.forget(status.id, partition):
                    self.groups.forget(status.id)
                    forgotten += 1
            elif now - (status.request_at or status.created_at).timestamp() > self.request_retention / 2:
                carried += await self._carry(status, partition)
        if carried or forgotten:
            log.info("upkeep", carried=carried, forgotten=forgotten)

    async def _carry(self, status: EmailStatus, partition: int) -> bool:
        """Publish the request again. Accept takes the new coordinates when it reads the copy."""
        assert status.request is not None
        try:
            value = await self.bodies.get(status.request)
            if value is None:
                log.error("a body is gone; its email will end FAILED", email=status.id)
                return False
            request = codec.decode_requested(value)
            assert isinstance(request, EmailRequest)
            first_record = b"%d/%d" % (status.order, round(status.created_at.timestamp() * 1000))
            await self.publisher.publish(
                Naming(self.settings.topic_prefix).of(topics.REQUESTED),
                # a record that named no id got one from its place: the copy is in another
                value if request.id == status.id else codec.encode(structs.replace(request, id=status.id)),
                key=canonical(request.to.email).encode(),
                partition=partition,
                headers=[*codec.headers_of(request), (codec.CARRIED_HEADER, first_record)],
            )
        except (NotCaughtUp, NotPublished) as error:
            log.warning("not carried, tried again", email=status.id, error=str(error))
            return False
        return True
