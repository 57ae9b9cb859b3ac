"""Any reader makes the same status of the same facts, no status lies, and none goes back."""

from datetime import datetime
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from mailstream.domain import codec
from mailstream.domain.attempt import AttemptRecord, ClaimRecord, Instead, Outcome
from mailstream.domain.event import ProviderEvent
from mailstream.domain.request import OnAmbiguous
from mailstream.domain.status import (
    Coordinates,
    Doubt,
    EmailStatus,
    Provider,
    Status,
    is_final,
    merge,
    order_of_merge,
    rank_of,
)
from mailstream.domain.topics import MIB
from streams.core import fold
from streams.core.claims import Verdict
from tests.support.attempt_logs import Life, any_records, folded, lives
from tests.support.builders import (
    HOME,
    ID,
    NOW,
    a_claim,
    a_hold,
    a_release,
    a_request,
    a_status,
    an_event,
    an_outcome,
    later,
)

NOT_SENT = {Status.CANCELLED, Status.EXPIRED, Status.SUPPRESSED, Status.FAILED}
EVENTS = ["processed", "deferred", "delivered", "bounce", "dropped", "open", "click", "spamreport", "news to us"]


def shown(status: EmailStatus) -> list[str]:
    return [fact.status.value if fact.status else f"({fact.what})" for fact in status.timeline]


# -- single steps -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("records", "status", "timeline"),
    [
        pytest.param([a_claim()], Status.PROCESSING, "QUEUED PROCESSING", id="claimed"),
        pytest.param([a_claim(), an_outcome()], Status.SENT, "QUEUED PROCESSING SENT", id="accepted"),
        pytest.param([a_claim(), an_outcome(Outcome.REFUSED)], Status.FAILED, "QUEUED PROCESSING FAILED", id="refused"),
        pytest.param([a_claim(), an_outcome(Outcome.NOT_ACCEPTED)], Status.RETRYING, "QUEUED PROCESSING RETRYING", id="not accepted"),
        pytest.param([a_claim(), an_outcome(Outcome.ACCOUNT_FAULT)], Status.RETRYING, "QUEUED PROCESSING RETRYING", id="our own fault"),
        pytest.param([a_claim(), an_outcome(Outcome.UNKNOWN)], Status.HELD, "QUEUED PROCESSING HELD", id="unknown"),
        pytest.param([a_claim(), a_hold()], Status.HELD, "QUEUED PROCESSING HELD", id="the caller is gone"),
        pytest.param([a_claim(), a_release()], Status.QUEUED, "QUEUED PROCESSING QUEUED", id="released"),
        pytest.param([a_claim(), a_hold(), an_outcome()], Status.SENT, "QUEUED PROCESSING HELD SENT", id="a late outcome"),
        pytest.param([a_claim(), a_hold(), an_outcome(Outcome.NOT_ACCEPTED)], Status.RETRYING, "QUEUED PROCESSING HELD RETRYING", id="late proof"),
        pytest.param([a_claim(instead=Instead.CANCELLED)], Status.CANCELLED, "QUEUED CANCELLED", id="cancelled"),
        pytest.param([a_claim(instead=Instead.EXPIRED)], Status.EXPIRED, "QUEUED EXPIRED", id="expired"),
        pytest.param([a_claim(instead=Instead.SUPPRESSED)], Status.SUPPRESSED, "QUEUED SUPPRESSED", id="suppressed"),
        pytest.param([a_claim(instead=Instead.FAILED)], Status.FAILED, "QUEUED FAILED", id="failed without a call"),
        pytest.param([a_claim(instead=Instead.RESCHEDULED, not_before=later(9))], Status.QUEUED, "QUEUED QUEUED", id="rescheduled"),
        pytest.param([a_claim(), a_hold(), a_claim(2, instead=Instead.UNCONFIRMED)], Status.UNCONFIRMED, "QUEUED PROCESSING HELD UNCONFIRMED", id="no evidence in time"),
        pytest.param([a_claim(), a_hold(), a_claim(2, instead=Instead.SENT, by="eve")], Status.SENT, "QUEUED PROCESSING HELD SENT", id="an operator's word"),
        pytest.param([a_claim(), a_hold(), a_claim(2, instead=Instead.UNCONFIRMED), a_release()], Status.UNCONFIRMED,
                     "QUEUED PROCESSING HELD UNCONFIRMED (late_release)", id="a late release revives nothing"),
        pytest.param([a_claim(), a_hold(), a_claim(2, instead=Instead.UNCONFIRMED), an_outcome(Outcome.NOT_ACCEPTED)], Status.FAILED,
                     "QUEUED PROCESSING HELD UNCONFIRMED FAILED", id="late proof of failure ends the doubt"),
        pytest.param([a_claim(), a_hold(), a_claim(2, instead=Instead.UNCONFIRMED), an_outcome()], Status.SENT,
                     "QUEUED PROCESSING HELD UNCONFIRMED SENT", id="late proof of acceptance as well"),
        pytest.param([a_claim(), an_outcome(Outcome.NOT_ACCEPTED), a_claim(2), an_outcome(attempt=2)], Status.SENT,
                     "QUEUED PROCESSING RETRYING PROCESSING SENT", id="accepted at the second try"),
    ],
)  # fmt: skip
def test_each_record_moves_the_email_to_its_place(records: list[AttemptRecord], status: Status, timeline: str) -> None:
    after = folded(records)

    assert after.status is status
    assert after.final is is_final(status)
    assert after.rank == rank_of(status, after.attempt)
    assert shown(after) == timeline.split()


def test_a_new_request_is_queued_with_all_that_rebuilds_the_schedule() -> None:
    request = a_request(send_at=later(60), expires_at=later(3600), reference="order-17", tags=("welcome",))

    status = fold.queued(
        request,
        email_id=ID,
        recipient="1c2f9a3b",
        place=Coordinates(1, 9),
        at=NOW,
        on_ambiguous=OnAmbiguous.RESEND,
        writer="w",
    )

    assert (status.status, status.rank, status.final) == (Status.QUEUED, 4, False)
    assert (status.due_at, status.expires_at) == (later(60), later(3600))
    assert (status.request, status.order, status.on_ambiguous) == (Coordinates(1, 9), 9, OnAmbiguous.RESEND)
    assert "ada" not in codec.encode(status).decode()


def test_a_request_may_choose_what_happens_without_evidence() -> None:
    status = a_status(request=a_request(on_ambiguous=OnAmbiguous.RESEND))

    assert status.on_ambiguous is OnAmbiguous.RESEND


def test_a_rejected_id_shows_why() -> None:
    status = fold.rejected(
        email_id=ID,
        recipient="1c2f9a3b",
        place=Coordinates(1, 9),
        at=NOW,
        reason="BAD_VALUE",
        detail="/subject: missing",
        writer="w",
    )

    assert (status.id, status.recipient, status.writer) == (ID, "1c2f9a3b", "w")
    assert (status.status, status.final, status.provider) == (Status.REJECTED, True, Provider(reason="BAD_VALUE"))
    assert status.timeline[0].detail == "BAD_VALUE: /subject: missing"


def test_a_carried_copy_moves_the_coordinates_forward_only_and_keeps_the_order() -> None:
    status = a_status()

    carried = fold.carried(status, Coordinates(1, 900), later(9))

    assert carried.request == Coordinates(1, 900)
    assert (carried.request_at, carried.order) == (later(9), 7)
    assert fold.carried(carried, Coordinates(1, 8), later(9)) is carried
    assert merge(carried, status) is carried


def test_a_retry_is_due_when_the_outcome_says_and_pays_only_if_it_counts() -> None:
    paid = folded([a_claim(), an_outcome(Outcome.NOT_ACCEPTED, retry_at=later(30), counts=True)])
    free = folded([a_claim(), an_outcome(Outcome.NOT_ACCEPTED, retry_at=later(5))])

    assert (paid.due_at, paid.retries_used) == (later(30), 1)
    assert (free.due_at, free.retries_used) == (later(5), 0)


def test_a_rescheduled_email_is_due_at_its_new_time() -> None:
    assert folded([a_claim(instead=Instead.RESCHEDULED, not_before=later(9))]).due_at == later(9)


def test_a_hold_counts_from_its_record() -> None:
    assert folded([a_claim(), a_hold(at_seconds=4)]).held_at == later(4)
    assert folded([a_claim(), a_hold(at_seconds=4), an_outcome(Outcome.UNKNOWN, at_seconds=8)]).held_at == later(4)


def test_a_final_status_is_neither_due_nor_held() -> None:
    retrying = folded([a_claim(), an_outcome(Outcome.NOT_ACCEPTED, retry_at=later(30))])
    held = folded([a_claim(), a_hold()])

    for waiting in (retrying, held):
        after = fold.happened(waiting, an_event())
        assert (after.due_at, after.held_at) == (None, None)


def test_a_decided_control_is_kept_with_the_claim_that_decides_it() -> None:
    status = folded([a_claim(instead=Instead.CANCELLED, control=40, by="key-1", reason="changed my mind")])

    assert status.control == 40
    assert (status.timeline[-1].by, status.timeline[-1].control) == ("key-1", 40)


def test_a_refused_control_is_a_fact_and_moves_nothing() -> None:
    before = a_status(Status.PROCESSING, 1)

    after = fold.noted_control(before, control=40, what="cancel_refused", why="already_sending", by="", at=later(3))

    assert (after.status, after.rank, after.control) == (before.status, before.rank, 40)
    assert shown(after)[-1] == "(cancel_refused)"
    assert order_of_merge(after) > order_of_merge(before)


def test_an_older_control_does_not_lower_the_decided_one() -> None:
    assert fold.noted_control(a_status(control=40), control=30, what="x", why=None, by="", at=NOW).control == 40


# -- behind a doubt -----------------------------------------------------------------------------------------

BOTH_IN_DOUBT = [
    a_claim(),
    a_hold(),
    a_claim(2, possible_duplicate=True),
    a_hold(2),
    a_claim(3, instead=Instead.UNCONFIRMED),
]


@pytest.mark.parametrize("ending", [Instead.CANCELLED, Instead.EXPIRED, Instead.SUPPRESSED, Instead.FAILED])
def test_behind_a_doubt_no_ending_says_that_nothing_was_sent(ending: Instead) -> None:
    resent = [a_claim(), a_hold(), a_claim(2, possible_duplicate=True), an_outcome(Outcome.NOT_ACCEPTED, 2)]

    status = folded([*resent, a_claim(3, instead=ending, reason="asked for")])

    assert status.status is Status.UNCONFIRMED
    assert status.timeline[-1].detail == "asked for"


def test_a_resend_that_is_refused_says_nothing_about_the_first_attempt() -> None:
    resent = [a_claim(), a_hold(), a_claim(2, possible_duplicate=True), an_outcome(Outcome.REFUSED, 2)]

    assert folded(resent).status is Status.UNCONFIRMED
    assert folded([*resent, an_outcome(Outcome.NOT_ACCEPTED, 1)]).status is Status.FAILED


@pytest.mark.parametrize("attempt", [1, 2])
def test_of_two_attempts_in_doubt_one_refusal_is_not_enough_to_say_failed(attempt: int) -> None:
    one = folded([*BOTH_IN_DOUBT, an_outcome(Outcome.NOT_ACCEPTED, attempt)])
    both = folded([*BOTH_IN_DOUBT, an_outcome(Outcome.NOT_ACCEPTED, attempt), an_outcome(Outcome.REFUSED, 3 - attempt)])

    assert one.status is Status.UNCONFIRMED
    assert one.doubt == Doubt(3 - attempt, f"n{3 - attempt}")
    assert both.status is Status.FAILED


@pytest.mark.parametrize("attempt", [1, 2])
def test_late_acceptance_of_either_attempt_in_doubt_is_sent(attempt: int) -> None:
    status = folded([*BOTH_IN_DOUBT, an_outcome(attempt=attempt, message_id="m")])

    assert status.status is Status.SENT
    assert status.provider == Provider(message_id="m")


def test_once_the_first_attempt_is_settled_a_resend_in_doubt_may_be_resent() -> None:
    resent = [a_claim(), a_hold(), a_claim(2, possible_duplicate=True), a_hold(2)]

    settled = folded([*resent, an_outcome(Outcome.NOT_ACCEPTED, 1)])
    again = folded([a_claim(3, possible_duplicate=True)], settled)

    assert settled.status is Status.HELD
    assert (again.status, again.doubt) == (Status.PROCESSING, Doubt(2, "n2"))
    assert again.possible_duplicate, "what was marked once stays marked"


# -- whole logs ---------------------------------------------------------------------------------------------


@given(lives())
def test_no_status_goes_back(life: Life) -> None:
    for before, after in pairwise(life.statuses):
        assert after.rank >= before.rank
        assert merge(before, after) is after
        assert after.rank == rank_of(after.status, after.attempt)
        assert not (before.final and not after.final)


@given(lives())
def test_nothing_says_not_sent_while_an_attempt_is_in_doubt(life: Life) -> None:
    for status, in_doubt in zip(life.statuses, life.in_doubt(), strict=True):
        assert not (in_doubt and status.status in NOT_SENT)


@given(lives())
def test_what_was_accepted_unmarked_is_accepted_once(life: Life) -> None:
    marks = {record.nonce: record.possible_duplicate for record in life.log if isinstance(record, ClaimRecord)}

    assert sum(not marks[nonce] for nonce in life.accepted) <= 1
    assert len(life.accepted) <= 2


@given(lives())
def test_only_winners_and_their_words_change_a_status(life: Life) -> None:
    winners = [
        record.attempt for record, verdict in zip(life.log, life.verdicts, strict=True) if verdict is Verdict.WON
    ]

    assert len(winners) == len(set(winners))
    for (before, after), verdict in zip(pairwise(life.statuses), life.verdicts, strict=True):
        assert (after is before) == (verdict not in (Verdict.WON, Verdict.CLOSED, Verdict.DOUBT_SETTLED))


@given(lives())
def test_an_email_that_was_born_again_is_what_it_was_though_its_first_attempts_are_deleted(life: Life) -> None:
    """The log is cut where the email waited: it is born again from a carried copy of its request, which is younger."""
    for cut, before in enumerate(life.statuses):
        is_cut_before_winner = Verdict.WON in life.verdicts[cut : cut + 1]
        if before.status not in (Status.QUEUED, Status.RETRYING) or not is_cut_before_winner:
            continue
        status = a_status()
        for record in life.log[cut:]:
            status = fold.attempted(fold.reborn(status, record), record)[1]

        told = life.statuses[-1]
        assert (status.status, status.attempt, status.nonce) == (told.status, told.attempt, told.nonce)


@given(lives(), lives())
def test_no_record_of_a_former_life_of_an_id_changes_anything(former: Life, life: Life) -> None:
    """Its status was forgotten, then the id was asked for again, and all of the log is folded."""
    records = [
        structs.replace(
            record, nonce=f"former-{record.nonce}", **({"order": 3} if isinstance(record, ClaimRecord) else {})
        )
        for record in former.log
    ]
    for status in life.statuses:
        for record in records:
            assert fold.attempted(status, record)[1] is status


@given(lives(), st.data())
def test_every_claim_of_an_emails_own_life_counts_as_before(life: Life, data: st.DataObject) -> None:
    """It names what its status names, with every claim, loss, copy and word on the way."""
    status = a_status()
    for record in life.log:
        if data.draw(st.booleans()):
            status = fold.carried(status, Coordinates(HOME, status.order + 100), record.at)
        if isinstance(record, ClaimRecord):
            record = structs.replace(record, order=status.order)
        status = fold.attempted(status, record)[1]

    told = life.statuses[-1]
    assert (status.status, status.attempt, status.nonce) == (told.status, told.attempt, told.nonce)


def test_an_email_that_was_born_from_a_repeat_keeps_the_claims_of_its_first_request() -> None:
    """The first one is older than the topic keeps; which of the two the claim was made for cannot be told."""
    born = structs.replace(a_status(), order=50)

    claimed = fold.attempted(fold.reborn(born, a_claim(order=7)), a_claim(order=7))[1]

    assert (claimed.status, claimed.order) == (Status.PROCESSING, 7)
    assert folded([a_claim(order=7), an_outcome()], claimed).status is Status.SENT


def test_an_email_that_was_claimed_had_been_taken_though_its_record_would_be_refused_now() -> None:
    """A template or an allowed sender is gone since: made anew, the email may not be shown as never sent."""
    status = fold.rejected(
        email_id=ID,
        recipient=ID[3:11],
        place=Coordinates(HOME, 7),
        at=NOW,
        reason="TEMPLATE_FAILED",
        detail="there is no such template",
        writer="w",
    )
    for record, shown in (
        (a_claim(order=7), Status.PROCESSING),
        (a_hold(), Status.HELD),
        (an_outcome(), Status.SENT),
    ):
        status = fold.attempted(fold.reborn(status, record), record)[1]
        assert status.status is shown

    assert status.provider == Provider(an_outcome().message_id, an_outcome().code, an_outcome().reason)


@given(lives(), st.data())
def test_reading_a_log_again_from_any_checkpoint_changes_nothing(life: Life, data: st.DataObject) -> None:
    """A new owner loads the status after k records and reads from the j-th on."""
    known = data.draw(st.integers(0, len(life.log)), label="records in the status")
    checkpoint = data.draw(st.integers(0, known), label="records below the checkpoint")

    assert folded(life.log[checkpoint:], life.statuses[known]) == life.statuses[-1]


@given(lives(), st.lists(st.sampled_from(EVENTS), max_size=4), st.data())
def test_events_between_any_records_and_in_any_order_give_one_status(
    life: Life, names: list[str], data: st.DataObject
) -> None:
    events = [an_event(name, at_seconds=n) for n, name in enumerate(names)]

    def told_in_some_order() -> EmailStatus:
        facts: list[AttemptRecord | ProviderEvent] = list(life.log)
        for event in data.draw(st.permutations(events)):
            facts.insert(data.draw(st.integers(0, len(facts))), event)
        status = a_status()
        for fact in facts:
            before = status
            is_event = isinstance(fact, ProviderEvent)
            status = fold.happened(status, fact) if is_event else fold.attempted(status, fact)[1]
            assert status.rank >= before.rank
        return status

    one, other = told_in_some_order(), told_in_some_order()

    assert (one.status, one.rank) == (other.status, other.rank)


@given(st.lists(any_records(), max_size=12))
def test_no_log_however_wrong_lowers_a_status_or_counts_a_record_twice(records: list[AttemptRecord]) -> None:
    status = a_status()
    for record in records:
        _, after = fold.attempted(status, record)
        assert after.rank >= status.rank
        assert fold.attempted(after, record)[1] is after
        status = after


# -- events -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("event", "status"),
    [
        pytest.param(an_event("processed"), Status.SENT, id="processed"),
        pytest.param(an_event("deferred"), Status.DEFERRED, id="deferred"),
        pytest.param(an_event("delivered"), Status.DELIVERED, id="delivered"),
        pytest.param(an_event("bounce"), Status.BOUNCED, id="a bounce"),
        pytest.param(an_event("bounce", detail={"type": "blocked"}), Status.BLOCKED, id="a block"),
        pytest.param(an_event("dropped"), Status.DROPPED, id="dropped"),
        pytest.param(an_event("open"), Status.SENT, id="who opens it has got it"),
        pytest.param(an_event("news to us"), Status.SENT, id="an unknown event of ours proves acceptance too"),
        pytest.param(
            an_event("bounce", is_recipient=False), Status.SENT, id="a cc's bounce says only that it was sent"
        ),
    ],
)
@pytest.mark.parametrize(
    "before", [Status.QUEUED, Status.PROCESSING, Status.HELD, Status.RETRYING, Status.UNCONFIRMED, Status.FAILED]
)
def test_an_event_is_evidence_whatever_was_shown_before(before: Status, event: ProviderEvent, status: Status) -> None:
    assert fold.happened(a_status(before, 1), event).status is status


def test_what_comes_after_delivery_is_shown_on_the_timeline_only_but_for_a_bounce() -> None:
    delivered = fold.happened(a_status(Status.SENT, 1), an_event("delivered"))

    deferred = fold.happened(delivered, an_event("deferred", at_seconds=6))
    bounced = fold.happened(delivered, an_event("bounce", at_seconds=6))

    assert (deferred.status, shown(deferred)[-1]) == (Status.DELIVERED, "(deferred)")
    assert bounced.status is Status.BOUNCED


def test_the_same_event_counts_once() -> None:
    once = fold.happened(a_status(Status.SENT, 1), an_event("delivered"))

    assert fold.happened(once, an_event("delivered")) is once


@pytest.mark.parametrize("kind", ["open", "click"])
def test_of_endless_opens_the_first_and_the_last_are_kept(kind: str) -> None:
    status = a_status(Status.DELIVERED, 1)
    for n in range(1000):
        status = fold.happened(status, an_event(kind, at_seconds=n))
        assert sum(fact.what == kind for fact in status.timeline) == min(n + 1, 2)

    kept = [fact.at for fact in status.timeline if fact.what == kind]
    assert kept == [later(0), later(999)]
    assert status.timeline_dropped == 998


def test_an_event_that_proves_an_email_sent_names_it_for_the_provider() -> None:
    status = fold.happened(a_status(Status.HELD, 1), an_event("processed", message_id="m1"))

    assert status.provider == Provider("m1")


def test_an_event_that_names_no_message_says_nothing_about_the_provider() -> None:
    assert fold.happened(a_status(Status.HELD, 1), an_event("processed")).provider is None


def test_an_outcome_tells_what_the_provider_said_and_keeps_the_message_id_of_an_event() -> None:
    sent = fold.happened(a_status(Status.PROCESSING, 1), an_event("processed", message_id="m1"))

    status = folded([an_outcome(Outcome.UNKNOWN, code=503, reason="try later")], sent)

    assert status.status is Status.SENT
    assert status.provider == Provider("m1", 503, "try later")


def test_a_second_message_id_for_one_email_is_an_alarm() -> None:
    sent = a_status(Status.SENT, 1, provider=Provider("m1", 202))

    assert fold.is_duplicate_proven(sent, an_event(message_id="m2"))
    assert not fold.is_duplicate_proven(sent, an_event(message_id="m1"))
    assert not fold.is_duplicate_proven(sent, an_event())
    assert not fold.is_duplicate_proven(sent, an_event(message_id="m2", is_recipient=False))
    assert not fold.is_duplicate_proven(a_status(Status.HELD, 1), an_event(message_id="m2"))


def test_an_event_of_long_ago_does_not_make_the_email_older() -> None:
    """The retention of a status is counted from its newest change: a wrong time would let the email be forgotten."""
    status = fold.happened(a_status(Status.SENT, 1), an_event(at_seconds=-1e9))

    assert status.updated_at == NOW


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@given(
    st.sampled_from(EVENTS) | st.text(),
    st.dictionaries(st.sampled_from(["reason", "response", "type"]), json_values),
    st.datetimes(),
)
def test_whatever_an_event_holds_the_status_can_be_read_back(name: str, detail: dict[str, Any], at: datetime) -> None:
    """One that could not would stop its worker at every look."""
    event = codec.decode_event(codec.encode(ProviderEvent(event=name, at=at, id=ID, dedupe="x", detail=detail)))

    after = fold.happened(a_status(Status.SENT, 1), event)

    assert codec.decode_status(codec.encode(after)) == after
    assert after.updated_at.tzinfo is not None


def test_no_facts_make_a_status_too_large_for_its_topic() -> None:
    """A status that the broker refuses would stop its worker: what cannot be recorded is not sent."""
    long = "\x00" * 100_000
    status = fold.noted_control(a_status(), control=1, what="cancel_refused", why=None, by=long, at=NOW)
    for n in range(2, 40):
        status = fold.attempted(status, a_claim(n - 1, instead=Instead.RESCHEDULED, reason=long, by=long))[1]
        status = fold.noted_control(status, control=n, what="cancel_refused", why=None, by=long, at=NOW)
    for n in range(20):
        event = an_event(long + str(n), dedupe=long + str(n), message_id=long, detail={"reason": long})
        status = fold.happened(status, event)

    assert len(msgspec.json.encode(status)) < MIB - 64 * 1024
