"""One email that waits for its turn."""

from msgspec import Struct

from mailstream.request import Lane
from mailstream.status import EmailStatus


class Waiting(Struct, eq=False, gc=False):
    """Its place among the others. Times are seconds since 1970. A million of them are nothing to the collector."""

    id: str
    partition: int
    recipient: int  #: recipient hash; two recipients that share one only wait for each other
    lane: Lane
    created: float
    order: int
    due: float  #: not before this; 0 when due since ever
    expires: float | None = None

    def __lt__(self, other: "Waiting") -> bool:
        """The order of two emails of one partition is that of the log: a broker's clock may step back between them."""
        return self.order < other.order


def waiting(status: EmailStatus, partition: int) -> Waiting:
    """The place in the schedule of an email that is QUEUED or RETRYING."""
    return Waiting(
        id=status.id,
        partition=partition,
        recipient=int(status.recipient, 16),
        lane=status.lane,
        created=status.created_at.timestamp(),
        order=status.order,
        due=status.due_at.timestamp() if status.due_at else 0.0,
        expires=status.expires_at.timestamp() if status.expires_at else None,
    )
