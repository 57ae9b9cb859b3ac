"""What becomes of a strict batch: a record of its own for each item, in the partition of its recipient."""

from collections.abc import Mapping
from dataclasses import dataclass

from mailstream.domain import codec
from mailstream.domain.dead_letter import Reason
from mailstream.domain.request import Coordinates, EmailRequest
from streams.core.faults import LONGEST_DETAIL, Fault

_REASONS = frozenset(Reason)


@dataclass(frozen=True, slots=True)
class Item:
    """The record of its own of a batch's item; ``id`` where one can be read."""

    id: str | None
    partition: int
    key: bytes | None
    value: bytes


@dataclass(frozen=True, slots=True)
class Unfold:
    """A strict batch, to be published as single records before it is acked.

    With a fault it is refused as a whole: each record then says so, is a dead letter in its own partition, and gives its
    email the status ``REJECTED``, unless that was taken before.
    """

    place: Coordinates  #: of the batch
    items: tuple[Item, ...]
    fault: Fault | None = None

    def headers(self) -> list[codec.Header]:
        """What goes with the record of each item."""
        place = f"{self.place.partition}/{self.place.offset}".encode()
        headers = [*codec.headers_of(EmailRequest), (codec.UNFOLDED_HEADER, place)]
        if self.fault is not None:
            reason, detail = self.fault
            headers.append((codec.REFUSED_HEADER, f"{reason} {detail[:LONGEST_DETAIL]}".encode()))
        return headers


def refusal_in(headers: Mapping[str, bytes]) -> Fault | None:
    """Why the batch was refused that a record is an item of, if it was."""
    if (refusal := headers.get(codec.REFUSED_HEADER)) is None:
        return None
    reason, _, detail = refusal.decode("utf-8", "replace").partition(" ")
    return Reason(reason) if reason in _REASONS else Reason.BAD_VALUE, detail
