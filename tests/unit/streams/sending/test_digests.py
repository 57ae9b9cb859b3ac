"""Several events of one recipient become one mail, whoever dies when, and however they are cancelled."""

import json
from collections.abc import Iterable
from typing import Any

import pytest
from msgspec import structs

from mailstream.domain import codec
from mailstream.domain.attempt import ClaimRecord, Instead, ReleasedRecord
from mailstream.domain.errors import NotPublished, TemplateError
from mailstream.domain.request import Digest, EmailRequest
from mailstream.domain.status import Status
from mailstream.domain.topics import ATTEMPTS, REQUESTED
from mailstream.settings import Settings
from streams import rendering
from streams.core.provider_answer import NeverLeft
from streams.sending.digests import MOST_EVENTS
from streams.statuses.claim_log import ClaimLog
from tests.support.builders import ADA, HOME, a_claim, an_id_for, later
from tests.support.memory_log import Writes
from tests.support.memory_worker import MemoryWorker, a_worker, passed

pytestmark = pytest.mark.asyncio(loop_factories=["instant"])

WINDOW = 60


class Rendering(rendering.Rendering):
    """The mail of a digest says which events it tells. It takes no more of them than the test allows."""

    most = 1000

    def __init__(self) -> None:
        super().__init__(Settings(_env_file=None))

    async def digest(self, request: EmailRequest, events: Iterable[dict[str, Any]]) -> EmailRequest:
        """As the real one, without templates."""
        told = [event["number"] for event in events]
        if len(told) > self.most:
            raise TemplateError("too large")
        return structs.replace(request, subject="digest", text=json.dumps(told))


@pytest.fixture
async def worker() -> Any:
    async with a_worker(rendering=Rendering()) as made:
        yield made


def happens(worker: MemoryWorker, number: int, *, key: str = "news", to: str = "ada@example.com", **more: Any) -> str:
    digest = Digest(key, WINDOW, "digest")
    return worker.ask(to, unique=f"{number}", text="one", data={"number": number}, digest=digest, **more)


def mails(worker: MemoryWorker) -> list[list[int]]:
    """The events that each mail tells; one that tells a single event is its own mail."""
    return [
        json.loads(request.text or "") if request.subject == "digest" else [request.data["number"]]
        for request in (call.request for call in worker.provider.calls)
    ]


def claims(worker: MemoryWorker, email: str) -> list[ClaimRecord]:
    return [record for record in worker.attempts(email) if isinstance(record, ClaimRecord)]


# -- which events ---------------------------------------------------------------------------------------------------


async def test_the_events_of_a_window_become_one_mail_when_it_closes(worker: MemoryWorker) -> None:
    first = happens(worker, 1)
    await passed(WINDOW / 2)
    others = [happens(worker, number) for number in (2, 3)]
    await passed(WINDOW / 2 - 2)
    assert worker.provider.calls == []

    await passed(5)

    assert mails(worker) == [[1, 2, 3]]
    assert worker.provider.called() == [first]
    assert worker.status(first) is Status.SENT
    for email in others:
        shown = worker.shown(email)
        assert shown is not None
        assert (shown.status, shown.digested_into) == (Status.SUPPRESSED, first)
        (claim,) = claims(worker, email)
        assert (claim.instead, claim.into) == (Instead.SUPPRESSED, first)


async def test_an_event_that_stays_alone_is_sent_as_it_is(worker: MemoryWorker) -> None:
    happens(worker, 1)
    await passed(WINDOW + 5)

    (call,) = worker.provider.calls
    assert (call.request.subject, call.request.text) == ("Hello", "one")


async def test_what_comes_after_the_window_makes_the_next_mail(worker: MemoryWorker) -> None:
    happens(worker, 1)
    await passed(WINDOW + 5)
    happens(worker, 2)
    happens(worker, 3)
    await passed(WINDOW + 5)

    assert mails(worker) == [[1], [2, 3]]


async def test_events_of_another_key_or_recipient_make_a_mail_of_their_own(worker: MemoryWorker) -> None:
    happens(worker, 1)
    happens(worker, 2)
    happens(worker, 3, key="bills")
    happens(worker, 4, to="bob@example.com")
    await passed(WINDOW + 5)

    assert sorted(mails(worker)) == [[1, 2], [3], [4]]


async def test_a_cancelled_event_is_left_out_and_the_others_are_told(worker: MemoryWorker) -> None:
    emails = [happens(worker, number) for number in (1, 2, 3)]
    await passed()
    worker.control(emails[0])
    await passed(WINDOW + 5)

    assert mails(worker) == [[2, 3]]
    assert worker.status(emails[0]) is Status.CANCELLED


async def test_an_expired_event_is_left_out(worker: MemoryWorker) -> None:
    happens(worker, 1)
    await passed()
    expired = happens(worker, 2, expires_at=later(30))
    happens(worker, 3)
    await passed(WINDOW + 5)

    assert mails(worker) == [[1, 3]]
    assert worker.status(expired) is Status.EXPIRED


async def test_an_event_that_a_record_bars_is_left_out_and_makes_the_next_mail(worker: MemoryWorker) -> None:
    happens(worker, 1)
    barred = happens(worker, 2)
    happens(worker, 3)
    await passed()
    worker.bar(barred)
    await passed(WINDOW + 5)
    assert mails(worker) == [[1, 3]]

    worker.unbar(barred)
    await passed()
    assert mails(worker) == [[1, 3], [2]]


async def test_so_is_one_that_is_barred_before_it_is_asked_for(worker: MemoryWorker) -> None:
    coming = an_id_for(ADA, "2")
    worker.bar(coming)
    happens(worker, 1)
    happens(worker, 2)
    happens(worker, 3)
    await passed(WINDOW + 5)
    assert mails(worker) == [[1, 3]]

    worker.unbar(coming)
    await passed()
    assert mails(worker) == [[1, 3], [2]]


async def test_one_mail_tells_no_more_events_than_a_bound_and_the_rest_is_told_by_the_next(
    worker: MemoryWorker,
) -> None:
    for number in range(MOST_EVENTS + 5):
        happens(worker, number)
    await passed(WINDOW + 10)

    first, second = mails(worker)
    assert (len(first), sorted(first + second)) == (MOST_EVENTS, list(range(MOST_EVENTS + 5)))


async def test_events_that_are_too_much_for_one_mail_become_several(worker: MemoryWorker) -> None:
    happens(worker, 0)
    await passed()
    worker.rendering.most = 4
    for number in range(1, 10):
        happens(worker, number)
    await passed(WINDOW + 10)

    told = mails(worker)
    assert sorted(event for events in told for event in events) == list(range(10))
    assert max(map(len, told)) <= 4
    assert len(told[0]) > 1


# -- dying ----------------------------------------------------------------------------------------------------------


async def test_killed_when_all_had_joined_the_same_events_are_told_again(worker: MemoryWorker) -> None:
    """The call never left, so there is another one: for the same mail, though its parts have ended long ago."""
    worker.provider.next_answers.append(NeverLeft("refused"))
    first = happens(worker, 1)
    happens(worker, 2)
    await passed(WINDOW + 5)
    assert worker.status(first) is Status.RETRYING
    late = happens(worker, 3)
    await passed()
    worker.kill()
    async with a_worker(worker.log, worker.clock, rendering=Rendering()) as heir:
        await passed(300)

        assert mails(worker) == [[1, 2]]
        assert sorted(mails(heir)) == [[1, 2], [3]]
        assert heir.status(late) is Status.SENT


async def test_a_mail_that_goes_again_tells_no_further_event(worker: MemoryWorker) -> None:
    """The provider may have refused it for what is in it, or may have it: a repeated call is for the same mail."""
    worker.provider.next_answers.append(NeverLeft("refused"))
    happens(worker, 1)
    happens(worker, 2)
    await passed(WINDOW + 5)
    worker.app.silent_seconds = 100.0  # it may not call until both are due: the repeated one, and the third event
    happens(worker, 3)
    await passed(WINDOW + 120)
    worker.app.silent_seconds = 0.0
    await passed(5)

    assert mails(worker) == [[1, 2], [1, 2], [3]]


async def test_killed_before_the_others_had_joined_they_make_a_mail_of_their_own(worker: MemoryWorker) -> None:
    emails = [happens(worker, number) for number in (1, 2, 3)]
    await passed()
    worker.log.treat(ATTEMPTS.name, Writes.WAITING)
    await passed(WINDOW)
    # the claim of the first is in the log, and nobody hears of it
    worker.log.treat(ATTEMPTS.name, Writes.UNHEARD)
    await passed(0.5)
    assert [record.id for record in worker.attempts()] == [emails[0]]
    worker.kill()
    worker.log.treat(ATTEMPTS.name, Writes.TAKEN)
    async with a_worker(worker.log, worker.clock, rendering=Rendering()) as heir:
        await passed(60)

        assert mails(heir) == [[2, 3]]
        assert heir.status(emails[0]) is Status.HELD


async def test_a_mail_is_made_of_exactly_those_whose_ending_the_log_holds(worker: MemoryWorker) -> None:
    """One of them is claimed by another worker at that moment: its event is told there, and not here too."""
    first, second, third = (happens(worker, number) for number in (1, 2, 3))
    await passed()
    worker.log.treat(ATTEMPTS.name, Writes.WAITING)
    await passed(WINDOW)
    worker.append(ATTEMPTS, structs.replace(a_claim(1, "of-another"), id=second, at=later(WINDOW)))
    worker.log.treat(ATTEMPTS.name, Writes.TAKEN)
    await passed(5)

    assert mails(worker) == [[1, 3]]
    assert worker.status(first) is Status.SENT
    assert worker.status(second) is Status.PROCESSING
    assert worker.status(third) is Status.SUPPRESSED


async def test_a_digest_whose_endings_cannot_be_written_is_given_back_and_tried_again(
    worker: MemoryWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = happens(worker, 1), happens(worker, 2)
    await passed(WINDOW - 2)
    claim = ClaimLog.claim

    async def refuses(of: ClaimLog, status: Any, partition: int, **members: Any) -> Any:
        if members.get("into") and refusals:
            raise refusals.pop()
        return await claim(of, status, partition, **members)

    refusals: list[Exception] = [NotPublished("no acknowledgement")]
    monkeypatch.setattr(ClaimLog, "claim", refuses)
    await passed(10)

    assert any(isinstance(record, ReleasedRecord) for record in worker.attempts(first))
    assert mails(worker) == [[1, 2]]
    assert worker.status(second) is Status.SUPPRESSED


async def test_an_email_that_others_have_joined_cannot_be_cancelled(worker: MemoryWorker) -> None:
    worker.provider.next_answers.append(NeverLeft("refused"))
    first = happens(worker, 1)
    happens(worker, 2)
    await passed(WINDOW + 5)
    worker.control(first)
    await passed(300)

    assert mails(worker) == [[1, 2], [1, 2]]
    shown = worker.shown(first)
    assert shown is not None
    assert shown.status is Status.SENT
    assert [fact.detail for fact in shown.timeline if fact.what == "cancel_refused"] == ["already_digested"]


async def test_a_digest_that_waits_for_its_gate_is_not_given_back_for_a_cancel(worker: MemoryWorker) -> None:
    worker.provider.connect_seconds = 2.0
    first = happens(worker, 1)
    happens(worker, 2)
    await passed(WINDOW + 1)
    assert worker.status(first) is Status.PROCESSING
    worker.control(first)
    await passed(10)

    assert mails(worker) == [[1, 2]]
    assert worker.status(first) is Status.SENT


async def test_a_digest_whose_event_is_gone_from_the_log_fails_and_tells_no_half(worker: MemoryWorker) -> None:
    worker.provider.next_answers.append(NeverLeft("refused"))
    first = happens(worker, 1)
    second = happens(worker, 2)
    await passed(WINDOW + 5)
    copy = codec.decode_requested(worker.log.records(REQUESTED.name, HOME)[0].value() or b"")
    worker.append(REQUESTED, copy, headers=[(codec.CARRIED_HEADER, b"0/0")])  # of the second there is none
    await passed()
    worker.kill()
    async with a_worker(worker.log, worker.clock, rendering=Rendering()) as heir:
        await passed()
        heir.log.delete(REQUESTED.name, HOME, 2)
        await passed(300)

        assert heir.provider.calls == []
        shown = heir.shown(first)
        assert shown is not None
        assert shown.status is Status.FAILED
        assert f"body_gone: the log does not hold the request of {second}" in (shown.timeline[-1].detail or "")
