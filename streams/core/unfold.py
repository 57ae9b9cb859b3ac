"""What becomes of a strict batch: a record of its own for each item, in the partition of its recipient."""

from collections.abc import Mapping
from dataclasses import dataclass

from msgspec import structs

from mailstream.clock import moment
from mailstream.domain import codec, email_id
from mailstream.domain.dead_letter import Reason
from mailstream.domain.recipient import partition_of
from mailstream.domain.record import Record
from mailstream.domain.request import Batch, Coordinates, EmailRequest, InBatch
from streams.core import faults
from streams.core.faults import LONGEST_DETAIL, Fault, Rejected, Rules, fault_of, rejected
from streams.core.named import Named, name_of

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


def read_batch(received: Record, batch: Batch, rules: Rules, now: float) -> Rejected | Unfold:
    """All items or none. Their ids follow from the batch's place, so that reading it again names them again."""
    if (refusal := refusal_in(received.headers)) is not None:
        return rejected(received, refusal)
    mark = InBatch(batch.id, batch.fingerprint) if batch.fingerprint is not None else None
    found = [_read_item(received, item, index, mark, rules, now) for index, item in enumerate(batch.items)]
    fault = next(((fault[0], f"item {index}: {fault[1]}") for index, (_, fault) in enumerate(found) if fault), None)
    if fault is None:
        return Unfold(
            Coordinates(received.partition, received.offset), tuple(item for item, _ in found if item is not None)
        )
    assert received.value is not None
    torn = codec.items_in(received.value)
    items = [item or torn_item(received, torn[index], rules) for index, (item, _) in enumerate(found)]
    return refused(received, items, fault)


def refused(received: Record, items: list[Item], fault: Fault) -> Rejected | Unfold:
    """A batch that cannot be taken: told to the callers of its items, as far as their ids can be read."""
    if not any(item.id for item in items):
        return rejected(received, fault)
    return Unfold(Coordinates(received.partition, received.offset), tuple(items), fault)


def _read_item(
    received: Record, item: EmailRequest, index: int, mark: InBatch | None, rules: Rules, now: float
) -> tuple[Item | None, Fault | None]:
    """The record of an item, where one can be made, and why it may not be taken, if so."""
    named = name_of(received, item, index)
    if not isinstance(named, Named):
        return None, named
    if (too_deep := faults.of_depth(item)) is not None:
        return None, too_deep
    written_at = item.requested_at or moment(received.timestamp_ms / 1000)
    own = structs.replace(item, id=named.id, requested_at=written_at, batch=mark)
    partition = partition_of(named.hash, rules.partitions)
    record = Item(named.id, partition, named.recipient.encode(), codec.encode(own))
    return record, fault_of(received, own, rules, now)


def torn_item(received: Record, value: bytes, rules: Rules) -> Item:
    """An item that no record can be made of: its bytes, where its email belongs, if that can be read."""
    id_, _ = codec.named_in(value)
    if id_ is None or not email_id.is_email_id(id_):
        return Item(None, received.partition, received.key, value)
    return Item(id_, email_id.partition_in(id_, rules.partitions), id_.encode(), value)
