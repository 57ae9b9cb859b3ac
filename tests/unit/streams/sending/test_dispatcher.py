"""Who is called when, and what keeps everybody from being called."""

import asyncio
from itertools import pairwise
from typing import Any

import pytest

from mailstream.domain.attempt import ClaimRecord, HeldRecord
from mailstream.domain.request import ControlKind, Lane, OnAmbiguous
from mailstream.domain.status import Status
from mailstream.domain.topics import ATTEMPTS, STATUS
from streams.core.circuit_breaker import ACCOUNT_PROBE_SECONDS, BREAKER_PROBE_SECONDS, UNKNOWN_IN_A_ROW
from streams.core.provider_answer import CutOff, RateHints, Responded
from streams.core.schedule import Schedule
from tests.support.builders import later
from tests.support.memory_log import Writes
from tests.support.memory_worker import MemoryWorker, a_worker, passed

pytestmark = pytest.mark.asyncio(loop_factories=["instant"])

OTHERS = [f"user{number}@example.com" for number in range(40)]


def ask_all(worker: MemoryWorker, count: int = len(OTHERS), **members: Any) -> list[str]:
    return [worker.ask(to, **members) for to in OTHERS[:count]]


# -- one after the other -------------------------------------------------------------------------------------------


async def test_an_email_that_is_asked_for_is_called_once_and_shown_as_sent(worker: MemoryWorker) -> None:
    email = worker.ask()
    await passed(60)

    assert worker.provider.called() == [email]
    assert worker.status(email) is Status.SENT


async def test_no_more_calls_are_under_way_than_allowed() -> None:
    async with a_worker(max_in_flight=5) as worker:
        worker.provider.seconds = 1.0
        emails = ask_all(worker)
        await passed(60)

        assert sorted(worker.provider.called()) == sorted(emails)
        assert worker.provider.most_at_once == 5


@pytest.mark.parametrize("gap", [2.0, 0.1, 0.01])
async def test_two_starts_are_at_least_a_gap_apart(gap: float) -> None:
    async with a_worker(send_gap=gap) as worker:
        emails = ask_all(worker)
        await passed(gap * len(emails) + 5)

        starts = [call.at for call in worker.provider.calls]
        assert len(starts) == len(emails)
        assert min(after - before for before, after in pairwise(starts)) >= gap
        assert starts[-1] - starts[0] < gap * (len(emails) - 1) * 1.1 + 0.1, "no turn is missed"


async def test_the_emails_of_one_recipient_go_in_the_order_of_their_requests(worker: MemoryWorker) -> None:
    worker.provider.seconds = 1.0
    emails = [worker.ask(unique=f"{9 - number}") for number in range(5)]
    await passed(60)

    assert worker.provider.called() == emails
    assert worker.provider.most_at_once == 1


async def test_a_brokers_clock_that_steps_back_changes_no_order(worker: MemoryWorker) -> None:
    worker.app.is_draining = True  # nothing is called until all of them wait
    emails = []
    for number in range(4):
        emails.append(worker.ask(unique=f"{number}"))
        worker.brokers_clock.step(-60)
    await passed()
    worker.app.is_draining = False
    await passed()

    assert worker.provider.called() == emails


async def test_the_next_email_of_a_recipient_waits_for_the_recipients_gap_and_holds_up_no_other() -> None:
    async with a_worker(recipient_gap=10.0) as worker:
        worker.ask(unique="1")
        worker.ask(unique="2")
        worker.ask(OTHERS[0])
        await passed(60)

        by_email = {call.email_id: call.at for call in worker.provider.calls}
        first, second = sorted(at for email, at in by_email.items() if email.endswith(("_1", "_2")))[::2]
        assert second - first >= 10
        assert len(by_email) == 3


async def test_a_critical_email_overtakes_what_waits_for_its_turn() -> None:
    async with a_worker(send_gap=2.0) as worker:
        ask_all(worker, 10, lane=Lane.BULK)
        await passed(5)
        before = len(worker.provider.calls)
        code = worker.ask("code@example.com", lane=Lane.CRITICAL)
        await passed(60)

        assert worker.provider.called().index(code) <= before + 1, (
            "at most the one that was claimed already is before it"
        )


# -- not now -------------------------------------------------------------------------------------------------------


async def test_nothing_is_called_before_its_send_at(worker: MemoryWorker) -> None:
    email = worker.ask(send_at=later(100))
    await passed(200)

    (call,) = worker.provider.calls
    assert call.email_id == email
    assert 0 <= call.wall - later(100).timestamp() < 0.1


async def test_what_expires_while_it_waits_for_its_next_attempt_ends_then(worker: MemoryWorker) -> None:
    worker.provider.next_answers.append(Responded(429, hints=RateHints(retry_after="100")))
    email = worker.ask(expires_at=later(50))
    await passed(49)
    assert worker.status(email) is Status.RETRYING

    await passed(2)
    assert worker.status(email) is Status.EXPIRED

    await passed(100)
    assert worker.provider.called() == [email]


async def test_what_expires_in_the_line_is_not_called() -> None:
    async with a_worker(send_gap=10.0) as worker:
        emails = ask_all(worker, 4, expires_at=later(25))
        await passed(100)

        called = worker.provider.called()
        assert 0 < len(called) < 4
        for email in emails:
            assert worker.status(email) is (Status.SENT if email in called else Status.EXPIRED)


async def test_what_is_barred_is_not_claimed_until_nothing_bars_it_any_more(worker: MemoryWorker) -> None:
    email = worker.ask(send_at=later(10))
    await passed()
    worker.bar(email)
    worker.bar(email)
    other = worker.ask("bob@example.com")
    await passed(60)
    assert worker.provider.called() == [other]

    worker.unbar(email)
    await passed(60)
    assert worker.provider.called() == [other], "something else still bars it"

    worker.unbar(email)
    await passed()
    assert worker.provider.called() == [other, email]


async def test_what_comes_while_it_is_barred_waits_too(worker: MemoryWorker) -> None:
    email = worker.ask(send_at=later(10))
    worker.bar(email)
    await passed(60)
    assert (worker.status(email), worker.attempts()) == (Status.QUEUED, [])

    worker.unbar(email)
    await passed()
    assert worker.provider.called() == [email]


async def test_an_ordered_resend_that_is_barred_goes_when_nothing_bars_it(worker: MemoryWorker) -> None:
    worker.provider.next_answers.append(CutOff("reset"))
    email = worker.ask()
    await passed()
    worker.bar(email)
    worker.control(email, ControlKind.RESOLVE, to="RESEND")
    await passed(10)
    assert len(worker.provider.calls) == 1

    worker.unbar(email)
    await passed()
    assert worker.provider.called() == [email, email]
    assert [record.possible_duplicate for record in worker.attempts() if isinstance(record, ClaimRecord)] == [
        False,
        True,
    ]


# -- nothing at all ------------------------------------------------------------------------------------------------


async def test_while_a_status_cannot_be_written_nothing_is_claimed(worker: MemoryWorker) -> None:
    email = worker.ask(send_at=later(10))
    await passed()
    worker.log.treat(STATUS.name, Writes.REFUSED)
    worker.ask("bob@example.com")
    await passed(60)
    assert worker.attempts() == []

    worker.log.treat(STATUS.name, Writes.TAKEN)
    await passed(5)
    assert email in worker.provider.called()


async def test_while_no_acknowledgement_comes_nothing_is_claimed(worker: MemoryWorker) -> None:
    worker.log.treat(ATTEMPTS.name, Writes.UNHEARD)
    first = worker.ask()
    await passed(6)
    ask_all(worker, 3)
    await passed(3)

    assert [record.id for record in worker.attempts()] == [first], "nothing after the one that is not acknowledged"
    assert worker.provider.calls == []


@pytest.mark.parametrize("what", ["group", "clock", "topics", "draining"])
async def test_nothing_is_claimed_while_something_is_wrong_and_all_goes_on_afterwards(
    worker: MemoryWorker, what: str
) -> None:
    def is_wrong(*, now: bool) -> None:
        match what:
            case "group":
                worker.app.silent_seconds = worker.settings.session_timeout / 3 + 1 if now else 0.0
            case "clock":
                worker.clock.step(3600 if now else -3600)
            case "topics":
                worker.kafka.difference = "email.attempts is compacted" if now else None
            case "draining":
                worker.app.is_draining = now

    is_wrong(now=True)
    await passed(10)
    email = worker.ask()
    await passed(30)
    assert worker.attempts() == []

    is_wrong(now=False)
    await passed(10)
    assert worker.provider.called() == [email]


async def test_a_claim_that_the_brokers_do_not_take_is_tried_again_and_calls_once(worker: MemoryWorker) -> None:
    worker.log.treat(ATTEMPTS.name, Writes.REFUSED)
    email = worker.ask()
    await passed(10)
    assert worker.provider.calls == []

    worker.log.treat(ATTEMPTS.name, Writes.TAKEN)
    await passed(10)

    assert worker.provider.called() == [email]
    assert worker.status(email) is Status.SENT


async def test_an_account_fault_stops_all_calls_until_a_probe_passes(worker: MemoryWorker) -> None:
    worker.provider.answer = Responded(401, reason="a wrong key")
    worker.provider.probe_answer = Responded(401)
    first = worker.ask()
    await passed()
    others = ask_all(worker, 3)
    await passed(ACCOUNT_PROBE_SECONDS * 2 + 5)
    assert worker.provider.called() == [first]
    assert worker.provider.probes == 2

    worker.provider.answer, worker.provider.probe_answer = Responded(202), Responded(200, is_sandbox=True)
    await passed(ACCOUNT_PROBE_SECONDS + 5)

    assert sorted(worker.provider.called()) == sorted([first, first, *others])
    assert worker.provider.probes == 3
    assert all(worker.status(email) is Status.SENT for email in (first, *others))


async def test_calls_in_doubt_in_a_row_expose_no_further_email() -> None:
    async with a_worker(max_in_flight=1) as worker:
        worker.provider.answer, worker.provider.probe_answer = CutOff("reset"), CutOff("reset")
        emails = ask_all(worker, UNKNOWN_IN_A_ROW + 10)
        await passed(BREAKER_PROBE_SECONDS * 3)
        assert len(worker.provider.calls) == UNKNOWN_IN_A_ROW

        worker.provider.answer, worker.provider.probe_answer = Responded(202), Responded(200, is_sandbox=True)
        await passed(BREAKER_PROBE_SECONDS * 2)

        assert sorted(set(worker.provider.called())) == sorted(emails)
        assert len(worker.provider.calls) == len(emails), "no email in doubt was called again"


async def test_a_bug_while_the_next_one_is_chosen_ends_the_process(
    worker: MemoryWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Schedule, "expired", lambda *_, **__: 1 / 0)
    worker.ask()
    await passed()

    (failure,) = worker.app.failures
    assert isinstance(failure, ZeroDivisionError)
    worker.app.failures.clear()


async def test_a_bug_while_one_is_called_for_ends_the_process(worker: MemoryWorker) -> None:
    worker.provider.prepare = lambda *_, **__: 1 / 0  # type: ignore[method-assign, assignment]
    worker.ask()
    await passed()

    (failure,) = worker.app.failures
    assert isinstance(failure, ZeroDivisionError)
    worker.app.failures.clear()


# -- going ---------------------------------------------------------------------------------------------------------


async def test_a_stop_waits_for_calls_under_way_and_a_revoke_does_not(worker: MemoryWorker) -> None:
    worker.provider.seconds = 5.0
    email = worker.ask()
    await passed()
    began = worker.clock.monotonic()
    await worker.rebalance()
    assert worker.clock.monotonic() - began < 1
    assert worker.status(email) is Status.PROCESSING

    await worker.rebalance(*range(4))
    await passed(10)
    assert worker.status(email) is Status.SENT, "the call went on, and its outcome is in the log"

    later_one = worker.ask("bob@example.com")
    await passed()
    await worker.stop()
    assert worker.status(later_one) is Status.SENT


async def test_a_stopped_worker_begins_nothing(worker: MemoryWorker) -> None:
    ask_all(worker, 3, send_at=later(5))
    await passed()
    await worker.stop()
    await asyncio.sleep(60)

    assert worker.attempts() == []
    assert worker.provider.calls == []


async def test_a_held_email_that_nobody_wants_twice_is_never_called_again(worker: MemoryWorker) -> None:
    worker.provider.next_answers.append(CutOff("reset"))
    email = worker.ask(on_ambiguous=OnAmbiguous.HOLD)
    await passed(worker.settings.hold_timeout + 10)

    assert worker.provider.called() == [email]
    assert worker.status(email) is Status.UNCONFIRMED
    assert not [record for record in worker.attempts() if isinstance(record, HeldRecord)], "the outcome said so already"
