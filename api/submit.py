"""From a request to a record in the log; returns when Kafka has acknowledged it, and not before."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable

from api.append import SECONDS, Append
from api.problems import Code, Problem
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

    def __init__(self, settings: Settings, append: Append, lookup: Lookup) -> None:
        self._topic = topics.Naming(settings.topic_prefix).of(topics.REQUESTED)
        self._partitions = settings.partitions
        self._append, self._lookup = append, lookup
        self._under_way: dict[str, asyncio.Future[str | None]] = {}

    def knows(self, request: EmailRequest) -> bool:
        """Whether the email was asked for before; False is no proof that it was not."""
        return self._lookup.has((request.id or "").encode())

    def require_room(self, requests: Iterable[EmailRequest]) -> None:
        """Raises Problem 413 when one of them is too large for a record."""
        for request in requests:
            _value_of(request)

    async def new(self, request: EmailRequest) -> Position:
        """Append a request. Raises Problem: 413 when it is too large, 503 when nobody acknowledges it in time."""
        assert request.id is not None
        value = _value_of(request)
        partition = partition_in(request.id, self._partitions)
        recipient = canonical(request.to.email).encode()
        return await self._append(
            self._topic, value, key=recipient, partition=partition, headers=codec.headers_of(request)
        )

    async def control(self, control: Control) -> Position:
        """Append a word about an email. Raises Problem 503."""
        partition = partition_in(control.id, self._partitions)
        return await self._append(
            self._topic,
            codec.encode(control),
            key=control.id.encode(),
            partition=partition,
            headers=codec.headers_of(control),
        )

    async def once(self, request: EmailRequest) -> bool:
        """Append a request whose id comes from an idempotency key. True: it was asked before, nothing new was written.

        Raises Problem: 422 when the first one asked for something else, 409 when it is still unanswered, and what
        ``new`` raises.
        """
        assert request.id is not None
        assert request.fingerprint is not None
        if (known := self._lookup.known(request.id.encode())) is not None:
            return _repeats(known.fingerprint, request.fingerprint)
        return await self._first_or_repeat(request.id, request.fingerprint, lambda: self.new(request))

    async def claim(self, batch: InBatch, tenant: str) -> None:
        """See to it that the batch id stands for this body and no other, before anything of it is written.

        Raises Problem: 422 when it stands for another one, 409 and 503 when that is not known.
        """
        if (known := self._lookup.fingerprint_of_batch(batch.id)) is not None:
            _repeats(known, batch.fingerprint)
            return
        claim = Batch(items=(), id=batch.id, tenant=tenant, fingerprint=batch.fingerprint)
        await self._first_or_repeat(batch.id, batch.fingerprint, lambda: self._append_batch(claim))

    async def batch(self, batch: Batch) -> bool:
        """Append a strict batch, which is one record. True: it was asked before under its key. Raises as ``once``."""
        if len(value := codec.encode(batch)) > MAX_REQUEST_BYTES:
            raise Problem(
                Code.TOO_LARGE,
                f"A strict batch is one record: this one has {len(value)} bytes, {MAX_REQUEST_BYTES} are allowed. "
                "Send it in parts, or as `permissive`.",
            )
        if batch.fingerprint is None:
            await self._append_batch(batch)
            return False
        if self._lookup.fingerprint_of_batch(batch.id) is None and any(map(self.knows, batch.items)):
            return self._repeats_items(batch)
        await self.claim(InBatch(batch.id, batch.fingerprint), batch.tenant)
        if any(map(self.knows, batch.items)):
            return True
        return await self._first_or_repeat(items_of(batch.id), batch.fingerprint, lambda: self._append_batch(batch))

    def _repeats_items(self, batch: Batch) -> bool:
        """Compare with emails of a version that did not remember of which batch they are."""
        for item in batch.items:
            known = self._lookup.known((item.id or "").encode())
            _repeats(known.fingerprint if known is not None else "", item.fingerprint or "")
        return True

    async def _append_batch(self, batch: Batch) -> Position:
        partition, headers = partition_in(batch.id, self._partitions), codec.headers_of(batch)
        value = codec.encode(batch)
        return await self._append(self._topic, value, key=batch.id.encode(), partition=partition, headers=headers)

    async def _first_or_repeat(self, id_: str, fingerprint: str, append: Callable[[], Awaitable[Position]]) -> bool:
        """Append what this replica does not know yet, and see whether it is the first record of its id in the log.

        The first one decides, whichever replica wrote it.
        """
        if (leader := self._under_way.get(id_)) is not None:
            return _repeats(await _answer_of(leader), fingerprint)
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
        return _repeats(first.fingerprint, fingerprint)

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


def _repeats(first: str | None, asked: str) -> bool:
    if first is not None and first != asked:
        raise Problem(
            Code.IDEMPOTENCY_KEY_REUSED,
            "The first request with this Idempotency-Key asked for something else. Nothing new was accepted.",
        )
    return True


async def _answer_of(leader: "asyncio.Future[str | None]") -> str | None:
    """The fingerprint of the first request with the key, once it has been answered."""
    await asyncio.wait({leader}, timeout=SECONDS)
    if not leader.done() or leader.cancelled():
        raise Problem(Code.STILL_UNANSWERED, "The first request with this Idempotency-Key is not answered yet.")
    return leader.result()
