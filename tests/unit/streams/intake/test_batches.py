"""A control about an item of a strict batch is decided whether or not the batch is unfolded."""

import asyncio
import time
from dataclasses import replace
from unittest.mock import AsyncMock, Mock

from api.view.pending import UnreadRequests
from mailstream.clock import SystemClock
from mailstream.domain import codec, email_id
from mailstream.domain.request import Batch, Control, ControlKind, Coordinates, EmailRequest
from mailstream.domain.status import Status
from mailstream.domain.topics import ATTEMPTS, REJECTED, REQUESTED
from mailstream.kafka.kafka import Kafka
from mailstream.kafka.producer import Position
from mailstream.settings import Settings
from streams.core import intake
from streams.core.faults import Rules
from streams.core.unfold import Unfold
from streams.intake.batches import Batches
from tests.support.builders import ADA, HOME, ID, PARTITIONS, a_control, a_record, a_request, later
from tests.support.desk import STATUS, Desk, accept_at, turns
from tests.support.eventually import eventually

PLACE = Coordinates(2, 5)
RULES = Rules(PARTITIONS, 7 * 86_400.0, frozenset())


class Worker:
    """A worker that has not read the batch, which lies in another worker's partition."""

    def __init__(self, *, age_seconds: float = 0.0) -> None:
        self.desk = Desk()
        self.done: list[int] = []
        self.tasks: list[asyncio.Future[None]] = []
        self.accept = accept_at(self.desk, self.tasks)
        written_at = int((time.time() - age_seconds) * 1000)
        record = a_record(Batch(items=(a_request("bob@example.com"), a_request(id=ID))), partition=PLACE.partition)
        unfold = intake.read(replace(record, offset=PLACE.offset, timestamp_ms=written_at), RULES, time.time())
        assert isinstance(unfold, Unfold)
        self.accept._batches = Mock(find=AsyncMock(return_value=(unfold, unfold.items[1])))

    async def read(self, control: Control, offset: int) -> None:
        record = replace(a_record(control, offset=offset), timestamp_ms=int(time.time() * 1000))
        self.accept.handle(record, lambda: self.done.append(offset))
        await turns()

    async def own_record_is_at(self, offset: int) -> None:
        for topic, _, sent in self.desk.appended:
            if topic == REQUESTED.name and not sent.done():
                sent.set_result(Position(HOME, offset))
        await turns()

    async def acknowledge(self, topic: str) -> None:
        self.desk.acknowledge(topic)
        await turns()

    def status(self) -> Status | None:
        status = self.desk.table.get_status(ID)
        return None if status is None else status.status

    def topics(self) -> list[str]:
        return [topic for topic, _, _ in self.desk.appended]


async def test_the_item_gets_its_own_record_then_its_status_then_the_decision() -> None:
    worker = Worker()

    await worker.read(a_control(batch=PLACE), 7)
    assert worker.topics() == [REQUESTED.name]
    own = codec.decode_requested(worker.desk.appended[0][1])
    assert isinstance(own, EmailRequest)
    assert own.id == ID
    await worker.own_record_is_at(42)
    assert (worker.status(), worker.topics()[1:]) == (Status.QUEUED, [STATUS])
    await asyncio.sleep(0.05)
    assert worker.desk.records() == [], "nothing is claimed before the first status is durable"

    await worker.acknowledge(STATUS)
    await asyncio.sleep(0.05)

    [claim] = worker.desk.records()
    assert (claim.id, claim.instead, claim.control) == (ID, "CANCELLED", 7)
    status = worker.desk.table.get_status(ID)
    assert status is not None
    assert status.request == Coordinates(HOME, 42)
    assert worker.done == []


async def test_a_second_word_waits_for_the_first() -> None:
    worker = Worker()
    await worker.read(a_control(batch=PLACE), 7)
    await worker.read(a_control(ControlKind.RESCHEDULE, send_at=later(60), batch=PLACE), 8)

    assert worker.topics() == [REQUESTED.name]
    await worker.own_record_is_at(42)
    await worker.acknowledge(STATUS)
    await asyncio.sleep(0.05)

    assert [claim.control for claim in worker.desk.records()] == [7]


async def test_what_was_unfolded_meanwhile_is_known_and_not_taken_again() -> None:
    worker = Worker()
    await worker.read(a_control(batch=PLACE), 7)
    worker.accept.handle(replace(a_record(a_request(id=ID), offset=30), timestamp_ms=int(time.time() * 1000)), Mock())
    await worker.acknowledge(STATUS)

    await worker.own_record_is_at(42)
    await asyncio.sleep(0.05)

    status = worker.desk.table.get_status(ID)
    assert status is not None
    assert status.request == Coordinates(HOME, 30)
    assert [claim.control for claim in worker.desk.records()] == [7]


async def test_every_reader_gives_the_email_the_same_order_whichever_of_its_own_records_it_takes_first() -> None:
    """Two owners that do not know of each other each append one; the claims of both name the email's order."""
    orders = set()
    for own_record_in_turn, own_record_of_ours in ((None, 42), (None, 99), (42, 99), (30, 99)):
        worker = Worker()
        await worker.read(a_control(batch=PLACE), 7)
        if own_record_in_turn is not None:
            record = replace(a_record(a_request(id=ID)), offset=own_record_in_turn)
            worker.accept.handle(replace(record, timestamp_ms=int(time.time() * 1000)), Mock())
        await worker.own_record_is_at(own_record_of_ours)
        status = worker.desk.table.get_status(ID)
        assert status is not None
        orders.add(status.order)

    assert orders == {7}


async def test_an_item_of_a_batch_that_is_refused_is_rejected_and_the_word_is_too_late() -> None:
    worker = Worker(age_seconds=8 * 86_400)

    await worker.read(a_control(batch=PLACE), 7)
    await worker.own_record_is_at(42)
    assert worker.topics()[1:] == [REJECTED.name]
    await worker.acknowledge(REJECTED.name)
    await asyncio.sleep(0.05)
    await worker.acknowledge(STATUS)

    assert worker.status() is Status.REJECTED
    assert worker.desk.records() == []
    assert worker.done == [7]
    status = worker.desk.table.get_status(ID)
    assert status is not None
    assert (status.timeline[-1].what, status.timeline[-1].detail) == ("cancel_refused", "already_final")


async def test_a_batch_that_is_not_there_leaves_the_word_about_an_unknown_email() -> None:
    worker = Worker()
    worker.accept._batches = Mock(find=AsyncMock(return_value=None))

    await worker.read(a_control(batch=PLACE), 7)
    await worker.acknowledge(REJECTED.name)

    assert worker.topics() == [REJECTED.name]
    assert worker.done == [7]
    assert ATTEMPTS.name not in worker.topics()


async def test_a_request_in_a_wrong_partition_is_found_as_a_batch_is() -> None:
    """Its copy in the right partition may stand behind the control, or not at all yet."""
    worker, wrong = Worker(), (HOME + 1) % PARTITIONS
    asked = a_request(idempotency_key="k", source="shop")
    email_id_ = email_id.derived("default", "shop", "k", ADA)
    astray = Mock(
        topic=lambda: REQUESTED.name,
        partition=lambda: wrong,
        offset=lambda: 3,
        timestamp=lambda: (2, int(time.time() * 1000)),
        key=lambda: ADA.encode(),
        value=lambda: codec.encode(asked),
        headers=lambda: [],
    )
    unread = UnreadRequests(REQUESTED.name, PARTITIONS, lambda _: False, Mock())
    assert unread.apply(astray) == [email_id_.encode()]
    named = unread.batch_of(email_id_.encode())
    assert named == Coordinates(wrong, 3)
    worker.accept._batches = Batches(Kafka(Settings(partitions=PARTITIONS, _env_file=None)), RULES, SystemClock())
    worker.accept._batches._read = Mock(return_value=astray)  # type: ignore[method-assign]

    await worker.read(a_control(id=email_id_, batch=named), 7)
    await eventually(lambda: worker.topics() == [REQUESTED.name], waiting_for="its own record")
    await worker.own_record_is_at(42)
    await worker.acknowledge(STATUS)
    await eventually(lambda: [claim.control for claim in worker.desk.records()] == [7], waiting_for="the claim")

    status = worker.desk.table.get_status(email_id_)
    assert status is not None
    assert status.request == Coordinates(HOME, 42)
    assert worker.done == []
