"""Statuses that are gone: no worker starts, a command makes them anew, and then nothing is sent again and nothing is lost."""

from dataclasses import replace
from unittest.mock import patch

import pytest

from mailstream.domain.attempt import ClaimRecord
from mailstream.domain.errors import NoKafka, NotPublished, StatusesLost, WorkersRun
from mailstream.domain.request import ControlKind
from mailstream.domain.status import EmailStatus, Status
from mailstream.domain.topics import ATTEMPTS, DAY_MS, EVENTS, GROUP_CHECKPOINTS, REQUESTED, STATUS
from mailstream.kafka.checkpoints import IN_REBUILD, Checkpoints, checkpoint_of
from streams.audit.rebuild import Rebuild
from streams.core.provider_answer import CutOff, Responded
from tests.support.builders import HOME, an_event, later
from tests.support.memory_kafka import MemoryKafka
from tests.support.memory_log import Writes
from tests.support.memory_worker import MemoryWorker, a_worker, passed

pytestmark = pytest.mark.asyncio(loop_factories=["instant"])

KEPT_SECONDS = int(dict(ATTEMPTS.config)["retention.ms"]) / 1000
DAY = DAY_MS / 1000


def without_writer(status: EmailStatus | None) -> tuple[object, ...]:
    assert status is not None
    return status.status, status.rank, status.attempt, status.nonce, status.order, status.request, status.tenant


async def gone(worker: MemoryWorker) -> None:
    """All workers stop; then the topic of statuses is deleted, and its records are made anew by the command."""
    await worker.stop()
    worker.log.make_anew(STATUS.name)
    await made_anew(worker)


async def made_anew(worker: MemoryWorker) -> None:
    """As ``mailstream audit rebuild --yes`` does."""
    kafka = MemoryKafka(worker.settings, worker.log)
    work = Rebuild(kafka, kafka.reader(), worker.clock)  # type: ignore[arg-type]
    lost = work.lost()
    assert lost, "else a worker would not have refused"
    async for _ in work.run(lost):
        pass
    assert not work.lost()


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


async def test_each_email_is_written_once_and_that_is_the_last_word(worker: MemoryWorker) -> None:
    email = worker.ask()
    await passed()
    worker.append(EVENTS, an_event(id=email))
    await passed()
    await gone(worker)

    async with a_worker(worker.log, worker.clock) as heir:
        assert len(heir.all(STATUS)) == 1
        assert heir.status(email) is Status.DELIVERED


@pytest.mark.parametrize(
    ("has_checkpoint", "why"), [(True, "ends at offset 0, but reached 4 before"), (False, "is empty, though")]
)
async def test_a_worker_refuses_lost_statuses_before_it_claims_anything(
    worker: MemoryWorker, why: str, *, has_checkpoint: bool
) -> None:
    worker.ask(unique="sent")
    worker.ask(unique="waiting", send_at=later(600))
    await passed()
    await worker.stop()
    worker.log.make_anew(STATUS.name)
    if not has_checkpoint:
        worker.log.groups.pop(GROUP_CHECKPOINTS)

    async with a_worker(worker.log, worker.clock, owns=[]) as heir:
        with pytest.raises(StatusesLost, match="`mailstream audit rebuild`") as told:
            await heir.rebalance(*range(4))
        assert f"email.status/{HOME} {why}" in str(told.value)
        await passed(700)
        assert heir.provider.calls == []
        before = dict(heir.log.groups.get(GROUP_CHECKPOINTS, {}))
        await heir.stop()
        assert heir.log.groups.get(GROUP_CHECKPOINTS, {}) == before, "no checkpoint says that all is well"
        assert heir.all(STATUS) == []


async def test_the_newest_statuses_were_lost_with_a_broker(worker: MemoryWorker) -> None:
    email = worker.ask()
    await passed()
    await worker.stop()
    said = worker.log.groups[GROUP_CHECKPOINTS]
    mark = checkpoint_of(said[ATTEMPTS.name, HOME])
    assert mark is not None
    offsets = Checkpoints(worker.kafka)  # type: ignore[arg-type]
    await offsets.write_surely({HOME: replace(mark, status_end=mark.status_end + 3)})

    async with a_worker(worker.log, worker.clock, owns=[]) as heir:
        with pytest.raises(StatusesLost, match=f"ends at offset {mark.status_end}, but reached {mark.status_end + 3}"):
            await heir.rebalance(*range(4))
        await made_anew(heir)
        await heir.stop()
    async with a_worker(worker.log, worker.clock) as heir:
        assert heir.status(email) is Status.SENT
        assert heir.provider.calls == []


async def test_while_a_worker_is_in_the_group_nothing_is_made_anew(worker: MemoryWorker) -> None:
    worker.ask()
    await passed()
    await worker.stop()
    worker.log.make_anew(STATUS.name)
    worker.log.members = 2

    with pytest.raises(WorkersRun, match="2 workers are in their group"):
        await made_anew(worker)
    assert worker.all(STATUS) == []


async def test_workers_refuse_until_a_rebuild_that_was_killed_is_done_again(worker: MemoryWorker) -> None:
    emails = [worker.ask(unique=f"{number}") for number in range(3)]
    await passed()
    await worker.stop()
    worker.log.make_anew(STATUS.name)

    worker.log.treat(STATUS.name, Writes.LOST)  # they are in the log, and the command does not hear of it
    with pytest.raises(NotPublished):
        await made_anew(worker)
    made = checkpoint_of(worker.log.groups[GROUP_CHECKPOINTS][ATTEMPTS.name, HOME])
    assert made is not None
    assert (made.offset, made.status_end) == (0, IN_REBUILD)
    worker.log.treat(STATUS.name, Writes.TAKEN)
    async with a_worker(worker.log, worker.clock, owns=[]) as heir:
        with pytest.raises(StatusesLost, match="was being rebuilt, and that was not finished"):
            await heir.rebalance(*range(4))
        await heir.stop()

    await made_anew(worker)
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
    await made_anew(worker)

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
    await made_anew(worker)

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
    await made_anew(worker)

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
    await made_anew(worker)

    async with a_worker(worker.log, worker.clock) as heir:
        await passed()
        assert heir.status(email) is Status.REJECTED
        assert heir.provider.calls == []


async def test_a_rebuild_that_is_not_told_the_retention_changes_nothing(worker: MemoryWorker) -> None:
    worker.ask()
    await passed()
    await worker.stop()
    worker.log.make_anew(STATUS.name)
    before = dict(worker.log.groups[GROUP_CHECKPOINTS])

    with (
        patch.object(MemoryKafka, "retention_seconds", side_effect=TimeoutError),
        pytest.raises(NoKafka, match="how long they keep"),
    ):
        await made_anew(worker)
    assert worker.log.groups[GROUP_CHECKPOINTS] == before
    assert worker.all(STATUS) == []


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
