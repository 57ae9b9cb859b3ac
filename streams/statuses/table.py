"""The status table: what is known of every email of the partitions that this worker owns.

A partitioned Faust table with ``email.status`` as its changelog and a store of ours behind it.
Faust's own writes are queued out of sight and its recovery is slow, so writes go through the one
publisher and loading is done by ``assignment.py``.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Set
from dataclasses import dataclass, field
from typing import Any

import faust
import structlog
from faust.types import TP

from mailstream.domain import codec
from mailstream.domain.errors import NotPublished
from mailstream.domain.status import EmailStatus
from mailstream.kafka.producer import Publisher
from streams.statuses.store import StatusStore

log = structlog.get_logger(__name__)

REPEAT_SECONDS = 1.0  #: between two tries to write a status that the broker did not acknowledge


@dataclass(slots=True, eq=False)
class _Unwritten:
    """The newest status of an email that the broker has not acknowledged. It goes with its partition."""

    partition: int
    value: bytes
    then: list[Callable[[], None]] = field(default_factory=list)  #: called when it, or a newer one, is acknowledged
    is_refused: bool = False


class StatusTable(faust.Table):  # type: ignore[misc]
    """Email id to its newest status, in a ``StatusStore``. Only the owner of the partition writes, by ``put``."""

    data: StatusStore

    def on_key_set(self, key: Any, value: Any) -> None:
        """Refuse ``table[id] = status``: Faust queues such a write out of sight, and it may be lost."""
        raise TypeError("write a status with put(), which knows when the broker has it")

    def on_key_del(self, key: Any) -> None:
        """Refuse ``del table[id]`` likewise."""
        raise TypeError("forget a status with forget(), which puts nothing between its writes")

    def set_up(self, publisher: Publisher, topic: str, partitions: int) -> None:
        """Give it its writer; Faust makes tables before there is a loop."""
        self._publisher, self._topic, self.partition_count = publisher, topic, partitions
        self._owned: dict[int, int] = {}  #: partition → the first offset of ``email.status`` that is not in memory
        self._unwritten: dict[str, _Unwritten] = {}  #: by email id
        self._refused = 0  #: of these, how many the broker has refused

    # -- reading ------------------------------------------------------------------------------------------

    def get_status(self, email_id: str) -> EmailStatus | None:
        """What is known of an email, None when it was never asked for."""
        return self.data.get(email_id)

    def is_live(self, email_id: str) -> bool:
        """Whether something is still to be decided about a known email. For looking at many: it keeps none at hand."""
        value = self.data.value_of(email_id)
        return value is not None and not codec.decode_status(value).final

    def statuses(self, partitions: Iterable[int]) -> Iterator[EmailStatus]:
        """Every status of these partitions."""
        for email_id in self.data.ids(partitions):
            if (value := self.data.value_of(email_id)) is not None:  # it may go while the caller gives the loop away
                yield codec.decode_status(value)

    def needs_body(self, status: EmailStatus) -> bool:
        """Whether a mail may still be made of its request: its own, or a digest of which it has become a part."""
        if status.final and status.digested_into is not None:
            leader = self.get_status(status.digested_into)
            return leader is not None and not leader.final
        return not status.final

    def owned(self) -> Set[int]:
        """The partitions whose statuses are in memory, at any time."""
        return self._owned.keys()

    # -- writing ------------------------------------------------------------------------------------------

    def put(self, status: EmailStatus, partition: int, then: Callable[[], None] | None = None) -> None:
        """Show the status to this worker at once, and write it; ``then`` is called when the broker has it, or a newer one.

        A write that fails is repeated, with what is newest then, for as long as the partition is owned. When the
        partition goes, ``then`` is never called.
        """
        value = codec.encode(status)
        self.data.keep(status.id, value, status)
        self._write(status.id, value, partition, then)

    def when_durable(self, email_id: str, then: Callable[[], None]) -> None:
        """Call ``then`` when the broker has all that is known of the email: at once, unless a write is under way.

        The one answer to "may this record be acknowledged?" for a record that changes nothing any more: what memory
        knows may be lost with this process, and then the record must be read again.
        """
        if (unwritten := self._unwritten.get(email_id)) is None:
            then()
        else:
            unwritten.then.append(then)

    def remember(self, status: EmailStatus, value: bytes) -> None:
        """Show a status that is in the log already."""
        self.data.keep(status.id, value)

    def drop(self, key: bytes) -> None:
        """Forget what a tombstone in the log forgets."""
        self._forget(key.decode("utf-8", "replace"))

    def rewrite(self, email_id: str, partition: int) -> None:
        """Write the known status again, over a foreign one that lowers it."""
        if (value := self.data.value_of(email_id)) is not None:
            self._write(email_id, value, partition, None)

    def forget(self, email_id: str, partition: int) -> bool:
        """Write a tombstone: the email was final for STATUS_RETENTION. False: not now, as a write of it is under way.

        The ack of a record may wait for that write, and would never be told.
        """
        if email_id in self._unwritten:
            return False
        self._forget(email_id)
        # one that is not written now is written at the next purge
        self._publisher.post(self._topic, None, lambda _: None, key=email_id.encode(), partition=partition)
        return True

    def unwritten(self) -> int:
        """How many emails have a newest status that the broker has refused, and that is being repeated."""
        return self._refused

    def _write(self, email_id: str, value: bytes, partition: int, then: Callable[[], None] | None) -> None:
        unwritten = self._unwritten.get(email_id)
        if unwritten is None or unwritten.partition != partition:
            unwritten = self._unwritten[email_id] = _Unwritten(partition, value)
        unwritten.value = value
        if then is not None:
            unwritten.then.append(then)
        self._post(email_id, unwritten)

    def _post(self, email_id: str, unwritten: _Unwritten) -> None:
        value = unwritten.value

        def written(error: NotPublished | None) -> None:
            if self._unwritten.get(email_id) is not unwritten or unwritten.value is not value:
                return  # lost with its partition, or a newer one is under way, which says this one too
            if error is None:
                self._forget_unwritten(email_id)
                for then in unwritten.then:
                    then()
                return
            if not unwritten.is_refused:
                unwritten.is_refused = True
                self._refused += 1
            log.warning("status not acknowledged, it is written again", email=email_id, error=str(error))
            asyncio.get_running_loop().call_later(REPEAT_SECONDS, again)

        def again() -> None:
            # gone if its partition went, also when that came back: while it is loaded what is known may be lower
            if self._unwritten.get(email_id) is not unwritten or unwritten.value is not value:
                return
            if (newest := self.data.value_of(email_id)) is None:
                self._forget_unwritten(email_id)
                return
            unwritten.value = newest
            self._post(email_id, unwritten)

        key, headers = email_id.encode(), codec.headers_of(EmailStatus)
        self._publisher.post(self._topic, value, written, key=key, partition=unwritten.partition, headers=headers)

    def _forget_unwritten(self, email_id: str) -> None:
        if (unwritten := self._unwritten.pop(email_id, None)) is not None and unwritten.is_refused:
            self._refused -= 1

    def _forget(self, email_id: str) -> None:
        del self.data[email_id]
        self._forget_unwritten(email_id)

    # -- partitions ---------------------------------------------------------------------------------------

    def gained(self, partitions: Set[int]) -> None:
        """These partitions are being loaded."""
        for partition in partitions:
            self._owned.setdefault(partition, 0)

    def applied(self, partition: int, next_offset: int) -> None:
        """All records of the partition below this offset are in memory."""
        if partition in self._owned:
            self._owned[partition] = max(self._owned[partition], next_offset)

    def lost(self, partitions: Set[int]) -> None:
        """Drop what belongs to others now."""
        for partition in partitions:
            self._owned.pop(partition, None)
        for email_id in [id_ for id_, unwritten in self._unwritten.items() if unwritten.partition in partitions]:
            self._forget_unwritten(email_id)
        self.data.lose(partitions)

    def persisted_offset(self, tp: TP) -> int | None:
        """Tell Faust's recovery what is in memory, so that it reads only what follows."""
        return self._owned[tp[1]] - 1 if tp[1] in self._owned else None

    async def on_rebalance(
        self, assigned: set[TP], revoked: set[TP], newly_assigned: set[TP], generation_id: int = 0
    ) -> None:
        """Load what came, drop what went; agents start after it."""
        for load in self.app.on_load:
            await load(assigned, generation_id)
