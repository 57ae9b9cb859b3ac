"""The tail of ``email.requested`` that no worker has read yet: accepted, and so ``QUEUED`` and never unknown."""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import NamedTuple

from confluent_kafka import Message
from msgspec import structs

from api.view.bodies import Shown
from mailstream.clock import moment
from mailstream.domain import email_id
from mailstream.domain.codec import Undecodable, decode_requested
from mailstream.domain.errors import BadAddress, BadEmailId
from mailstream.domain.recipient import canonical, recipient_hash
from mailstream.domain.request import Batch, Coordinates, EmailRequest, InBatch
from mailstream.domain.status import EmailStatus, queued
from mailstream.domain.validation import fingerprint_of
from mailstream.kafka.offsets import Partition

#: So long a claim is kept after workers have read it: the emails that it is for are being written.
CLAIM_SECONDS = 60.0


class First(NamedTuple):
    """The first record of an id: of one that a request waits for, or of a batch that is asked for under a key."""

    partition: int
    offset: int
    fingerprint: str | None
    at: datetime


class _Entry(NamedTuple):
    status: EmailStatus  #: as the worker will write it; ``request`` is its record, for an item of a batch the batch's
    is_own: bool  #: the record is the email's own, in its partition: when it has been read, there is a status

    def place(self) -> Coordinates:
        assert self.status.request is not None
        return self.status.request


class UnreadRequests:
    """Requests between what the workers have committed and the end of the log, by email id."""

    def __init__(
        self,
        topic: str,
        partitions: int,
        is_known: Callable[[bytes], bool],
        remember: Callable[[bytes, Shown | None], None],
    ) -> None:
        self._topic, self._partitions, self._remember = topic, partitions, remember
        self._is_known = is_known  #: whether the status view has the id
        self._entries: dict[bytes, _Entry] = {}
        self._firsts: dict[bytes, First | None] = {}
        self._claims: dict[str, First] = {}  #: by batch id

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, key: bytes) -> bool:
        return key in self._entries

    def apply(self, message: Message) -> list[bytes]:
        """Take one record, in log order; returns the ids that were unknown until now.

        The worker judges what is not a request of ours.
        """
        if (value := message.value()) is None:
            return []
        try:
            record = decode_requested(value)
        except Undecodable:
            return []
        place, at = Coordinates(message.partition() or 0, message.offset() or 0), moment(message.timestamp()[1] / 1000)
        if isinstance(record, Batch):
            return self._take_batch(record, place, at)
        key = self._take(record, place, at) if isinstance(record, EmailRequest) else None
        return [] if key is None else [key]

    def get(self, key: bytes) -> EmailStatus | None:
        """The status of a request that no worker has read: it waits."""
        entry = self._entries.get(key)
        return None if entry is None else entry.status

    def batch_of(self, key: bytes) -> Coordinates | None:
        """Where the strict batch stands by which alone the email is known: it has no record of its own yet.

        The same for a record in a wrong partition: its copy in the right one may still be to come.
        """
        entry = self._entries.get(key)
        return entry.place() if entry is not None and not entry.is_own else None

    def claimed(self, batch_id: str) -> str | None:
        """The fingerprint of the first record of a batch, while its emails may not be known yet."""
        claim = self._claims.get(batch_id)
        return None if claim is None else claim.fingerprint

    def expect(self, key: bytes) -> None:
        """From now on remember the first record of this id, until ``take_first``."""
        self._firsts[key] = None

    def take_first(self, key: bytes) -> First | None:
        """The first record of the id since ``expect``."""
        return self._firsts.pop(key, None)

    def pop(self, key: bytes) -> EmailStatus | None:
        """Let go of an id that the status view has now."""
        entry = self._entries.pop(key, None)
        return None if entry is None else entry.status

    def pop_read(self, committed: Mapping[Partition, int], now: float) -> list[tuple[bytes, EmailStatus]]:
        """Let go of what workers have read and the view has had time to show: records that were refused.

        Call it only when the view has applied ends of ``email.status`` that were asked after these commits. ``now``:
        seconds since 1970.
        """
        self._claims = {
            id_: claim
            for id_, claim in self._claims.items()
            if claim.offset >= committed.get((self._topic, claim.partition), 0)
            or now - claim.at.timestamp() < CLAIM_SECONDS
        }
        read = [
            (key, entry.status)
            for key, entry in self._entries.items()
            if (place := entry.place()).offset < committed.get((self._topic, place.partition), 0)
        ]
        for key, _ in read:
            del self._entries[key]
        return read

    def _take_batch(self, batch: Batch, place: Coordinates, at: datetime) -> list[bytes]:
        """A strict batch: until its owner has unfolded it, its items stand in no record of their own."""
        mark, first = None, First(place.partition, place.offset, batch.fingerprint, at)
        if batch.fingerprint is not None:
            mark = InBatch(batch.id, batch.fingerprint)
            self._claims.setdefault(batch.id, first)
        for id_ in (batch.id, items_of(batch.id)) if batch.items else (batch.id,):
            self._note_first(id_.encode(), first)
        keys = [self._take(structs.replace(item, batch=mark), place, at, is_item=True) for item in batch.items]
        return [key for key in keys if key is not None]

    def _take(self, request: EmailRequest, place: Coordinates, at: datetime, *, is_item: bool = False) -> bytes | None:
        if (id_ := _id_of(request)) is None:
            return None
        key = id_.encode()
        if key in self._firsts:
            fingerprint = request.fingerprint or fingerprint_of(request)
            self._note_first(key, First(place.partition, place.offset, fingerprint, at))
        self._remember(key, Shown(request.to.email, request.subject))
        if self._is_known(key):
            return None
        is_own = not is_item and email_id.partition_in(id_, self._partitions) == place.partition
        known = self._entries.get(key)
        if known is not None and (known.is_own or not is_own):
            return None
        if known is not None:  # partitions are read in any order: a batch may come behind its items' records
            at = known.status.created_at
        status = queued(request, email_id=id_, recipient=id_[3:11], place=place, at=at, writer="")
        self._entries[key] = _Entry(status, is_own)
        return key if known is None else None

    def _note_first(self, key: bytes, first: First) -> None:
        if key in self._firsts and self._firsts[key] is None:
            self._firsts[key] = first


def items_of(batch_id: str) -> str:
    """What a record of a strict batch is expected by, when one that claims its id may come before it."""
    return f"{batch_id}/items"


def _id_of(request: EmailRequest) -> str | None:
    """The id that the worker will give the request; None where only it can tell."""
    try:
        recipient = canonical(request.to.email)
        if request.id is not None:
            return request.id if email_id.hash_in(request.id) == recipient_hash(recipient) else None
    except (BadAddress, BadEmailId):
        return None
    if request.idempotency_key is None:
        return None
    return email_id.derived(request.tenant, request.source, request.idempotency_key, recipient)
