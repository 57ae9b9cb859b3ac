"""The tail of ``email.requested`` that no worker has read yet: accepted, and so ``QUEUED`` and never unknown."""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import NamedTuple

import msgspec
from confluent_kafka import Message
from msgspec import Struct

from api.bodies import Shown
from api.brief import Brief
from mailstream import email_id
from mailstream.clock import moment
from mailstream.codec import Undecodable, decode_requested
from mailstream.errors import BadAddress, BadEmailId
from mailstream.log.ends import Partition
from mailstream.mistakes import fingerprint_of
from mailstream.recipient import canonical, recipient_hash
from mailstream.request import Address, EmailRequest, InBatch, Lane
from mailstream.status import Coordinates, EmailStatus, Fact, Status, masked, rank_of

#: So long a claim is kept after workers have read it: the emails that it is for are being written.
CLAIM_SECONDS = 60.0


class _Asked(Struct, rename={"from_": "from"}):
    """The small members of a request: bodies and attachments are passed over."""

    to: Address
    id: str | None = None
    tenant: str = "default"
    source: str = ""
    idempotency_key: str | None = None
    requested_at: datetime | None = None
    lane: Lane = Lane.NORMAL
    send_at: datetime | None = None
    expires_at: datetime | None = None
    reference: str | None = None
    tags: tuple[str, ...] = ()
    test: bool = False
    fingerprint: str | None = None
    batch: InBatch | None = None
    subject: str | None = None


class _Batch(Struct, tag_field="kind", tag="batch"):
    items: tuple[_Asked, ...] = ()
    id: str = ""
    fingerprint: str | None = None


_asked = msgspec.json.Decoder(_Asked)
_batch = msgspec.json.Decoder(_Batch)


class First(NamedTuple):
    """The first record of an id that was read while a request waited for it."""

    partition: int
    offset: int
    fingerprint: str | None


class _Entry(NamedTuple):
    asked: _Asked
    partition: int  #: of the record, which for an item of a batch is the batch's
    offset: int
    at: datetime  #: the broker's time of the record, as the worker will take it
    is_own: bool  #: the record is the email's own, in its partition: when it has been read, there is a status
    is_item: bool  #: the record is that of a strict batch
    batch: InBatch | None

    def brief(self, key: bytes) -> Brief:
        return Brief(
            tenant=self.asked.tenant,
            recipient=key[3:11].decode(),
            status=Status.QUEUED,
            rank=rank_of(Status.QUEUED, 0),
            created_at=self.at,
            updated_at=self.at,
            lane=self.asked.lane,
            due_at=self.asked.send_at,
            reference=self.asked.reference,
            batch=self.batch,
        )


class _Claim(NamedTuple):
    """The first record of a batch that is asked for under a key."""

    fingerprint: str
    partition: int
    offset: int
    at: datetime


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
        self._claims: dict[str, _Claim] = {}  #: by batch id

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, key: bytes) -> bool:
        return key in self._entries

    def apply(self, message: Message) -> list[bytes]:
        """Take one record, in log order; returns the ids that were unknown until now.

        What is no request of ours is the worker's to judge.
        """
        value, partition, offset = message.value(), message.partition() or 0, message.offset() or 0
        if value is None:
            return []
        at = moment(message.timestamp()[1] / 1000)
        try:
            asked = _asked.decode(value)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return self._take_batch(value, partition, offset, at)
        key = self._take(asked, partition, offset, at, asked.batch, value)
        return [] if key is None else [key]

    def get(self, key: bytes) -> EmailStatus | None:
        """The status of a request that nobody has read: it waits."""
        if (entry := self._entries.get(key)) is None:
            return None
        asked = entry.asked
        return EmailStatus(
            writer="",
            id=key.decode(),
            tenant=asked.tenant,
            recipient=key[3:11].decode(),
            to_masked=masked(asked.to.email),
            status=Status.QUEUED,
            final=False,
            rank=rank_of(Status.QUEUED, 0),
            fingerprint=asked.fingerprint,
            reference=asked.reference,
            tags=asked.tags,
            lane=asked.lane,
            batch=entry.batch,
            request=Coordinates(entry.partition, entry.offset),
            order=entry.offset,
            created_at=entry.at,
            updated_at=entry.at,
            due_at=asked.send_at,
            expires_at=asked.expires_at,
            test=asked.test,
            timeline=(Fact(at=entry.at, status=Status.QUEUED),),
        )

    def brief(self, key: bytes) -> Brief | None:
        """The members by which emails are put in order."""
        entry = self._entries.get(key)
        return None if entry is None else entry.brief(key)

    def batch_of(self, key: bytes) -> Coordinates | None:
        """Where the strict batch stands by which alone the email is known: it has no record of its own yet.

        The same for a record in a wrong partition: its copy in the right one may still be to come.
        """
        entry = self._entries.get(key)
        return Coordinates(entry.partition, entry.offset) if entry is not None and not entry.is_own else None

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

    def pop(self, key: bytes) -> Brief | None:
        """Let go of an id that the status view has now."""
        if key not in self._entries:
            return None
        return self._entries.pop(key).brief(key)

    def pop_read(self, committed: Mapping[Partition, int], now: float) -> list[tuple[bytes, Brief]]:
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
            (key, entry.brief(key))
            for key, entry in self._entries.items()
            if entry.offset < committed.get((self._topic, entry.partition), 0)
        ]
        for key, _ in read:
            del self._entries[key]
        return read

    def _take_batch(self, value: bytes, partition: int, offset: int, at: datetime) -> list[bytes]:
        """A strict batch: until its owner has unfolded it, its items stand in no record of their own."""
        try:
            batch = _batch.decode(value)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return []
        mark = None
        if batch.fingerprint is not None:
            mark = InBatch(batch.id, batch.fingerprint)
            self._claims.setdefault(batch.id, _Claim(batch.fingerprint, partition, offset, at))
        for key in (batch.id.encode(), *((items_of(batch.id).encode(),) if batch.items else ())):
            if key in self._firsts and self._firsts[key] is None:
                self._firsts[key] = First(partition, offset, batch.fingerprint)
        keys = [self._take(item, partition, offset, at, mark, value, is_item=True) for item in batch.items]
        return [key for key in keys if key is not None]

    def _take(
        self,
        asked: _Asked,
        partition: int,
        offset: int,
        at: datetime,
        batch: InBatch | None,
        value: bytes,
        *,
        is_item: bool = False,
    ) -> bytes | None:
        if (key := _key_of(asked)) is None:
            return None
        if key in self._firsts and self._firsts[key] is None:
            self._firsts[key] = First(partition, offset, asked.fingerprint or _fingerprint(value))
        self._remember(key, Shown(asked.to.email, asked.subject))
        if self._is_known(key):
            return None
        is_own = not is_item and email_id.hash_in(key.decode()) % self._partitions == partition
        known = self._entries.get(key)
        if known is None:
            self._entries[key] = _Entry(asked, partition, offset, at, is_own, is_item, batch)
            return key
        if is_own and not known.is_own:  # partitions are read in any order: a batch may come behind its items' records
            self._entries[key] = _Entry(asked, partition, offset, known.at, is_own, is_item, batch)
        return None


def items_of(batch_id: str) -> str:
    """What a record of a strict batch is expected by, when one that claims its id may come before it."""
    return f"{batch_id}/items"


def _key_of(asked: _Asked) -> bytes | None:
    """The id that the worker will give the request; None where only it can tell."""
    try:
        recipient = canonical(asked.to.email)
        if asked.id is not None:
            return asked.id.encode() if email_id.hash_in(asked.id) == recipient_hash(recipient) else None
    except (BadAddress, BadEmailId):
        return None
    if asked.idempotency_key is None:
        return None
    return email_id.derived(asked.tenant, asked.source, asked.idempotency_key, recipient).encode()


def _fingerprint(value: bytes) -> str | None:
    try:
        request = decode_requested(value)
    except Undecodable:
        return None
    return fingerprint_of(request) if isinstance(request, EmailRequest) else None
