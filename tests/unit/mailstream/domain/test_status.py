"""Any order of the same facts gives one status, and nothing goes down a rank."""

from itertools import pairwise
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from mailstream.domain.status import (
    LIVE,
    TIMELINE_HEAD,
    TIMELINE_TAIL,
    Coordinates,
    EmailStatus,
    Fact,
    Status,
    is_final,
    masked,
    merge,
    rank_of,
    with_fact,
)
from tests.support.builders import NOW, a_status, later

S = Status
attempts = st.integers(0, 200_000)
#: What can be said about one email: a status reached at an attempt.
steps = st.tuples(st.sampled_from(Status), attempts)


def after(status: EmailStatus, step: tuple[Status, int]) -> EmailStatus:
    reached, attempt = step
    return with_fact(status, Fact(at=NOW, status=reached, attempt=attempt), attempt=attempt)


def test_the_ranks_of_one_attempt_rise_as_the_guarantees_say() -> None:
    order = [S.PROCESSING, S.HELD, S.RETRYING, S.QUEUED, S.UNCONFIRMED, S.CANCELLED, S.EXPIRED, S.SUPPRESSED, S.FAILED,
             S.REJECTED, S.SENT, S.DEFERRED, S.DROPPED, S.BLOCKED, S.DELIVERED, S.BOUNCED]  # fmt: skip

    assert set(order) == set(Status)
    assert all(rank_of(lower, 3) < rank_of(higher, 3) for lower, higher in pairwise(order))


@given(st.sampled_from(sorted(LIVE)), attempts, st.sampled_from(sorted(set(Status) - LIVE)), attempts)
def test_no_number_of_attempts_lifts_a_waiting_email_over_a_final_one(
    waits: Status, many: int, final: Status, few: int
) -> None:
    assert rank_of(waits, many) < rank_of(final, few)


@given(attempts, attempts)
def test_acceptance_of_any_attempt_is_outranked_by_delivery_of_any_other(one: int, other: int) -> None:
    assert rank_of(S.SENT, one) < rank_of(S.DELIVERED, other)
    assert rank_of(S.SENT, one) == rank_of(S.SENT, other)


@given(attempts)
def test_a_later_attempt_outranks_whatever_the_one_before_it_reached(attempt: int) -> None:
    assert max(rank_of(status, attempt) for status in LIVE) < min(rank_of(status, attempt + 1) for status in LIVE)


def test_only_four_statuses_still_wait_for_something() -> None:
    assert {status for status in Status if not is_final(status)} == {S.QUEUED, S.PROCESSING, S.HELD, S.RETRYING}


@given(st.lists(steps, max_size=8), st.randoms(use_true_random=False))
def test_any_order_of_the_same_facts_gives_one_status(facts: list[tuple[Status, int]], random: Random) -> None:
    shuffled = random.sample(facts, len(facts))
    one = other = a_status()
    for fact in facts:
        one = after(one, fact)
    for fact in shuffled:
        other = after(other, fact)

    assert (one.status, one.rank, one.final) == (other.status, other.rank, other.final)
    assert one.rank == max([a_status().rank, *(rank_of(*fact) for fact in facts)])


@given(st.lists(steps, max_size=8))
def test_a_fact_never_lowers_a_rank_and_is_never_lost(facts: list[tuple[Status, int]]) -> None:
    status = a_status()
    known = len(status.timeline)
    for count, fact in enumerate(facts, 1):
        before, status = status, after(status, fact)
        assert status.rank >= before.rank
        assert len(status.timeline) == known + count


def test_a_fact_without_a_status_moves_nothing() -> None:
    sent = a_status(S.SENT, 1)

    opened = with_fact(sent, Fact(at=later(60), what="open"))

    assert (opened.status, opened.rank) == (sent.status, sent.rank)
    assert opened.updated_at == later(60)


@given(st.lists(steps, min_size=1, max_size=6), st.randoms(use_true_random=False))
def test_records_merge_to_the_same_status_in_any_order(reached: list[tuple[Status, int]], random: Random) -> None:
    records = [a_status(status, attempt) for status, attempt in reached]
    one: EmailStatus | None = None
    other: EmailStatus | None = None
    for record in records:
        one = merge(one, record)
    for record in random.sample(records, len(records)):
        other = merge(other, record)

    assert one is not None
    assert other is not None
    assert (one.status, one.rank) == (other.status, other.rank)
    assert one.rank == max(record.rank for record in records)


def test_a_record_that_came_last_does_not_win_by_that() -> None:
    sent, queued = a_status(S.SENT, 1), a_status(S.QUEUED, 0)

    assert merge(sent, queued) is sent
    assert merge(None, queued) is queued


def test_at_equal_rank_the_carried_request_wins_then_the_later_control_record() -> None:
    known = structs.replace(a_status(), request=Coordinates(0, 7), control=5)
    carried = structs.replace(known, request=Coordinates(0, 90), control=-1)
    decided = structs.replace(known, control=6)

    assert merge(carried, known) is carried
    assert merge(known, decided) is decided
    assert merge(decided, known) is decided


def test_a_long_timeline_keeps_its_beginning_its_end_and_a_count() -> None:
    status = structs.replace(a_status(), timeline=())
    for number in range(200):
        status = with_fact(status, Fact(at=later(number), what=f"fact {number}"))

    told = [fact.what for fact in status.timeline]
    assert told == [f"fact {number}" for number in [*range(TIMELINE_HEAD), *range(200 - TIMELINE_TAIL, 200)]]
    assert status.timeline_dropped == 200 - TIMELINE_HEAD - TIMELINE_TAIL


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("ada@example.com", "a***@e***.com"),
        ("a@b.example", "a***@b***.example"),
        ("ä@mail.example.org", "ä***@m***.org"),
    ],
)
def test_a_masked_address_shows_no_more_than_two_letters_and_the_top_level(address: str, shown: str) -> None:
    assert masked(address) == shown
