"""From a request to a record in the log; returns when Kafka has acknowledged it, and not before."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable

from msgspec import Struct

from api.append import SECONDS, Append
from api.idempotency import repeats
from api.keys import Key
from api.problems import Code, Problem
from api.quota import Quota
from api.view.lookup import Lookup
from api.view.pending import items_of
from mailstream.domain import codec, topics
from mailstream.domain.email_id import partition_in
from mailstream.domain.recipient import canonical
from mailstream.domain.request import Batch, Control, EmailRequest, InBatch
from mailstream.domain.topics import MAX_REQUEST_BYTES
from mailstream.kafka.producer import Position
from mailstream.settings import Settings


class Submit:
    """Writes ``email.requested``, and decides between a first request and a repeat."""

    def __init__(self, settings: Settings, append: Append, lookup: Lookup, quota: Quota) -> None:
        self._topic = topics.Naming(settings.topic_prefix).of(topics.REQUESTED)
        self._partitions = settings.partitions
        self._append, self._lookup, self.quota = append, lookup, quota
        self._under_way: dict[str, asyncio.Future[str | None]] = {}

    def new_among(self, requests: Iterable[EmailRequest]) -> list[EmailRequest]:
        """Those that count for a quota: what is known to be a repeat was counted when it was new."""
        return [each for each in requests if each.idempotency_key is None or not self._knows(each)]

    def _knows(self, request: EmailRequest) -> bool:
        """Whether the email was asked for before; False does not prove that it was not."""
        return self._lookup.has((request.id or "").encode())

    def require_room(self, requests: Iterable[EmailRequest]) -> None:
        """Raises Problem 413 when one of them is too large for a record."""
        for request in requests:
            _value_of(request)

    async def control(self, control: Control) -> Position:
        """Append a word about an email. Raises Problem 503."""
        return await self._put(control, control.id)

    async def accepted(self, request: EmailRequest, caller: Key) -> bool:
        """Append a request within the quota of the key. Returns and raises as ``once``, and Problem 429."""
        counted = self.new_among((request,))
        with self.quota.taken(caller, counted) as others:
            if is_repeat := await self.once(request):
                others += counted
        return is_repeat

    async def once(self, request: EmailRequest) -> bool:
        """Append a request. True: one with its Idempotency-Key was asked before, and nothing new was written.

        Raises Problem: 413 when it is too large, 503 when it is not acknowledged in time, 422 when the first one with
        the key asked for something else, 409 when that one is still unanswered.
        """
        assert request.id is not None
        assert request.fingerprint is not None
        if request.idempotency_key is None:
            await self._new(request)
            return False
        if (known := self._lookup.known(request.id.encode())) is not None:
            return repeats(known.fingerprint, request.fingerprint)
        return await self._first_or_repeat(request.id, request.fingerprint, lambda: self._new(request))

    async def claim(self, batch: InBatch, tenant: str) -> None:
        """See to it that the batch id stands for this body and no other, before anything of it is written.

        Raises Problem: 422 when it stands for another one, 409 and 503 when that is not known.
        """
        if (known := self._lookup.fingerprint_of_batch(batch.id)) is not None:
            repeats(known, batch.fingerprint)
            return
        claim = Batch(items=(), id=batch.id, tenant=tenant, fingerprint=batch.fingerprint)
        await self._first_or_repeat(batch.id, batch.fingerprint, lambda: self._put(claim, batch.id))

    async def batch(self, batch: Batch) -> bool:
        """Append a strict batch, which is one record. True: it was asked before under its key. Raises as ``once``."""
        if len(value := codec.encode(batch)) > MAX_REQUEST_BYTES:
            raise Problem(
                Code.TOO_LARGE,
                f"A strict batch is one record: this one has {len(value)} bytes, {MAX_REQUEST_BYTES} are allowed. "
                "Send it in parts, or as `permissive`.",
            )
        if batch.fingerprint is None:
            await self._put(batch, batch.id)
            return False
        await self.claim(InBatch(batch.id, batch.fingerprint), batch.tenant)
        if any(map(self._knows, batch.items)):
            return True
        return await self._first_or_repeat(items_of(batch.id), batch.fingerprint, lambda: self._put(batch, batch.id))

    async def _new(self, request: EmailRequest) -> Position:
        return await self._put(request, request.id or "", key=canonical(request.to.email), value=_value_of(request))

    async def _put(self, record: Struct, id_: str, *, key: str | None = None, value: bytes | None = None) -> Position:
        """Append a record to the partition that the id names, by default with the id as its key."""
        return await self._append(
            self._topic,
            value or codec.encode(record),
            key=(key or id_).encode(),
            partition=partition_in(id_, self._partitions),
            headers=codec.headers_of(record),
        )

    async def _first_or_repeat(self, id_: str, fingerprint: str, append: Callable[[], Awaitable[Position]]) -> bool:
        """Append what this replica does not know yet, and see whether it is the first record of its id in the log.

        The first one decides, whichever replica wrote it.
        """
        if (leader := self._under_way.get(id_)) is not None:
            return repeats(await _answer_of(leader), fingerprint)
        key = id_.encode()
        leader = self._under_way[id_] = asyncio.get_running_loop().create_future()
        self._lookup.unread.expect(key)
        try:
            position = await append()
            await self._read_back(position)
        except BaseException:
            leader.cancel()  # the others do not know either
            self._lookup.unread.take_first(key)
            raise
        finally:
            del self._under_way[id_]
        first = self._lookup.unread.take_first(key)
        leader.set_result(first.fingerprint if first else fingerprint)
        if first is None or (first.partition, first.offset) == position:
            return False
        return repeats(first.fingerprint, fingerprint)

    async def _read_back(self, position: Position) -> None:
        try:
            async with asyncio.timeout(SECONDS):
                await self._lookup.progress.reach({(self._topic, position.partition): position.offset + 1})
        except TimeoutError:
            raise Problem(
                Code.NOT_CAUGHT_UP,
                "The email is in the log, but whether it is the first with this key is not known yet. Ask again.",
            ) from None


def _value_of(request: EmailRequest) -> bytes:
    """The record. Raises Problem 413."""
    if len(value := codec.encode(request)) > MAX_REQUEST_BYTES:
        raise Problem(
            Code.TOO_LARGE,
            f"The email has {len(value)} bytes as a record; {MAX_REQUEST_BYTES} are allowed, attachments included.",
        )
    return value


async def _answer_of(leader: "asyncio.Future[str | None]") -> str | None:
    """The fingerprint of the first request with the key, once it has been answered."""
    await asyncio.wait({leader}, timeout=SECONDS)
    if not leader.done() or leader.cancelled():
        raise Problem(Code.STILL_UNANSWERED, "The first request with this Idempotency-Key is not answered yet.")
    return leader.result()
