"""The few members of an email by which the views keep order: small enough to be read from every record."""

from datetime import datetime

import msgspec
from msgspec import Struct

from mailstream.domain.request import InBatch, Lane
from mailstream.domain.status import EmailStatus, Status


class _Place(Struct):
    offset: int = -1


class Brief(Struct):
    """Part of a status record."""

    tenant: str
    recipient: str  #: the recipient hash, 8 hex digits
    status: Status
    rank: int
    created_at: datetime
    updated_at: datetime
    lane: Lane = Lane.NORMAL
    due_at: datetime | None = None
    reference: str | None = None
    batch: InBatch | None = None
    request: _Place | None = None
    control: int = -1

    def order(self) -> tuple[int, int, int]:
        """What decides between two records of one email: the same as ``status.order_of_merge``."""
        return self.rank, self.request.offset if self.request else -1, self.control


#: What followers of the view are told of an email: part of its record, or the status that a fresh request will get.
Seen = Brief | EmailStatus

decode_brief = msgspec.json.Decoder(Brief).decode
