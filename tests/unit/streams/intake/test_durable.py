"""An offset is acknowledged only when its consequence is durable: what memory knows never counts.

Each record is read twice, as after a rebalance in which its partition stays: the acks are forgotten, the table is not.
"""

import asyncio
import time
from dataclasses import replace

from mailstream.domain.record import Record
from mailstream.domain.request import Control, ControlKind, EmailRequest
from mailstream.domain.status import EmailStatus, Status
from mailstream.domain.topics import REJECTED
from streams.core.offset_tracker import OffsetTracker
from streams.intake.feedback import Feedback
from tests.support.builders import HOME, ID, a_control, a_record, a_request, a_status, an_event
from tests.support.desk import STATUS, Desk, accept_at, turns

OFFSET = 7


class Worker:
    """What a worker does with the records that it reads, and which offset it may commit."""

    def __init__(self) -> None:
        self.desk, self.acks = Desk(), OffsetTracker[int]()
        self.tasks: list[asyncio.Future[None]] = []
        self.accept = accept_at(self.desk, self.tasks)
        self.feedback = Feedback(self.desk.table, self.desk.projection)

    async def read(self, record: EmailRequest | Control | bytes, **members: object) -> None:
        received = replace(a_record(record, offset=OFFSET, **members), timestamp_ms=int(time.time() * 1000))  # type: ignore[arg-type]
        self.take(received)
        await turns()

    async def read_event(self, name: str) -> None:
        slot = self.acks.add(HOME, OFFSET)
        assert slot is not None
        self.feedback.handle(a_record(an_event(name), offset=OFFSET), lambda: self.acks.done(slot))
        await turns()

    def take(self, received: Record) -> None:
        slot = self.acks.add(HOME, received.offset)
        assert slot is not None
        self.accept.handle(received, lambda: self.acks.done(slot))

    def rebalance(self) -> None:
        """The partition stays: what was not committed is read again."""
        self.acks.forget()

    def known(self) -> EmailStatus:
        status = self.desk.table.get_status(ID)
        assert status is not None
        return status

    @property
    def may_commit(self) -> int | None:
        return self.acks.committable().get(HOME)


async def must_be_durable_first(worker: Worker) -> None:
    """The record is acknowledged when the broker has the status, and not before."""
    assert worker.may_commit is None
    worker.desk.acknowledge(STATUS)
    await turns()
    assert worker.may_commit == OFFSET + 1


async def test_a_request_that_is_known_but_not_durable_is_not_acknowledged() -> None:
    worker = Worker()
    await worker.read(a_request(id=ID))
    worker.desk.refuse(STATUS)
    worker.rebalance()

    await worker.read(a_request(id=ID))

    await asyncio.sleep(1.1)  # the write is repeated
    await must_be_durable_first(worker)


async def test_nor_is_its_copy_that_was_carried_forward() -> None:
    worker = Worker()
    worker.desk.projection.put(a_status(Status.CANCELLED, 1), HOME)

    await worker.read(a_request(id=ID), mailstream_carried=b"3")

    await must_be_durable_first(worker)


async def test_nor_is_a_rejected_record_whose_status_is_not_durable() -> None:
    worker = Worker()
    for _ in range(2):
        worker.rebalance()
        await worker.read(a_request(id=ID, subject="two\nlines"))
        worker.desk.acknowledge(REJECTED.name)
        await turns()
    assert worker.known().status is Status.REJECTED

    await must_be_durable_first(worker)


async def test_nor_is_evidence() -> None:
    worker = Worker()
    worker.desk.knows(a_status(Status.HELD, 1))
    await worker.read_event("delivered")
    worker.rebalance()

    await worker.read_event("delivered")

    await must_be_durable_first(worker)


async def test_nor_is_a_refused_control() -> None:
    worker = Worker()
    worker.desk.knows(a_status(Status.SENT, 1))
    await worker.read(a_control())
    worker.rebalance()

    await worker.read(a_control())

    await must_be_durable_first(worker)


async def test_nor_is_an_order_to_resend() -> None:
    worker = Worker()
    worker.desk.knows(a_status(Status.HELD, 1))
    order = a_control(ControlKind.RESOLVE, to="RESEND")
    await worker.read(order)
    worker.rebalance()

    await worker.read(order)

    await must_be_durable_first(worker)


async def test_what_waits_for_a_partition_that_goes_is_never_acknowledged() -> None:
    worker = Worker()
    await worker.read(a_request(id=ID))
    worker.rebalance()
    await worker.read(a_request(id=ID))

    worker.desk.table.lost({HOME})
    worker.desk.acknowledge(STATUS)
    await turns()

    assert worker.may_commit is None
