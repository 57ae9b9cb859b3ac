"""The whole sending side of a worker over a ``MemoryLog``: everything but Faust, the brokers and the provider.

The only place of the unit tests where the parts of a worker are put together, and they are put together as a worker does.
"""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any
from unittest.mock import patch

from confluent_kafka import Message, TopicPartition
from faust.types import TP
from msgspec import Struct

from mailstream.domain import codec
from mailstream.domain.attempt import AttemptRecord
from mailstream.domain.recipient import canonical, partition_of, recipient_hash
from mailstream.domain.record import Record
from mailstream.domain.request import Control, ControlKind, EmailRequest
from mailstream.domain.status import EmailStatus, Status
from mailstream.domain.topics import ATTEMPTS, EVENTS, GROUP_WORKER, REJECTED, REQUESTED, STATUS, Topic
from mailstream.kafka.record import record_of
from mailstream.kafka.tail import End
from mailstream.settings import Settings
from streams import wiring as wiring_module
from streams.core.offset_tracker import OffsetTracker
from streams.faust_guards.app import DRAIN_SECONDS
from streams.intake.accept import Done
from streams.rendering import Rendering
from streams.sending import gate as gate_module
from streams.wiring import Wiring
from tests.support.builders import ADA, HOME, PARTITIONS, a_control, a_request, an_id_for
from tests.support.instant_loop import InstantClock
from tests.support.memory_kafka import MemoryKafka
from tests.support.memory_log import MemoryLog
from tests.support.memory_provider import MemoryProvider
from tests.support.system import some_settings
from tests.support.tables import an_empty_table


class FaustStandIn:
    """What the parts see of the Faust app."""

    def __init__(self, settings: Settings) -> None:
        self.mailstream_settings = settings
        self.acks: OffsetTracker[TP] = OffsetTracker()
        self.is_draining, self.should_stop = True, False
        self.lost_logs: dict[TP, str] = {}
        self.on_load: list[Any] = []
        self.on_drain: list[Any] = []
        self.failures: list[BaseException] = []
        self.silent_seconds = 0.0  #: since the group coordinator last confirmed this member

    def fail(self, error: BaseException) -> None:
        """The process would end."""
        self.failures.append(error)
        self.is_draining = True

    def membership_age(self) -> float:
        """As the app's."""
        return self.silent_seconds

    def lag(self, tp: TP) -> int:
        """Nobody asks here."""
        return 0


class MemoryWorker:
    """A worker that owns what the test says, and reads what stands in the log."""

    def __init__(
        self, log: MemoryLog, settings: Settings, clock: InstantClock, rendering: Rendering | None = None
    ) -> None:
        self.log, self.clock, self.settings = log, clock, settings
        self.kafka, self.provider = MemoryKafka(settings, log), MemoryProvider(clock)
        self.rendering: Any = rendering or Rendering(settings)
        self.app = FaustStandIn(settings)
        table = an_empty_table(settings, failed=self.app.fail)
        with patch.object(wiring_module, "SendGrid", lambda *_, **__: self.provider):
            self._wiring = Wiring(
                self.app,  # type: ignore[arg-type]
                self.kafka,  # type: ignore[arg-type]
                clock=clock,
                table=table,
                rendering=self.rendering,
                rules=None,
                request_retention=float("inf"),
            )
        self.is_dead = False
        self.lag_seconds = 0.0  #: from an assignment until records of requests and events come
        self._generation = 0
        self._reading = self.kafka.tail(self._take, name="agents", failed=self.app.fail)
        self._read: set[TP] = set()

    # -- its life -----------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Begin what goes on by itself."""
        await self._wiring.start()

    def failures(self) -> list[BaseException]:
        """Why the process would end."""
        crash = self._wiring._crash_reason
        return [*self.app.failures, *([crash] if crash is not None else [])]

    async def rebalance(self, *partitions: int, without_break: bool = True) -> None:
        """Own these partitions from now on. What was not committed is read again."""
        await self._reading.leave(self._read)
        await self._drain()
        self._generation += 1 if without_break else 2
        self.app.is_draining = bool(self.app.failures)
        owned = {TP(self.kafka.name_of(topic), partition) for topic in (REQUESTED, EVENTS) for partition in partitions}
        for load in self.app.on_load:
            await load(owned, self._generation)
        self._read = owned
        starts = {tp: self.committed(tp) for tp in owned}
        places = [(*tp, self.log.first(*tp) if start is None else start) for tp, start in starts.items()]
        if not self.lag_seconds:
            await self._reading.follow(places)
        else:
            loop = asyncio.get_running_loop()
            loop.call_later(self.lag_seconds, lambda: loop.create_task(self._reading.follow(places)))

    async def _drain(self) -> None:
        self.app.is_draining = True
        with suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_SECONDS):
                for drain in self.app.on_drain:
                    await drain()
        self.commit()
        self.app.acks.forget()

    def commit(self) -> None:
        """Commit what is acked, as a worker does each second."""
        said = self.log.groups.setdefault(self._group, {})
        for tp, offset in self.app.acks.committable().items():
            said[tp.topic, tp.partition] = TopicPartition(tp.topic, tp.partition, offset)

    async def stop(self) -> None:
        """End as on SIGTERM."""
        self.app.should_stop = True
        await self._reading.leave(self._read)
        await self._drain()
        await self._wiring.stop()
        self.is_dead = True

    def kill(self) -> None:
        """End as on SIGKILL: from here on nothing of it is read, written, called or committed."""
        self.is_dead = True
        self.kafka.die()
        self.provider.die()
        self._wiring.dispatch.stop()
        for task in self._wiring._futures:
            task.cancel()

    def _take(self, batch: Sequence[Message | End]) -> None:
        for entry in batch:
            if isinstance(entry, End):
                continue
            record = record_of(entry)
            tp = TP(record.topic, record.partition)
            if tp in self._read and (slot := self.app.acks.add(tp, record.offset)) is not None:
                self._settle(record, partial(self.app.acks.done, slot))

    def _settle(self, record: Record, done: Done) -> None:
        is_request = record.topic == self.kafka.name_of(REQUESTED)
        (self._wiring.accept.handle if is_request else self._wiring.feedback.handle)(record, done)

    # -- what is inside -----------------------------------------------------------------------------------

    def bar(self, id_: str) -> None:
        """An unread or undecided record names the email."""
        self._wiring.queue.bar(id_)

    def unbar(self, id_: str) -> None:
        """It is settled."""
        self._wiring.queue.unbar(id_)

    def known(self, id_: str) -> EmailStatus | None:
        """What the worker knows of an email, be it in the log or not."""
        return self._wiring.table.get_status(id_)

    def is_waiting(self, id_: str) -> bool:
        """Whether the email is in the schedule."""
        return id_ in self._wiring.queue.schedule

    async def write_checkpoints(self) -> None:
        """As a worker does each minute."""
        await self._wiring.assignment.write_checkpoints()

    # -- what others write --------------------------------------------------------------------------------

    def ask(self, to: str = ADA, unique: str = "1", **members: Any) -> str:
        """Somebody asks for an email. Returns its id."""
        id_ = an_id_for(to, unique)
        self.append(REQUESTED, a_request(to, **{"id": id_} | members), key=to.encode(), partition=None)
        return id_

    def control(self, id_: str, kind: ControlKind = ControlKind.CANCEL, **members: Any) -> Message:
        """Somebody says a word about an email."""
        return self.append(REQUESTED, a_control(kind, id=id_, **members), key=id_.encode())

    def append(
        self,
        topic: Topic,
        record: Struct | bytes | None,
        *,
        key: bytes | None = None,
        partition: int | None = HOME,
        headers: Sequence[tuple[str, bytes]] = (),
    ) -> Message:
        """Another process appends a record."""
        if partition is None:
            assert isinstance(record, EmailRequest)
            partition = _home_of(record.to.email, self.settings.partitions)
        value = codec.encode(record) if isinstance(record, Struct) else record
        return self.log.append(self.kafka.name_of(topic), partition, value, key=key, headers=headers)

    # -- what can be seen ---------------------------------------------------------------------------------

    def shown(self, id_: str) -> EmailStatus | None:
        """What ``email.status`` says of an email."""
        records = [message for message in self.all(STATUS) if message.key() == id_.encode()]
        value = records[-1].value() if records else None
        return None if value is None else codec.decode_status(value)

    def status(self, id_: str) -> Status | None:
        """The same in one word."""
        shown = self.shown(id_)
        return None if shown is None else shown.status

    def attempts(self, id_: str | None = None) -> list[AttemptRecord]:
        """The records of ``email.attempts``, in the order of the log; those of one email, or all."""
        records = [codec.decode_attempt(message.value() or b"") for message in self.all(ATTEMPTS)]
        return [record for record in records if id_ in (None, record.id)]

    def requests(self) -> list[EmailRequest | Control | Any]:
        """The records of ``email.requested`` that say something."""
        return [codec.decode_requested(value) for message in self.all(REQUESTED) if (value := message.value())]

    def dead_letters(self) -> list[str]:
        """The reasons of all dead letters."""
        headers = [dict(message.headers() or []) for message in self.all(REJECTED)]
        return [str(header["mailstream-reason"], "utf-8") for header in headers]  # type: ignore[arg-type]

    def all(self, topic: Topic) -> list[Message]:
        """What stands in a topic, partition by partition."""
        name = self.kafka.name_of(topic)
        return [record for partition in range(self.log.partitions) for record in self.log.records(name, partition)]

    def acked(self, topic: Topic = REQUESTED, partition: int = HOME) -> int | None:
        """The offset below which all records of a partition may be committed."""
        return self.app.acks.head(TP(self.kafka.name_of(topic), partition))

    def committed(self, tp: TP) -> int | None:
        """What the group has committed."""
        said = self.log.groups.get(self._group, {}).get((tp.topic, tp.partition))
        return None if said is None else said.offset

    @property
    def brokers_clock(self) -> InstantClock:
        """The clock that stamps the log."""
        assert isinstance(self.log.clock, InstantClock)
        return self.log.clock

    @property
    def _group(self) -> str:
        return self.settings.topic_prefix + GROUP_WORKER


def _home_of(address: str, partitions: int) -> int:
    return partition_of(recipient_hash(canonical(address)), partitions)


@asynccontextmanager
async def a_worker(
    log: MemoryLog | None = None,
    clock: InstantClock | None = None,
    *,
    owns: Sequence[int] | None = None,
    rendering: Any = None,
    **settings: Any,
) -> AsyncIterator[MemoryWorker]:
    """A worker that owns all partitions, or those that the test names. It must not fail unless the test expects that."""
    clock = clock or InstantClock()
    log = log or MemoryLog(InstantClock(), partitions=PARTITIONS)  # the brokers have a clock of their own
    with tempfile.TemporaryDirectory() as folder, patch.object(gate_module, "time", clock):
        changes = {"topic_prefix": "", "send_gap": 0, "data_dir": folder, "worker_id": "worker"} | settings
        worker = MemoryWorker(log, some_settings("nobody:1", **changes), clock, rendering)
        await worker.start()
        await worker.rebalance(*(range(PARTITIONS) if owns is None else owns))
        yield worker
        if failures := worker.failures():
            worker.kill()
            raise AssertionError("the worker has failed") from failures[0]
        if not worker.is_dead:
            await worker.stop()


async def passed(seconds: float = 1.0) -> None:
    """Let that much time pass, and all happen that happens in it."""
    await asyncio.sleep(seconds)
