"""Statuses that are gone are made anew from the logs that decide, and nothing is shown before all is known."""

import asyncio

import pytest

from mailstream.attempt import ClaimRecord
from mailstream.errors import NotCaughtUp
from mailstream.request import ControlKind
from mailstream.status import EmailStatus, Status
from mailstream.topics import ATTEMPTS, DAY_MS, EVENTS, GROUP_CHECKPOINTS, REQUESTED, STATUS
from streams.checkpoints import IN_REBUILD, checkpoint_of
from streams.core.outcome import CutOff, Responded
from tests.support.builders import HOME, an_event, later
from tests.support.memory_log import Writes
from tests.support.memory_worker import MemoryWorker, a_worker, passed

pytestmark = pytest.mark.asyncio(loop_factories=["instant"])

KEPT_SECONDS = int(dict(ATTEMPTS.config)["retention.ms"]) / 1000
DAY = DAY_MS / 1000


def without_writer(status: EmailStatus | None) -> tuple[object, ...]:
    assert status is not None
    return status.status, status.rank, status.attempt, status.nonce, status.order, status.request, status.tenant


async def gone(worker: MemoryWorker) -> None:
    """All workers stop; then the topic of statuses is deleted and made anew."""
    await worker.stop()
    worker.log.make_anew(STATUS.name)


async def test_statuses_are_shown_as_before_and_nothing_is_sent_again(worker: MemoryWorker) -> None:
    worker.provider.next_answers.extend([Responded(202), Responded(400), CutOff("reset")])
    emails = [worker.ask(unique=f"{number}") for number in range(3)]
    waiting = worker.ask(unique="waiting", send_at=later(600))
    cancelled = worker.ask(unique="cancelled", send_at=later(600))
    worker.control(cancelled)
    rejected = worker.ask(unique="rejected", subject="two\nlines")
    await passed(5)
    worker.append(EVENTS, an_event(id=emails[0]))
    await passed(5)
    everything = [*emails, waiting, cancelled, rejected]
    before = {email: without_writer(worker.shown(email)) for email in everything}
    assert [status for status, *_ in before.values()] == [
        Status.DELIVERED, Status.FAILED, Status.HELD, Status.QUEUED, Status.CANCELLED, Status.REJECTED,
    ]  # fmt: skip
    await gone(worker)

    async with a_worker(worker.log, worker.clock) as heir:
        assert {email: without_writer(heir.shown(email)) for email in everything} == before

        await passed(700)
        assert heir.provider.called() == [waiting]


async def test_nothing_is_written_before_all_is_known(worker: MemoryWorker) -> None:
    email = worker.ask()
    await passed()
    worker.append(EVENTS, an_event(id=email))
    await passed()
    await gone(worker)

    async with a_worker(worker.log, worker.clock) as heir:
        shown = [message.value() or b"" for message in heir.all(STATUS)]
        assert len(shown) == 1, "one write for each email, and that is the last word"
        assert heir.status(email) is Status.DELIVERED


async def test_killed_while_statuses_are_made_anew_the_next_owner_begins_again(worker: MemoryWorker) -> None:
    emails = [worker.ask(unique=f"{number}") for number in range(3)]
    await passed()
    await gone(worker)

    async with a_worker(worker.log, worker.clock, owns=[]) as first:
        first.log.treat(STATUS.name, Writes.REFUSED)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(30):
                await first.rebalance(*range(4))
        said = first.log.groups[GROUP_CHECKPOINTS][ATTEMPTS.name, HOME]
        made = checkpoint_of(said)
        assert made is not None
        assert (made.offset, made.status_end) == (0, IN_REBUILD)
        first.kill()
    worker.log.treat(STATUS.name, Writes.TAKEN)
    async with a_worker(worker.log, worker.clock) as heir:
        await passed(60)
        assert [heir.status(email) for email in emails] == [Status.SENT] * 3
        assert heir.provider.calls == []


async def test_statuses_that_go_before_a_checkpoint_has_seen_one_are_missed_all_the_same(worker: MemoryWorker) -> None:
    """Nor was the offset of the request committed: it is read again, and must be known."""
    email = worker.ask()
    await passed()
    worker.kill()
    worker.log.make_anew(STATUS.name)

    async with a_worker(worker.log, worker.clock) as heir:
        await passed()
        assert heir.provider.calls == []
        assert heir.acked() == 1
        assert heir.status(email) is Status.SENT


async def test_what_retention_may_have_deleted_the_attempts_of_is_not_made_anew(worker: MemoryWorker) -> None:
    forgotten = worker.ask(unique="forgotten")
    await passed()
    await worker.stop()
    worker.clock.step(KEPT_SECONDS + DAY)
    worker.brokers_clock.step(KEPT_SECONDS + DAY)
    worker.log.make_anew(STATUS.name)
    worker.log.delete(ATTEMPTS.name, HOME, worker.log.end(ATTEMPTS.name, HOME))

    async with a_worker(
        worker.log, worker.clock, max_event_age=KEPT_SECONDS * 2, status_retention=KEPT_SECONDS * 2
    ) as heir:
        await passed(60)
        assert heir.shown(forgotten) is None
        assert heir.provider.calls == []


async def test_what_another_hand_may_have_deleted_the_attempts_of_goes_again_and_is_marked(
    worker: MemoryWorker,
) -> None:
    email = worker.ask(send_at=later(600))
    await passed()
    other = worker.ask(unique="other")
    await passed()
    await worker.stop()
    worker.log.make_anew(STATUS.name)
    worker.log.groups.pop(GROUP_CHECKPOINTS)
    worker.log.delete(ATTEMPTS.name, HOME, 1)  # the claim of the other one; its outcome is kept

    async with a_worker(worker.log, worker.clock) as heir:
        await passed(700)
        marks = {record.id: record.possible_duplicate for record in heir.attempts() if isinstance(record, ClaimRecord)}
        assert marks[email] is True
        assert other in marks


async def test_what_was_refused_stays_refused_though_it_could_be_taken_now(worker: MemoryWorker) -> None:
    async with a_worker(worker.log, worker.clock, max_event_age=60.0) as strict:
        worker.kill()
        email = strict.ask(requested_at=later(-120))
        await passed()
        assert strict.status(email) is Status.REJECTED
        await strict.stop()
    worker.log.make_anew(STATUS.name)

    async with a_worker(worker.log, worker.clock) as heir:
        await passed()
        assert heir.status(email) is Status.REJECTED
        assert heir.provider.calls == []


async def test_a_rebuild_whose_retention_nobody_tells_calls_nobody(worker: MemoryWorker) -> None:
    worker.ask(send_at=later(600))
    await passed()
    await gone(worker)

    async with a_worker(worker.log, worker.clock, owns=[]) as heir:

        def unknown(_: object) -> float:
            raise TimeoutError

        heir.kafka.retention_seconds = unknown  # type: ignore[method-assign, assignment]
        with pytest.raises(NotCaughtUp, match="nothing was sent"):
            await heir.rebalance(*range(4))
        assert heir.provider.calls == []


async def test_a_partition_whose_statuses_are_there_is_not_made_anew(worker: MemoryWorker) -> None:
    email = worker.ask()
    await passed()
    await worker.stop()
    worker.log.delete(REQUESTED.name, HOME, 1)

    async with a_worker(worker.log, worker.clock) as heir:
        heir.control(email, ControlKind.CANCEL)
        await passed()
        assert heir.status(email) is Status.SENT
        assert heir.provider.calls == []
