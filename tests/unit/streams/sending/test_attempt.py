"""One email on its way from its turn to its outcome: what can still stop its call, and what an answer proves."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any

import pytest
from msgspec import structs

from mailstream.domain import codec
from mailstream.domain.attempt import ClaimRecord, Instead, Outcome, OutcomeRecord, ReleasedRecord
from mailstream.domain.recipient import canonical
from mailstream.domain.request import Address, Cap, ControlKind, OnAmbiguous
from mailstream.domain.status import Status
from mailstream.domain.suppression import Origin, Suppression, key_of
from mailstream.domain.topics import ATTEMPTS, EVENTS, REQUESTED, SUPPRESSIONS
from streams.core.provider_answer import CutOff, Garbled, NeverLeft, ProviderAnswer, RateHints, Responded, TimedOut
from tests.support.builders import ADA, HOME, NOW, a_claim, an_event, later
from tests.support.memory_log import Writes
from tests.support.memory_worker import MemoryWorker, a_worker, passed

pytestmark = pytest.mark.asyncio(loop_factories=["instant"])

BOB = "bob@example.com"
EVERYTHING = range(4)


def claims(worker: MemoryWorker, email: str) -> list[ClaimRecord]:
    return [record for record in worker.attempts(email) if isinstance(record, ClaimRecord)]


def releases(worker: MemoryWorker, email: str) -> list[ReleasedRecord]:
    return [record for record in worker.attempts(email) if isinstance(record, ReleasedRecord)]


def outcomes(worker: MemoryWorker, email: str) -> list[Outcome]:
    return [record.result for record in worker.attempts(email) if isinstance(record, OutcomeRecord)]


@asynccontextmanager
async def an_heir(worker: MemoryWorker, **settings: Any) -> AsyncIterator[MemoryWorker]:
    """The worker is killed, and another one takes over: it has nothing in memory."""
    worker.kill()
    async with a_worker(worker.log, worker.clock, **settings) as heir:
        yield heir


def suppress(worker: MemoryWorker, address: str) -> None:
    record = Suppression(tenant="default", recipient="0", address=address, origin=Origin.PERSON, since=NOW)
    worker.append(SUPPRESSIONS, record, key=key_of("default", canonical(address)))


# -- the claim -----------------------------------------------------------------------------------------------------


async def test_before_a_call_stands_its_claim_and_behind_it_its_outcome(worker: MemoryWorker) -> None:
    email = worker.ask()
    await passed()

    claim, outcome = worker.attempts(email)
    assert isinstance(claim, ClaimRecord)
    assert isinstance(outcome, OutcomeRecord)
    assert (claim.attempt, claim.instead, claim.possible_duplicate) == (1, None, False)
    assert (outcome.attempt, outcome.nonce, outcome.result, outcome.code) == (1, claim.nonce, Outcome.ACCEPTED, 202)
    shown = worker.shown(email)
    assert shown is not None
    assert shown.provider is not None
    assert shown.provider.message_id == "m"


async def test_a_claim_that_is_not_acknowledged_is_not_called(worker: MemoryWorker) -> None:
    worker.log.treat(ATTEMPTS.name, Writes.UNHEARD)
    email = worker.ask()
    await passed(5)
    assert worker.provider.calls == []

    worker.log.treat(ATTEMPTS.name, Writes.TAKEN)
    await passed()
    assert worker.provider.called() == [email]


async def test_a_claim_that_is_not_read_back_is_not_called(worker: MemoryWorker) -> None:
    worker.log.silent.add(ATTEMPTS.name)
    email = worker.ask()
    await passed(5)
    assert (len(worker.attempts(email)), worker.provider.calls) == (1, [])

    worker.log.hear(ATTEMPTS.name)
    await passed()
    assert worker.provider.called() == [email]


async def test_a_claim_that_is_lost_to_another_worker_is_not_called(worker: MemoryWorker) -> None:
    worker.log.treat(ATTEMPTS.name, Writes.WAITING)
    email = worker.ask()
    await passed()
    worker.append(ATTEMPTS, structs.replace(a_claim(1, "of-another"), id=email))
    worker.log.treat(ATTEMPTS.name, Writes.TAKEN)
    await passed(5)

    assert claims(worker, email)[0].nonce == "of-another"
    assert len(claims(worker, email)) == 2
    assert worker.provider.calls == []
    assert worker.status(email) is Status.PROCESSING


async def test_a_claim_whose_acknowledgement_is_lost_is_given_back_and_called_once_by_a_further_one(
    worker: MemoryWorker,
) -> None:
    worker.log.treat(ATTEMPTS.name, Writes.LOST)
    email = worker.ask()
    await passed(0.5)
    assert worker.provider.calls == []

    worker.log.treat(ATTEMPTS.name, Writes.TAKEN)
    await passed(5)

    first, second = claims(worker, email)
    assert {release.nonce for release in releases(worker, email)} == {first.nonce}
    assert (second.attempt, worker.provider.called()) == (2, [email])


# -- the last look -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("who", ["to", "cc", "bcc"])
async def test_what_was_suppressed_after_it_was_asked_for_is_not_called(worker: MemoryWorker, who: str) -> None:
    copies: dict[str, Any] = {} if who == "to" else {who: (Address(BOB),)}
    email = worker.ask(send_at=later(10), **copies)
    await passed()
    suppress(worker, ADA if who == "to" else BOB)
    await passed(20)

    assert worker.provider.calls == []
    assert worker.status(email) is Status.SUPPRESSED
    (claim,) = claims(worker, email)
    assert claim.instead is Instead.SUPPRESSED


async def test_an_address_that_was_taken_off_the_list_gets_its_mail(worker: MemoryWorker) -> None:
    suppress(worker, ADA)
    worker.append(SUPPRESSIONS, None, key=key_of("default", ADA))
    email = worker.ask()
    await passed()

    assert worker.provider.called() == [email]


async def test_beyond_the_cap_of_a_key_a_recipient_gets_nothing(worker: MemoryWorker) -> None:
    emails = [worker.ask(unique=f"{number}", cap=Cap("news", 2, 300)) for number in range(3)]
    free = worker.ask(unique="free", cap=Cap("codes", 1, 300))
    await passed()
    assert worker.provider.called() == [*emails[:2], free]
    assert worker.status(emails[2]) is Status.SUPPRESSED

    await passed(300)
    afterwards = worker.ask(unique="afterwards", cap=Cap("news", 2, 300))
    await passed()
    assert worker.provider.called()[-1] == afterwards


async def test_an_email_whose_body_the_log_does_not_hold_any_more_fails(worker: MemoryWorker) -> None:
    email = worker.ask(send_at=later(60))
    await passed()
    async with an_heir(worker) as heir:
        await passed()
        heir.log.delete(REQUESTED.name, HOME, 1)
        await passed(60)

        shown = heir.shown(email)
        assert shown is not None
        assert shown.status is Status.FAILED
        assert "body_gone" in (shown.timeline[-1].detail or "")
        assert heir.provider.calls == []


async def test_an_email_whose_body_cannot_be_read_is_not_claimed_and_sent_when_it_can(worker: MemoryWorker) -> None:
    email = worker.ask(send_at=later(60))
    await passed()
    async with an_heir(worker) as heir:
        heir.log.silent.add(REQUESTED.name)
        await passed(120)
        assert claims(heir, email) == []

        heir.log.hear(REQUESTED.name)
        await passed(20)
        assert heir.provider.called() == [email]


async def test_an_email_that_is_barred_while_its_body_is_read_is_not_claimed(worker: MemoryWorker) -> None:
    """A partition that is silent for long: the rebalance, or the cancel, comes while its body is waited for."""
    email = worker.ask(send_at=later(60))
    await passed()
    async with an_heir(worker) as heir:
        heir.log.silent.add(REQUESTED.name)
        await passed(62)
        heir.bar(email)
        heir.log.hear(REQUESTED.name)
        await passed(60)
        assert claims(heir, email) == []

        heir.unbar(email)
        await passed(20)
        assert heir.provider.called() == [email]


# -- between claim and call ----------------------------------------------------------------------------------------


async def test_a_cancel_takes_back_a_claim_that_has_not_passed_its_gate(worker: MemoryWorker) -> None:
    worker.provider.connect_seconds = 1.0
    email = worker.ask()
    await passed(0.5)
    assert worker.status(email) is Status.PROCESSING
    worker.control(email)
    await passed(60)

    assert worker.status(email) is Status.CANCELLED
    assert worker.provider.calls == []
    assert len(releases(worker, email)) == 1


async def test_a_cancel_behind_the_gate_is_refused_and_shown_as_that(worker: MemoryWorker) -> None:
    worker.provider.seconds = 1.0
    email = worker.ask()
    await passed(0.5)
    worker.control(email)
    await passed(10)

    shown = worker.shown(email)
    assert shown is not None
    assert shown.status is Status.SENT
    assert [fact.detail for fact in shown.timeline if fact.what == "cancel_refused"] == ["already_sending"]
    assert worker.provider.called() == [email]


async def test_a_revoke_gives_back_what_is_claimed_and_not_called(worker: MemoryWorker) -> None:
    worker.provider.connect_seconds = 1.0
    email = worker.ask()
    await passed(0.5)
    assert worker.status(email) is Status.PROCESSING

    await worker.rebalance()

    assert len(releases(worker, email)) == 1
    assert worker.provider.calls == []
    await worker.rebalance(*EVERYTHING)
    await passed(5)
    assert worker.provider.called() == [email], "it waits again, and nothing had to be HELD"


@pytest.mark.parametrize("gap", [0.0, 1.0])
@pytest.mark.parametrize("why", ["group", "topics"])
async def test_a_claim_is_given_back_where_nothing_may_be_called_any_more(why: str, gap: float) -> None:
    async with a_worker(send_gap=gap) as worker:
        worker.provider.connect_seconds = 6.0
        email = worker.ask()
        await passed(2)
        assert worker.status(email) is Status.PROCESSING
        if why == "group":
            worker.app.silent_seconds = 20.0
        else:
            worker.kafka.difference = "email.attempts is compacted"
        await passed(10)

        assert worker.provider.calls == []
        assert worker.status(email) is Status.QUEUED


async def test_a_cancel_takes_back_a_claim_that_waits_for_the_gap() -> None:
    async with a_worker(send_gap=1.0) as worker:
        worker.provider.connect_seconds = 2.0
        email = worker.ask()
        await passed(2)
        assert worker.status(email) is Status.PROCESSING
        worker.control(email)
        await passed(10)

        assert worker.status(email) is Status.CANCELLED
        assert worker.provider.calls == []


@pytest.mark.parametrize("has_evidence", [True, False])
async def test_a_marked_resend_is_not_called_when_evidence_of_the_first_call_comes_while_it_waits(
    worker: MemoryWorker, *, has_evidence: bool
) -> None:
    worker.provider.next_answers.append(CutOff("reset"))
    email = worker.ask()
    await passed()
    worker.provider.connect_seconds = 2.0
    worker.control(email, ControlKind.RESOLVE, to="RESEND")
    await passed(1)
    assert worker.status(email) is Status.PROCESSING
    if has_evidence:
        worker.append(EVENTS, an_event(id=email))
    await passed(10)

    if has_evidence:
        assert worker.provider.called() == [email]
        assert worker.status(email) is Status.DELIVERED
        assert [release.attempt for release in releases(worker, email)] == [2]
    else:
        assert worker.provider.called() == [email, email]
        assert worker.status(email) is Status.SENT


async def test_only_the_winner_of_a_claim_can_die_and_then_the_email_is_held(worker: MemoryWorker) -> None:
    worker.provider.connect_seconds = 1.0
    email = worker.ask()
    await passed(0.5)
    async with an_heir(worker) as heir:
        await passed(10)
        assert heir.status(email) is Status.PROCESSING, "a call of the dead worker may still be under way"

        await passed(20)
        assert heir.status(email) is Status.HELD
        assert heir.provider.calls == []


# -- what an answer proves -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (Responded(202), Status.SENT),
        (Responded(400, reason="no such field"), Status.FAILED),
        (Responded(413), Status.FAILED),
        (NeverLeft("refused"), Status.RETRYING),
        (Responded(429), Status.RETRYING),
        (Responded(401), Status.RETRYING),
        (Responded(403), Status.RETRYING),
        (Responded(500), Status.HELD),
        (Responded(503), Status.HELD),
        (Responded(200), Status.HELD),
        (CutOff("reset"), Status.HELD),
        (TimedOut("deadline"), Status.HELD),
        (Garbled("no HTTP"), Status.HELD),
    ],
)
async def test_an_answer_is_read_as_what_it_proves_and_nothing_more(
    worker: MemoryWorker, answer: ProviderAnswer, status: Status
) -> None:
    worker.provider.next_answers.append(answer)
    email = worker.ask()
    await passed(0.3)

    assert worker.status(email) is status
    assert worker.provider.called() == [email]


async def test_an_outcome_is_written_however_long_that_takes_and_nothing_is_called_twice(worker: MemoryWorker) -> None:
    worker.provider.seconds = 1.0
    email = worker.ask()
    await passed(0.5)
    worker.log.treat(ATTEMPTS.name, Writes.REFUSED)
    await passed(60)
    assert (worker.status(email), outcomes(worker, email)) == (Status.PROCESSING, [])

    worker.log.treat(ATTEMPTS.name, Writes.TAKEN)
    await passed(5)

    assert (worker.status(email), outcomes(worker, email)) == (Status.SENT, [Outcome.ACCEPTED])
    assert worker.provider.called() == [email]


async def test_an_outcome_that_is_written_twice_says_it_once(worker: MemoryWorker) -> None:
    worker.provider.seconds = 1.0
    worker.provider.next_answers.append(NeverLeft("refused"))
    email = worker.ask()
    await passed(0.5)
    worker.log.treat(ATTEMPTS.name, Writes.LOST)
    await passed(1)
    worker.log.treat(ATTEMPTS.name, Writes.TAKEN)
    await passed(5)

    assert outcomes(worker, email) == [Outcome.NOT_ACCEPTED, Outcome.NOT_ACCEPTED]
    shown = worker.shown(email)
    assert shown is not None
    assert (shown.status, shown.retries_used) == (Status.RETRYING, 1)


async def test_the_attempts_of_an_email_are_as_far_apart_as_the_settings_say_then_it_fails() -> None:
    async with a_worker(retry_delays=(10.0, 100.0)) as worker:
        worker.provider.answer = NeverLeft("refused")
        email = worker.ask()
        await passed(200)

        first, second, third = (call.at for call in worker.provider.calls)
        assert 5 <= second - first <= 15
        assert 50 <= third - second <= 150
        shown = worker.shown(email)
        assert shown is not None
        assert shown.status is Status.FAILED
        assert shown.provider is not None
        assert shown.provider.reason == "retries_exhausted: refused"


async def test_too_many_requests_pause_all_calls_and_the_mail_goes_again_for_nothing(worker: MemoryWorker) -> None:
    worker.provider.next_answers.append(Responded(429, hints=RateHints(retry_after="30")))
    email = worker.ask()
    await passed(1)
    other = worker.ask(BOB)
    await passed(28)
    assert worker.provider.called() == [email]

    await passed(10)
    assert sorted(worker.provider.called()) == sorted([email, email, other])
    first, *rest = [call.at for call in worker.provider.calls]
    assert min(rest) - first >= 30
    shown = worker.shown(email)
    assert shown is not None
    assert (shown.status, shown.retries_used) == (Status.SENT, 0)


async def test_several_429_without_a_hint_pause_longer_each_time(worker: MemoryWorker) -> None:
    worker.provider.next_answers.extend([Responded(429)] * 4)
    worker.ask()
    await passed(60)

    at = [call.at for call in worker.provider.calls]
    pauses = [after - before for before, after in pairwise(at)]
    assert all(least <= pause <= 1.1 * least + 0.1 for least, pause in zip((1, 2, 4, 8), pauses, strict=True))


async def test_a_refusal_of_the_mails_own_sender_is_not_the_accounts_fault() -> None:
    async with a_worker(senders_allowed=("other@example.com",)) as worker:
        worker.provider.next_answers.append(Responded(403))
        foreign = worker.ask(from_=Address("other@example.com"))
        await passed()
        own = worker.ask(BOB)
        await passed()

        assert worker.status(foreign) is Status.FAILED
        assert worker.status(own) is Status.SENT, "nothing pauses"
        assert worker.provider.probes == 1


async def test_it_is_the_accounts_fault_when_the_probe_says_so_too() -> None:
    async with a_worker(senders_allowed=("other@example.com",)) as worker:
        worker.provider.next_answers.append(Responded(403))
        worker.provider.probe_answer = Responded(403)
        foreign = worker.ask(from_=Address("other@example.com"))
        await passed()
        own = worker.ask(BOB)
        await passed(10)

        assert worker.status(foreign) is Status.RETRYING
        assert worker.status(own) is Status.QUEUED


# -- the unknown ---------------------------------------------------------------------------------------------------


async def test_a_doubt_ends_by_evidence(worker: MemoryWorker) -> None:
    worker.provider.next_answers.append(CutOff("reset"))
    email = worker.ask()
    await passed(60)
    assert worker.status(email) is Status.HELD
    worker.append(EVENTS, an_event("processed", id=email))
    await passed()

    assert worker.status(email) is Status.SENT
    await passed(worker.settings.hold_timeout)
    assert worker.status(email) is Status.SENT


async def test_without_evidence_a_doubt_ends_as_the_caller_chose(worker: MemoryWorker) -> None:
    worker.provider.next_answers.extend([CutOff("reset"), CutOff("reset")])
    hold = worker.ask(on_ambiguous=OnAmbiguous.HOLD)
    resend = worker.ask(BOB, on_ambiguous=OnAmbiguous.RESEND)
    await passed(worker.settings.hold_timeout + 10)

    assert worker.status(hold) is Status.UNCONFIRMED
    assert worker.status(resend) is Status.SENT
    assert [claim.possible_duplicate for claim in claims(worker, resend)] == [False, True]
    assert worker.provider.called().count(hold) == 1
    assert worker.provider.called().count(resend) == 2


async def test_a_doubtful_resend_is_never_sent_a_third_time() -> None:
    async with a_worker(hold_timeout=60.0) as worker:
        worker.provider.answer = CutOff("reset")
        email = worker.ask(on_ambiguous=OnAmbiguous.RESEND)
        await passed(200)

        assert worker.provider.called() == [email, email]
        assert worker.status(email) is Status.UNCONFIRMED


async def test_a_cancel_of_what_may_have_been_sent_is_refused(worker: MemoryWorker) -> None:
    worker.provider.next_answers.append(CutOff("reset"))
    email = worker.ask()
    await passed()
    worker.control(email)
    await passed()

    shown = worker.shown(email)
    assert shown is not None
    assert shown.status is Status.HELD
    assert [fact.detail for fact in shown.timeline if fact.what == "cancel_refused"] == ["in_doubt"]


async def test_a_resend_that_is_suppressed_meanwhile_does_not_say_that_nothing_was_sent(worker: MemoryWorker) -> None:
    worker.provider.next_answers.append(CutOff("reset"))
    email = worker.ask(on_ambiguous=OnAmbiguous.RESEND)
    await passed()
    suppress(worker, ADA)
    await passed(worker.settings.hold_timeout + 10)

    assert worker.provider.called() == [email]
    assert worker.status(email) is Status.UNCONFIRMED


async def test_a_status_is_shown_only_of_what_was_read_back(worker: MemoryWorker) -> None:
    worker.provider.seconds = 1.0
    email = worker.ask()
    await passed(0.5)
    worker.log.silent.add(ATTEMPTS.name)
    await passed(10)
    assert outcomes(worker, email) == [Outcome.ACCEPTED]
    assert worker.status(email) is Status.PROCESSING

    worker.log.hear(ATTEMPTS.name)
    await passed()
    assert worker.status(email) is Status.SENT


async def test_a_late_word_of_a_former_owner_is_obeyed(worker: MemoryWorker) -> None:
    """It was paused behind its gate, and the email was HELD and ended meanwhile."""
    worker.provider.seconds = 20_000.0
    email = worker.ask()
    await passed()
    async with a_worker(worker.log, worker.clock) as heir:
        await passed(30)
        assert heir.status(email) is Status.HELD
        (claim,) = claims(heir, email)
        accepted = codec.encode(
            OutcomeRecord(id=email, attempt=1, nonce=claim.nonce, worker="w", at=later(40), result=Outcome.ACCEPTED)
        )
        heir.append(ATTEMPTS, accepted)
        await passed()

        assert heir.status(email) is Status.SENT
        assert heir.provider.calls == []
        worker.kill()
