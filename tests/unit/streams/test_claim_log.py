"""Who may claim, and who is told that it has won: claim log, projection and table together (K1, K2, K5)."""

import asyncio
from collections.abc import Callable
from typing import Any

import faust
import pytest

from mailstream import codec
from mailstream.attempt import ClaimRecord, Instead, ReleasedRecord
from mailstream.clock import SystemClock
from mailstream.errors import NotPublished, PartitionLost
from mailstream.status import EmailStatus, Status
from streams.claim_log import ClaimLog
from streams.projection import Projection
from streams.table import StatusTable
from tests.support.builders import HOME, PARTITIONS, a_claim, a_status

STATUS, ATTEMPTS = "email.status", "email.attempts"


class Desk:
    """A worker's side of the log. What it appends waits until the test says that the broker has it."""

    def __init__(self) -> None:
        self.appended: list[tuple[str, bytes, asyncio.Future[Any]]] = []
        self.is_closing = False
        self.announced: list[EmailStatus] = []
        self.table = StatusTable(
            faust.App("test", autodiscover=False),
            name="status",
            key_type=bytes,
            value_type=bytes,
            partitions=PARTITIONS,
        )
        self.table.set_up(self, STATUS, PARTITIONS)  # type: ignore[arg-type]
        self.table.gain(HOME)
        self.projection = Projection(self.table, "worker/1", lambda _, after, __: self.announced.append(after))
        self.projection.begin(HOME, 0)
        self.log = ClaimLog(
            self,  # type: ignore[arg-type]
            ATTEMPTS,
            self.projection,
            SystemClock(),
            worker="worker/1",
            boot="boot",
        )
        self._offset = 0

    def send(self, topic: str, value: bytes, **_: Any) -> "asyncio.Future[Any]":
        """As the publisher does."""
        sent: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.appended.append((topic, value, sent))
        return sent

    def post(self, topic: str, value: bytes, then: Callable[[Any], None], **_: Any) -> None:
        """As the publisher does."""
        self.send(topic, value).add_done_callback(lambda sent: then(sent.exception()))

    async def publish(self, topic: str, value: bytes, **_: Any) -> Any:
        """As the publisher does."""
        return await self.send(topic, value)

    def knows(self, status: EmailStatus) -> EmailStatus:
        """The email has this status already."""
        self.table.remember(status, codec.encode(status))
        return status

    def records(self) -> list[Any]:
        """What was appended to ``email.attempts``."""
        return [codec.decode_attempt(value) for topic, value, _ in self.appended if topic == ATTEMPTS]

    def acknowledge(self, topic: str) -> None:
        """The broker has all that was appended there."""
        for appended_to, _, sent in self.appended:
            if appended_to == topic and not sent.done():
                sent.set_result(None)

    def read_back(self, record: Any) -> None:
        """The log brings this record, ours or another worker's."""
        self.projection.attempt(HOME, self._offset, codec.encode(record))
        self._offset += 1


@pytest.fixture
async def desk() -> Desk:
    return Desk()


async def turns() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_a_new_email_is_announced_only_when_its_first_status_is_durable(desk: Desk) -> None:
    settled = []
    desk.projection.be_born(a_status(Status.QUEUED), HOME, lambda: settled.append("acked"))
    await turns()
    assert desk.projection.is_unborn(a_status().id)
    assert not desk.announced  # the schedule does not know it, so nobody can claim it
    assert not settled

    desk.acknowledge(STATUS)
    await turns()

    assert [status.status for status in desk.announced] == [Status.QUEUED]
    assert settled == ["acked"]


async def test_the_winner_is_told_when_its_claim_is_acknowledged_and_read_back(desk: Desk) -> None:
    status = desk.knows(a_status(Status.QUEUED))
    claiming = asyncio.ensure_future(desk.log.claim(status, HOME))
    await turns()
    [claim] = desk.records()
    desk.acknowledge(ATTEMPTS)
    await turns()
    assert not claiming.done()  # acknowledged is not won: another claim may stand before it

    desk.read_back(claim)

    won = await claiming
    assert won is not None
    assert (won.attempt, won.nonce) == (1, claim.nonce)
    assert desk.log.is_alive(claim.nonce)


async def test_whoever_claims_second_is_told_that_it_lost(desk: Desk) -> None:
    status = desk.knows(a_status(Status.QUEUED))
    claiming = asyncio.ensure_future(desk.log.claim(status, HOME))
    await turns()
    [claim] = desk.records()
    desk.acknowledge(ATTEMPTS)

    desk.read_back(a_claim(1, "of-another-worker"))
    desk.read_back(claim)

    assert await claiming is None
    assert not desk.log.is_alive(claim.nonce)
    known = desk.table.get_status(status.id)
    assert known is not None
    assert known.nonce == "of-another-worker"


async def test_a_claim_that_was_given_up_and_wins_all_the_same_is_released(desk: Desk) -> None:
    status = desk.knows(a_status(Status.QUEUED))
    claiming = asyncio.ensure_future(desk.log.claim(status, HOME))
    await turns()
    [claim] = desk.records()
    desk.appended[0][2].set_exception(NotPublished("no acknowledgement"))
    with pytest.raises(NotPublished):
        await claiming

    desk.read_back(claim)
    await turns()

    assert [type(record) for record in desk.records()] == [ClaimRecord, ReleasedRecord]
    assert desk.records()[1].nonce == claim.nonce


async def test_a_claim_whose_partition_goes_is_released_and_an_ending_stands(desk: Desk) -> None:
    status = desk.knows(a_status(Status.QUEUED))
    call = asyncio.ensure_future(desk.log.claim(status, HOME))
    ending = asyncio.ensure_future(desk.log.claim(status, HOME, instead=Instead.CANCELLED))
    await turns()
    desk.acknowledge(ATTEMPTS)
    await turns()

    desk.projection.lose({HOME})

    for waiting in (call, ending):
        with pytest.raises(PartitionLost):
            await waiting
    await turns()
    released = [record for record in desk.records() if isinstance(record, ReleasedRecord)]
    assert [record.nonce for record in released] == [desk.records()[0].nonce]
