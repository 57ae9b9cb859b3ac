"""Who may claim, and who is told that it has won: claim log, projection and table together."""

import asyncio

import pytest

from mailstream.domain.attempt import ClaimRecord, Instead, ReleasedRecord
from mailstream.domain.errors import NotPublished, PartitionLost
from mailstream.domain.status import Status
from tests.support.builders import HOME, a_claim, a_hold, a_release, a_status, an_outcome
from tests.support.desk import ATTEMPTS, STATUS, Desk, turns


@pytest.fixture
async def desk() -> Desk:
    return Desk()


async def test_a_new_email_is_announced_only_when_its_first_status_is_durable(desk: Desk) -> None:
    settled = []
    desk.projection.create(a_status(Status.QUEUED), HOME, lambda: settled.append("acked"))
    await turns()
    assert desk.projection.is_pending(a_status().id)
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
    assert claim.order == status.order == 7  # which life of its id it is
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

    desk.log.lost({HOME})

    for waiting in (call, ending):
        with pytest.raises(PartitionLost):
            await waiting
    await turns()
    released = [record for record in desk.records() if isinstance(record, ReleasedRecord)]
    assert [record.nonce for record in released] == [desk.records()[0].nonce]


async def test_a_claim_that_was_given_up_is_released_when_its_partition_goes_before_it_was_read_back(
    desk: Desk,
) -> None:
    status = desk.knows(a_status(Status.QUEUED))
    call = asyncio.ensure_future(desk.log.claim(status, HOME))
    ending = asyncio.ensure_future(desk.log.claim(status, HOME, instead=Instead.CANCELLED))
    await turns()
    desk.refuse(ATTEMPTS)
    for waiting in (call, ending):
        with pytest.raises(NotPublished):
            await waiting

    desk.log.lost({HOME})
    await turns()

    released = [record for record in desk.records() if isinstance(record, ReleasedRecord)]
    assert [record.nonce for record in released] == [desk.records()[0].nonce]


async def test_a_late_word_about_an_attempt_in_doubt_does_not_hold_up_the_checkpoint(desk: Desk) -> None:
    """Found here: it took the place of the open claim, which then was never settled."""
    desk.knows(a_status(Status.QUEUED))
    desk.read_back(a_claim(1, "first"))
    desk.read_back(a_hold(1, "first"))
    desk.read_back(a_claim(2, "second", possible_duplicate=True))
    desk.read_back(a_release(1, "first"))
    desk.acknowledge(STATUS)
    await turns()
    assert desk.projection.checkpoint(HOME) == 2, "not past the claim of a call that may be under way"

    desk.read_back(an_outcome(attempt=2, nonce="second"))
    desk.acknowledge(STATUS)
    await turns()

    assert desk.projection.checkpoint(HOME) == 5
