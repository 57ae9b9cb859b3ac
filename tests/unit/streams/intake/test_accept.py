"""What becomes of a record of ``email.requested``, and when its offset may be committed."""

import pytest

from mailstream.domain import codec
from mailstream.domain.dead_letter import Reason
from mailstream.domain.email_id import derived
from mailstream.domain.request import Address, Batch, ControlKind, Coordinates
from mailstream.domain.status import Status
from mailstream.domain.topics import REJECTED, REQUESTED, STATUS
from tests.support.builders import ADA, HOME, a_control, a_request, an_id_for, later
from tests.support.memory_log import Writes
from tests.support.memory_worker import MemoryWorker, a_worker, passed

pytestmark = pytest.mark.asyncio(loop_factories=["instant"])

BOB = "bob@example.com"  #: his emails are in another partition than Ada's
ELSEWHERE = 0
assert ELSEWHERE != HOME


# -- new emails ----------------------------------------------------------------------------------------------------


async def test_an_offset_is_acked_and_its_email_called_only_when_the_status_is_durable(worker: MemoryWorker) -> None:
    worker.log.treat(STATUS.name, Writes.WAITING)
    email = worker.ask()
    await passed(3)
    assert (worker.acked(), worker.attempts()) == (None, [])

    worker.log.treat(STATUS.name, Writes.TAKEN)
    await passed()

    assert worker.acked() == 1
    assert worker.provider.called() == [email]


async def test_a_later_record_that_is_finished_first_is_not_acked_past_an_unfinished_one(worker: MemoryWorker) -> None:
    worker.log.treat(STATUS.name, Writes.WAITING)
    worker.ask()
    worker.append(REQUESTED, None)
    await passed(3)

    assert worker.acked() is None

    worker.log.treat(STATUS.name, Writes.TAKEN)
    await passed()
    assert worker.acked() == 2


async def test_an_email_that_is_asked_for_twice_is_called_once(worker: MemoryWorker) -> None:
    email = worker.ask()
    worker.ask()
    await passed()
    worker.ask()
    await passed()

    assert worker.provider.called() == [email]
    assert worker.acked() == 3
    assert worker.dead_letters() == []


async def test_the_same_id_with_other_content_is_a_dead_letter_and_harms_nothing(worker: MemoryWorker) -> None:
    email = worker.ask(subject="Your order")
    worker.ask(subject="Something else")
    await passed()

    assert worker.dead_letters() == [Reason.ID_CONFLICT]
    assert worker.status(email) is Status.SENT
    assert [call.request.subject for call in worker.provider.calls] == ["Your order"]
    assert worker.acked() == 2


async def test_what_nobody_gave_an_id_is_called_once_however_often_it_is_read(worker: MemoryWorker) -> None:
    worker.append(REQUESTED, a_request())
    await passed()
    worker.app.acks.forget()
    await worker.rebalance(HOME)
    await passed()

    assert len(worker.provider.calls) == 1
    assert worker.provider.called()[0].startswith(an_id_for(ADA, "")[:12])


async def test_the_key_of_the_caller_makes_the_id(worker: MemoryWorker) -> None:
    for _ in range(2):
        worker.append(REQUESTED, a_request(idempotency_key="order-7", tenant="shop", source="till"))
    await passed()

    assert worker.provider.called() == [derived("shop", "till", "order-7", ADA)]


# -- what cannot be taken ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"no json", Reason.NOT_JSON),
        (b"[]", Reason.BAD_SHAPE),
        (b'{"kind":"dance","id":"x"}', Reason.UNKNOWN_KIND),
        (codec.encode(a_request("ada@")), Reason.BAD_ADDRESS),
        (codec.encode(a_request(id="no id")), Reason.BAD_ID),
        (codec.encode(a_request(from_=Address("boss@elsewhere.example"))), Reason.SENDER_NOT_ALLOWED),
        (codec.encode(a_control(id=an_id_for(ADA, "unheard-of"))), Reason.UNKNOWN_ID),
    ],
)
async def test_what_cannot_be_taken_is_a_dead_letter_with_its_reason_and_the_next_one_is_taken(
    worker: MemoryWorker, value: bytes, reason: Reason
) -> None:
    worker.append(REQUESTED, value)
    email = worker.ask()
    await passed()

    assert worker.dead_letters() == [reason]
    assert [letter.value() for letter in worker.all(REJECTED)] == [value]
    assert worker.provider.called() == [email]
    assert worker.acked() == 2


async def test_a_record_is_not_acked_before_its_dead_letter_is_durable(worker: MemoryWorker) -> None:
    worker.log.treat(REJECTED.name, Writes.REFUSED)
    worker.append(REQUESTED, b"no json")
    await passed(10)
    assert worker.acked() is None

    worker.log.treat(REJECTED.name, Writes.TAKEN)
    await passed(2)

    assert worker.acked() == 1
    assert worker.dead_letters() == [Reason.NOT_JSON]


async def test_whoever_asks_for_what_cannot_be_taken_is_shown_why(worker: MemoryWorker) -> None:
    email = worker.ask(subject="two\nlines")
    await passed()

    shown = worker.shown(email)
    assert shown is not None
    assert (shown.status, shown.final) == (Status.REJECTED, True)
    assert shown.timeline[-1].detail is not None
    assert shown.timeline[-1].detail.startswith(Reason.BAD_VALUE)
    assert worker.provider.calls == []


async def test_a_bad_repeat_does_not_change_what_is_shown_of_a_good_email(worker: MemoryWorker) -> None:
    email = worker.ask(send_at=later(600))
    await passed()
    worker.ask(subject="two\nlines")
    await passed()

    assert worker.status(email) is Status.QUEUED
    assert worker.dead_letters() == [Reason.ID_CONFLICT]


async def test_a_template_that_is_not_there_is_told_at_once_and_not_when_the_turn_comes(worker: MemoryWorker) -> None:
    email = worker.ask(text=None, subject=None, template="welcome", send_at=later(3600))
    await passed()

    assert worker.dead_letters() == [Reason.TEMPLATE_FAILED]
    assert worker.status(email) is Status.REJECTED


async def test_what_was_asked_for_too_long_ago_is_not_sent() -> None:
    async with a_worker(max_event_age=3600.0) as worker:
        late = worker.ask(unique="late", requested_at=later(-3700))
        in_time = worker.ask(unique="in-time", requested_at=later(-3500))
        await passed()

        assert worker.dead_letters() == [Reason.EVENT_TOO_OLD]
        assert worker.status(late) is Status.REJECTED
        assert worker.provider.called() == [in_time]


# -- the wrong partition -------------------------------------------------------------------------------------------


async def test_a_record_in_a_wrong_partition_is_moved_to_the_right_one_and_sent_once(worker: MemoryWorker) -> None:
    worker.log.treat(REQUESTED.name, Writes.WAITING)
    worker.append(REQUESTED, a_request(BOB, id=an_id_for(BOB)))
    await passed(3)
    assert worker.acked() is None, "not before its copy is durable"

    worker.log.treat(REQUESTED.name, Writes.TAKEN)
    await passed()

    assert worker.acked() == 1
    assert worker.provider.called() == [an_id_for(BOB)]
    (copy,) = [each for each in worker.log.records(REQUESTED.name, ELSEWHERE) if each.value()]
    assert dict(copy.headers() or [])[codec.REKEYED_HEADER] == f"{HOME}/0".encode()


async def test_what_was_moved_once_and_is_wrong_again_is_not_moved_for_ever(worker: MemoryWorker) -> None:
    record = a_request(BOB, id=an_id_for(BOB))
    worker.append(REQUESTED, record, headers=[(codec.REKEYED_HEADER, b"0/0")])
    await passed()

    assert worker.dead_letters() == [Reason.BAD_ID]
    assert worker.provider.calls == []


# -- strict batches ------------------------------------------------------------------------------------------------


async def test_a_strict_batch_is_acked_when_each_of_its_emails_has_a_record_of_its_own(worker: MemoryWorker) -> None:
    worker.log.treat(REQUESTED.name, Writes.WAITING)
    emails = [an_id_for(ADA, "item"), an_id_for(BOB, "item")]
    items = (a_request(ADA, id=emails[0]), a_request(BOB, id=emails[1]))
    worker.append(REQUESTED, Batch(items=items, id="b"))
    await passed(3)
    assert worker.acked() is None

    worker.log.treat(REQUESTED.name, Writes.TAKEN)
    await passed()

    assert worker.acked() == 2, "the batch, and Ada's own record behind it"
    assert sorted(worker.provider.called()) == sorted(emails)


async def test_a_strict_batch_is_taken_as_a_whole_or_not_at_all(worker: MemoryWorker) -> None:
    emails = [an_id_for(ADA, "good"), an_id_for(BOB, "bad")]
    items = (a_request(ADA, id=emails[0]), a_request(BOB, id=emails[1], subject="two\nlines"))
    worker.append(REQUESTED, Batch(items=items, id="b"))
    await passed()

    assert worker.provider.calls == []
    assert [worker.status(email) for email in emails] == [Status.REJECTED, Status.REJECTED]


async def test_a_batch_that_is_read_again_asks_for_nothing_new(worker: MemoryWorker) -> None:
    worker.append(REQUESTED, Batch(items=(a_request(ADA), a_request(ADA, text="another")), id="b"))
    await passed()
    worker.app.acks.forget()
    await worker.rebalance(HOME)
    await passed()

    assert len(worker.provider.calls) == len(set(worker.provider.called())) == 2


# -- controls ------------------------------------------------------------------------------------------------------


async def test_a_cancel_that_comes_in_time_ends_the_email_and_no_call_follows(worker: MemoryWorker) -> None:
    email = worker.ask(send_at=later(60))
    await passed()
    worker.control(email)
    await passed(300)

    assert worker.status(email) is Status.CANCELLED
    assert worker.provider.calls == []
    assert worker.acked() == 2


async def test_a_control_is_not_acked_before_it_is_decided_in_the_log(worker: MemoryWorker) -> None:
    email = worker.ask(send_at=later(60))
    await passed()
    worker.log.treat("email.attempts", Writes.REFUSED)
    worker.control(email)
    await passed(10)
    assert (worker.acked(), worker.status(email)) == (1, Status.QUEUED)

    worker.log.treat("email.attempts", Writes.TAKEN)
    await passed(2)

    assert (worker.acked(), worker.status(email)) == (2, Status.CANCELLED)


async def test_nobody_ends_the_email_of_another_tenant(worker: MemoryWorker) -> None:
    email = worker.ask(tenant="shop", send_at=later(60))
    worker.control(email, tenant="other")
    await passed(120)

    assert worker.dead_letters() == [Reason.ID_CONFLICT]
    assert worker.provider.called() == [email]


async def test_an_email_is_cancelled_that_only_a_batch_of_another_partition_asks_for() -> None:
    """The batch is unfolded by another worker, perhaps much later: the cancel must not wait for that, nor be dropped."""
    async with a_worker(owns=[HOME]) as worker:
        email = an_id_for(ADA, "item")
        batch = worker.append(REQUESTED, Batch(items=(a_request(id=email),), id="b"), partition=ELSEWHERE)
        place = Coordinates(ELSEWHERE, batch.offset() or 0)
        worker.control(email, batch=place)
        await passed()
        assert worker.status(email) is Status.CANCELLED

        await worker.rebalance(HOME, ELSEWHERE)  # now the batch is unfolded
        await passed()

        assert worker.status(email) is Status.CANCELLED
        assert worker.provider.calls == []
        assert worker.dead_letters() == []


async def test_such_a_cancel_is_decided_before_the_emails_own_record_is_read_in_its_turn(worker: MemoryWorker) -> None:
    email = an_id_for(ADA, "item")
    worker.log.treat(REQUESTED.name, Writes.WAITING)
    batch = worker.append(REQUESTED, Batch(items=(a_request(id=email),), id="b"), partition=ELSEWHERE)
    worker.control(email, batch=Coordinates(ELSEWHERE, batch.offset() or 0))
    await passed()
    worker.log.silent.add(REQUESTED.name)
    worker.log.treat(REQUESTED.name, Writes.TAKEN)
    await passed()
    assert worker.status(email) is Status.CANCELLED

    worker.log.hear(REQUESTED.name)
    await passed(10)
    assert worker.status(email) is Status.CANCELLED
    assert worker.provider.calls == []


async def test_a_control_behind_one_that_still_looks_for_its_email_waits_for_that_one(worker: MemoryWorker) -> None:
    email = an_id_for(ADA, "item")
    worker.log.treat(REQUESTED.name, Writes.WAITING)
    batch = worker.append(REQUESTED, Batch(items=(a_request(id=email),), id="b"), partition=ELSEWHERE)
    worker.control(email, batch=Coordinates(ELSEWHERE, batch.offset() or 0))
    worker.control(email)
    await passed()
    worker.log.treat(REQUESTED.name, Writes.TAKEN)
    await passed()

    assert worker.status(email) is Status.CANCELLED
    assert worker.dead_letters() == []


async def test_a_control_that_names_a_batch_without_this_email_is_a_dead_letter(worker: MemoryWorker) -> None:
    batch = worker.append(REQUESTED, Batch(items=(a_request(BOB),), id="b"), partition=ELSEWHERE)
    worker.control(an_id_for(ADA, "item"), batch=Coordinates(ELSEWHERE, batch.offset() or 0))
    await passed()

    assert worker.dead_letters() == [Reason.UNKNOWN_ID]


async def test_a_reschedule_moves_the_call(worker: MemoryWorker) -> None:
    email = worker.ask(send_at=later(60))
    worker.control(email, ControlKind.RESCHEDULE, send_at=later(600))
    await passed(590)
    assert worker.provider.calls == []

    await passed(20)
    assert worker.provider.called() == [email]


# -- copies --------------------------------------------------------------------------------------------------------


async def test_the_body_of_a_waiting_email_is_read_from_its_younger_copy(worker: MemoryWorker) -> None:
    email = worker.ask(send_at=later(600))
    await passed()
    copy = a_request(id=email, send_at=later(600))
    worker.append(REQUESTED, copy, headers=[(codec.CARRIED_HEADER, b"0/0")])
    await passed()
    worker.log.delete(REQUESTED.name, HOME, 1)  # as retention does
    shown = worker.shown(email)
    assert shown is not None
    assert (shown.request, shown.order) == (Coordinates(HOME, 1), 0)

    async with a_worker(worker.log, worker.clock) as heir:
        worker.kill()
        await passed(700)
        assert heir.provider.called() == [email]


async def test_the_copy_of_an_email_that_has_ended_changes_nothing(worker: MemoryWorker) -> None:
    email = worker.ask()
    await passed()
    before = worker.shown(email)
    worker.append(REQUESTED, a_request(id=email), headers=[(codec.CARRIED_HEADER, b"0/0")])
    await passed()

    assert worker.shown(email) == before
    assert worker.acked() == 2
