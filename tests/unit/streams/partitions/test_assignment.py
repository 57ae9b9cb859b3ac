"""What a worker does when partitions come and go: it knows all before it claims, and forgets all that is another's."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from confluent_kafka import TopicPartition
from faust.types import TP
from msgspec import structs

from mailstream.domain.attempt import ClaimRecord, Outcome, ReleasedRecord
from mailstream.domain.errors import LogLost, NotCaughtUp
from mailstream.domain.request import Coordinates, OnAmbiguous
from mailstream.domain.status import EmailStatus, Status
from mailstream.domain.topics import ATTEMPTS, EVENTS, GROUP_CHECKPOINTS, REQUESTED, STATUS, Topic
from mailstream.kafka.checkpoints import checkpoint_of
from streams.core.provider_answer import CutOff
from streams.partitions.assignment import CHECKPOINT_SECONDS
from streams.partitions.log_follower import STUCK_SECONDS
from streams.sending.holds import CALL_SECONDS
from tests.support.builders import HOME, ID, a_claim, a_control, a_request, a_status, an_event, an_outcome, later
from tests.support.instant_loop import InstantClock
from tests.support.memory_log import Writes
from tests.support.memory_worker import MemoryWorker, a_worker, passed

pytestmark = pytest.mark.asyncio(loop_factories=["instant"])

EVERYTHING = range(4)


@asynccontextmanager
async def before_it_starts(**settings: Any) -> AsyncIterator[MemoryWorker]:
    """A worker that owns nothing yet: what the test writes stands in the log before it starts."""
    async with a_worker(owns=[], **settings) as worker:
        yield worker


def write(worker: MemoryWorker, status: EmailStatus) -> None:
    worker.append(STATUS, status, key=status.id.encode())


def has_asked(worker: MemoryWorker, **members: Any) -> EmailStatus:
    """Ada's email was accepted by a worker that is gone; its request is committed."""
    message = worker.append(REQUESTED, a_request(id=ID, **members))
    place = Coordinates(HOME, message.offset() or 0)
    status = structs.replace(a_status(request=a_request(id=ID, **members)), request=place, order=place.offset)
    said = worker.log.groups.setdefault("mailstream-worker", {})
    said[REQUESTED.name, HOME] = TopicPartition(REQUESTED.name, HOME, place.offset + 1)
    return status


def be_silent(worker: MemoryWorker, topic: Topic, *, seconds: float) -> None:
    """Nothing of the topic is fetched for so long, though all is told how far it goes."""
    worker.log.silent.add(topic.name)
    asyncio.get_running_loop().call_later(seconds, worker.log.hear, topic.name)


def checkpoint(worker: MemoryWorker) -> int | None:
    said = worker.log.groups.get(GROUP_CHECKPOINTS, {}).get((ATTEMPTS.name, HOME))
    made = None if said is None else checkpoint_of(said)
    return None if made is None else made.offset


def set_checkpoint(worker: MemoryWorker, offset: int, *, writer: str = "worker/1", status_end: int = 1) -> None:
    metadata = f'{{"writer":"{writer}","status_end":{status_end}}}'
    said = worker.log.groups.setdefault(GROUP_CHECKPOINTS, {})
    said[ATTEMPTS.name, HOME] = TopicPartition(ATTEMPTS.name, HOME, offset, metadata)


# -- what is known before anything is claimed ----------------------------------------------------------------------


async def test_an_email_that_waits_is_sent_by_the_next_owner() -> None:
    async with before_it_starts() as worker:
        write(worker, has_asked(worker))
        await worker.rebalance(*EVERYTHING)
        await passed()

        assert worker.provider.called() == [ID]


async def test_an_email_whose_end_stands_in_the_attempts_only_is_not_sent_again_and_its_status_is_written() -> None:
    """Its worker died between the outcome and the status: what is shown is lower than what the log proves."""
    async with before_it_starts() as worker:
        write(worker, has_asked(worker))
        worker.append(ATTEMPTS, a_claim(1))
        worker.append(ATTEMPTS, an_outcome())
        await worker.rebalance(*EVERYTHING)
        await passed()

        assert worker.provider.calls == []
        assert worker.status(ID) is Status.SENT


async def test_an_email_that_another_worker_has_claimed_is_not_called_and_held_when_no_call_can_last_that_long() -> (
    None
):
    async with before_it_starts() as worker:
        write(worker, has_asked(worker))
        worker.append(ATTEMPTS, structs.replace(a_claim(1), at=later(0)))
        await worker.rebalance(*EVERYTHING)
        await passed(CALL_SECONDS - 1)
        assert worker.status(ID) is Status.PROCESSING

        await passed(2)
        assert worker.status(ID) is Status.HELD
        assert worker.provider.calls == []


async def test_the_first_of_two_claims_counts_whoever_reads_them() -> None:
    async with before_it_starts() as worker:
        write(worker, has_asked(worker))
        for nonce in ("first", "second"):
            worker.append(ATTEMPTS, a_claim(1, nonce))
        worker.append(ATTEMPTS, an_outcome(Outcome.NOT_ACCEPTED, 1, "second"))  # it never won, so it proves nothing
        await worker.rebalance(*EVERYTHING)
        await passed()

        shown = worker.shown(ID)
        assert shown is not None
        assert (shown.status, shown.nonce) == (Status.PROCESSING, "first")
        assert worker.provider.calls == []


async def test_the_highest_status_counts_and_a_lower_one_behind_it_is_written_over() -> None:
    """A worker that was paused writes what it still believes, behind the end that the email has reached."""
    async with before_it_starts() as worker:
        status = has_asked(worker)
        write(worker, structs.replace(a_status(Status.SENT, 1), request=status.request, order=status.order))
        write(worker, status)
        await worker.rebalance(*EVERYTHING)
        await passed()

        assert worker.status(ID) is Status.SENT
        assert worker.provider.calls == []


async def test_a_lower_status_that_comes_later_is_written_over_too(worker: MemoryWorker) -> None:
    email = worker.ask()
    await passed()
    shown = worker.shown(email)
    assert shown is not None
    lower = structs.replace(shown, status=Status.QUEUED, final=False, rank=4, attempt=0, writer="paused/1")
    worker.append(STATUS, lower, key=email.encode())
    await passed()

    assert worker.status(email) is Status.SENT
    assert worker.provider.called() == [email]


async def test_a_higher_status_of_a_former_owner_is_adopted(worker: MemoryWorker) -> None:
    email = worker.ask(send_at=later(10))
    await passed()
    shown = worker.shown(email)
    assert shown is not None
    sent = structs.replace(a_status(Status.SENT, 1), id=email, writer="former/1", order=shown.order)
    worker.append(STATUS, sent, key=email.encode())
    await passed(60)

    assert worker.provider.calls == []


async def test_nothing_is_claimed_before_the_attempts_are_read_to_their_end() -> None:
    async with before_it_starts() as worker:
        write(worker, has_asked(worker))
        worker.append(ATTEMPTS, a_claim(1))
        worker.append(ATTEMPTS, an_outcome())
        began = worker.clock.monotonic()
        be_silent(worker, ATTEMPTS, seconds=30)
        await worker.rebalance(*EVERYTHING)
        assert worker.clock.monotonic() - began >= 30

        await passed()
        assert worker.provider.calls == []
        assert len(worker.attempts()) == 2, "not even a claim"


@pytest.mark.parametrize("topic", [STATUS, ATTEMPTS], ids=["status", "attempts"])
async def test_a_load_that_stands_still_fails_in_time_and_calls_nobody(topic: Topic) -> None:
    async with before_it_starts() as worker:
        write(worker, has_asked(worker))
        worker.append(ATTEMPTS, a_claim(1))
        be_silent(worker, topic, seconds=600)
        began = worker.clock.monotonic()
        with pytest.raises(NotCaughtUp, match="did not move"):
            await worker.rebalance(*EVERYTHING)

        assert worker.clock.monotonic() - began == pytest.approx(STUCK_SECONDS, abs=1)
        assert worker.provider.calls == []


# -- what stands unread --------------------------------------------------------------------------------------------


async def test_a_cancel_that_was_durable_before_the_worker_started_wins() -> None:
    async with before_it_starts() as worker:
        write(worker, has_asked(worker))
        worker.append(REQUESTED, a_control(id=ID))
        worker.lag_seconds = 10.0
        await worker.rebalance(*EVERYTHING)
        await passed(60)

        assert worker.status(ID) is Status.CANCELLED
        assert worker.provider.calls == []


async def test_evidence_that_stands_unread_ends_a_doubt_before_its_clock_does() -> None:
    async with before_it_starts(hold_timeout=1.0) as worker:
        status = has_asked(worker, on_ambiguous=OnAmbiguous.RESEND)
        held = structs.replace(
            a_status(Status.HELD, 1), held_at=later(-100), on_ambiguous=OnAmbiguous.RESEND, request=status.request
        )
        write(worker, held)
        worker.append(EVENTS, an_event(id=ID))
        worker.lag_seconds = 10.0
        await worker.rebalance(*EVERYTHING)
        await passed(30)

        assert worker.status(ID) is Status.DELIVERED
        assert worker.provider.calls == []


async def test_a_cancel_is_found_in_a_partition_that_stays_too() -> None:
    async with a_worker() as worker:
        email = worker.ask(send_at=later(5))
        await passed()
        worker.lag_seconds = 30.0
        await worker.rebalance(*EVERYTHING)
        worker.control(email)
        await worker.rebalance(*EVERYTHING)
        await passed(60)

        assert worker.status(email) is Status.CANCELLED


async def test_an_email_that_an_unread_record_names_goes_when_that_is_settled_and_says_nothing() -> None:
    async with before_it_starts() as worker:
        write(worker, has_asked(worker))
        worker.append(REQUESTED, a_control(id=ID, tenant="another"))
        worker.lag_seconds = 10.0
        await worker.rebalance(*EVERYTHING)
        await passed(9)
        assert worker.attempts() == []

        await passed(10)
        assert worker.provider.called() == [ID]


@pytest.mark.parametrize("topic", [ATTEMPTS, STATUS], ids=["attempts", "status"])
async def test_what_another_owner_did_in_a_partition_that_stays_is_known_before_anything_is_claimed(
    worker: MemoryWorker, topic: Topic
) -> None:
    email = worker.ask(send_at=later(5))
    await passed()
    be_silent(worker, topic, seconds=30)
    if topic is ATTEMPTS:
        worker.append(ATTEMPTS, structs.replace(a_claim(1, "of-another"), id=email))
    else:
        write(worker, structs.replace(a_status(Status.CANCELLED, 1), id=email, writer="another/1"))
    await worker.rebalance(*EVERYTHING)
    await passed(20)

    assert worker.provider.calls == []
    tried = [record for record in worker.attempts(email) if isinstance(record, ClaimRecord)]
    assert [record.nonce for record in tried] == ["of-another"] * (topic is ATTEMPTS), "it does not even try to claim"


# -- checkpoints ---------------------------------------------------------------------------------------------------


async def test_attempts_are_read_from_the_checkpoint_on() -> None:
    async with before_it_starts() as worker:
        write(worker, structs.replace(has_asked(worker)))
        worker.append(ATTEMPTS, a_claim(1, "unread"))  # folded, it would be PROCESSING
        set_checkpoint(worker, 1)
        await worker.rebalance(*EVERYTHING)
        await passed()

        assert worker.provider.called() == [ID]


async def test_foreign_statuses_behind_the_checkpoint_make_the_whole_log_count() -> None:
    """Compaction may have removed a higher status that stood before them."""
    async with before_it_starts() as worker:
        status = has_asked(worker)
        write(worker, status)
        worker.append(ATTEMPTS, a_claim(1))
        worker.append(ATTEMPTS, an_outcome())
        set_checkpoint(worker, 2, writer="worker/1", status_end=1)
        write(worker, structs.replace(status, writer="paused/1"))
        await worker.rebalance(*EVERYTHING)
        await passed()

        assert worker.provider.calls == []
        assert worker.status(ID) is Status.SENT


async def test_own_statuses_behind_the_checkpoint_hide_nothing() -> None:
    async with before_it_starts() as worker:
        status = has_asked(worker)
        write(worker, status)
        worker.append(ATTEMPTS, a_claim(1, "unread"))
        set_checkpoint(worker, 1, writer="worker/1", status_end=1)
        write(worker, structs.replace(status, writer="worker/1"))
        await worker.rebalance(*EVERYTHING)
        await passed()

        assert worker.provider.called() == [ID]


async def test_attempts_that_end_before_their_checkpoint_end_the_process_with_advice() -> None:
    async with before_it_starts() as worker:
        write(worker, has_asked(worker))
        set_checkpoint(worker, 5)
        with pytest.raises(LogLost, match="ends at offset 0, but was read up to 5") as told:
            await worker.rebalance(*EVERYTHING)

        assert told.value.records == 5
        assert GROUP_CHECKPOINTS in str(told.value), "what to delete to give them up"
        assert worker.provider.calls == []


async def test_attempts_that_were_deleted_before_they_were_read_end_the_process_with_advice() -> None:
    async with before_it_starts() as worker:
        write(worker, has_asked(worker))
        for nonce in ("a", "b", "c"):
            worker.append(ATTEMPTS, a_claim(1, nonce))
        worker.log.delete(ATTEMPTS.name, HOME, 3)
        set_checkpoint(worker, 1)
        with pytest.raises(LogLost, match="the records 1 to 2 were deleted") as told:
            await worker.rebalance(*EVERYTHING)

        assert told.value.records == 2
        assert worker.provider.calls == []


async def test_a_checkpoint_never_passes_what_a_status_does_not_say_yet(worker: MemoryWorker) -> None:
    worker.provider.seconds = 5.0
    worker.ask()
    await passed()
    await worker.write_checkpoints()
    assert checkpoint(worker) == 0, "its claim is open: only the log knows whose it is"

    worker.log.treat(STATUS.name, Writes.REFUSED)
    await passed(5)
    await worker.write_checkpoints()
    assert checkpoint(worker) == 0, "its end is in no durable status"

    worker.log.treat(STATUS.name, Writes.TAKEN)
    await passed(2)
    await worker.write_checkpoints()
    assert checkpoint(worker) == 2


async def test_checkpoints_are_written_now_and_then_and_at_the_end(worker: MemoryWorker) -> None:
    worker.ask()
    await passed(CHECKPOINT_SECONDS + 1)
    assert checkpoint(worker) == 2

    worker.ask(unique="2")
    await passed()
    await worker.stop()
    assert checkpoint(worker) == 4


# -- going ---------------------------------------------------------------------------------------------------------


async def test_what_is_lost_is_forgotten_and_nothing_of_it_is_called(worker: MemoryWorker) -> None:
    ours = worker.ask("cy@example.com", send_at=later(10))
    lost = worker.ask(send_at=later(10))
    await passed()
    await worker.rebalance(*(partition for partition in EVERYTHING if partition != HOME))
    assert worker.known(lost) is None
    assert (worker.is_waiting(lost), worker.is_waiting(ours)) == (False, True)
    await passed(60)

    assert worker.provider.called() == [ours]


async def test_a_revoke_waits_for_what_is_written_and_leaves_a_checkpoint_and_an_offset(worker: MemoryWorker) -> None:
    worker.provider.connect_seconds = 0.1
    worker.ask()
    await passed()
    worker.log.treat(STATUS.name, Writes.WAITING)
    worker.ask(unique="2", send_at=later(600))
    await passed()
    asyncio.get_running_loop().call_later(2, worker.log.treat, STATUS.name, Writes.TAKEN)
    await worker.rebalance()

    assert checkpoint(worker) == 2
    assert worker.committed(TP(REQUESTED.name, HOME)) == 2


async def test_a_partition_that_comes_back_is_loaded_again(worker: MemoryWorker) -> None:
    email = worker.ask(send_at=later(10))
    await passed()
    await worker.rebalance()
    lower = worker.shown(email)
    assert lower is not None
    worker.append(ATTEMPTS, structs.replace(a_claim(1, "n"), id=email))
    worker.append(ATTEMPTS, structs.replace(an_outcome(nonce="n"), id=email))
    await worker.rebalance(*EVERYTHING)
    await passed(60)

    assert worker.provider.calls == []
    assert worker.status(email) is Status.SENT


async def test_two_workers_share_the_partitions_and_each_email_is_called_once() -> None:
    clock = InstantClock()
    async with (
        a_worker(clock=clock, owns=[0, 1]) as one,
        a_worker(one.log, clock, owns=[2, 3]) as other,
    ):
        emails = [one.ask(f"user{number}@example.com") for number in range(20)]
        await passed()

        assert sorted(one.provider.called() + other.provider.called()) == sorted(emails)
        assert one.provider.calls
        assert other.provider.calls


async def test_a_worker_that_does_not_know_that_it_is_no_owner_any_more_does_no_harm() -> None:
    """Two own all partitions: the order of the log decides, whatever each believes."""
    clock = InstantClock()
    async with a_worker(clock=clock) as one, a_worker(one.log, clock) as other:
        emails = [one.ask(f"user{number}@example.com") for number in range(20)]
        await passed(10)

        assert sorted(one.provider.called() + other.provider.called()) == sorted(emails)
        assert all(one.status(email) is Status.SENT for email in emails)


async def test_a_claim_whose_partition_goes_before_it_is_read_back_is_given_back_in_the_log(
    worker: MemoryWorker,
) -> None:
    worker.log.silent.add(ATTEMPTS.name)
    email = worker.ask()
    await passed()
    assert len(worker.attempts(email)) == 1
    await worker.rebalance()
    await passed()

    claim, release = worker.attempts(email)
    assert isinstance(claim, ClaimRecord)
    assert isinstance(release, ReleasedRecord)
    assert release.nonce == claim.nonce
    assert worker.provider.calls == []


# -- dying ---------------------------------------------------------------------------------------------------------


async def test_killed_before_its_offset_is_committed_a_request_is_read_again_and_sent_once(
    worker: MemoryWorker,
) -> None:
    email = worker.ask()
    await passed()
    worker.kill()
    async with a_worker(worker.log, worker.clock) as heir:
        await passed(60)

        assert worker.provider.called() + heir.provider.called() == [email]
        assert heir.acked() == 1


async def test_killed_before_the_status_was_durable_nothing_is_lost(worker: MemoryWorker) -> None:
    worker.log.treat(STATUS.name, Writes.WAITING)
    email = worker.ask()
    await passed()
    worker.kill()
    worker.log.treat(STATUS.name, Writes.TAKEN)
    async with a_worker(worker.log, worker.clock) as heir:
        await passed()

        assert heir.provider.called() == [email]


async def test_killed_in_a_call_the_email_is_held_and_never_sent_by_a_guess(worker: MemoryWorker) -> None:
    worker.provider.seconds = 5.0
    email = worker.ask()
    await passed()
    worker.kill()
    async with a_worker(worker.log, worker.clock) as heir:
        await passed(CALL_SECONDS + 1)
        assert heir.status(email) is Status.HELD

        await passed(heir.settings.hold_timeout)
        assert heir.status(email) is Status.UNCONFIRMED
        assert heir.provider.calls == []


async def test_killed_while_in_doubt_the_clock_of_the_hold_goes_on(worker: MemoryWorker) -> None:
    worker.provider.next_answers.append(CutOff("reset"))
    email = worker.ask()
    await passed(600)
    worker.kill()
    async with a_worker(worker.log, worker.clock) as heir:
        await passed(250)
        assert heir.status(email) is Status.HELD
        await passed(60)
        assert heir.status(email) is Status.UNCONFIRMED
