"""What hangs together: frequency caps and digests, from statuses alone."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from mailstream.domain.attempt import Instead
from mailstream.domain.request import Cap, Digest
from mailstream.domain.status import EmailStatus, Status, group_of
from streams.core import fold
from streams.core.caps_and_digests import CapAndDigestIndex
from streams.core.claims import Verdict
from tests.support.builders import HOME, NOW, a_claim, a_request, a_status, an_outcome, later

CAP = Cap("news", 3, 3600)
DIGEST = Digest("comments", 900, "comments")
WISH = a_request(cap=CAP, digest=DIGEST)


def email(number: int, status: Status = Status.QUEUED, **members: Any) -> EmailStatus:
    known = a_status(status, request=WISH, updated_at=later(number))
    return structs.replace(known, **{"id": f"{known.id}{number}", "order": number} | members)


def knowing(*statuses: EmailStatus) -> CapAndDigestIndex:
    groups = CapAndDigestIndex()
    for status in statuses:
        groups.changed(None, status, HOME)
    return groups


def test_a_cap_counts_what_was_or_may_have_been_sent_and_nothing_else() -> None:
    groups = knowing(*(email(number, status) for number, status in enumerate(Status)))

    counted = groups.called_since(email(99), NOW.timestamp() - 1)

    not_sent = {"QUEUED", "RETRYING", "CANCELLED", "EXPIRED", "SUPPRESSED", "FAILED", "REJECTED"}
    assert counted == len(Status) - len(not_sent)


def test_a_cap_counts_from_the_claim_of_the_call_not_from_a_late_event() -> None:
    verdict, called = fold.attempted(a_status(request=WISH), a_claim(at_seconds=10))
    assert verdict is Verdict.WON
    _, sent = fold.attempted(called, an_outcome(at_seconds=500))
    groups = knowing(sent)

    assert groups.called_since(email(1), later(9).timestamp()) == 1
    assert groups.called_since(email(1), later(10).timestamp()) == 0
    assert groups.called_since(sent, 0.0) == 0, "an email is not in its own way"


def test_a_cap_holds_back_what_exceeds_it_but_no_resend_and_no_digest_of_others() -> None:
    now, cap = NOW.timestamp() + 60, Cap("news", 2, 300)
    groups = knowing(email(1, Status.SENT), email(2, Status.SENT))

    assert groups.over_cap(email(3), cap, now) == "frequency_cap: 2 mails in 300 s, key news"
    assert groups.over_cap(email(3), None, now) is None
    assert groups.over_cap(email(3), Cap("news", 3, 300), now) is None
    assert groups.over_cap(email(3), cap, now + 300) is None
    assert groups.over_cap(email(3, Status.HELD), cap, now) is None
    groups.changed(None, email(4, Status.CANCELLED, digested_into=email(3).id), HOME)
    assert groups.over_cap(email(3), cap, now) is None


def test_sandbox_mails_reach_nobody_and_count_for_nothing() -> None:
    assert knowing(email(1, Status.SENT, test=True)).called_since(email(2), 0.0) == 0


def test_groups_are_those_of_one_tenant_recipient_and_key() -> None:
    others = (
        a_request("bob@example.com"),
        a_request(tenant="other"),
        a_request(),
        a_request("ADA@example.com"),
    )
    mine = group_of(a_request(), "k")

    assert [group_of(other, "k") == mine for other in others] == [False, False, True, True]
    assert group_of(a_request(), "K") != mine


def test_the_first_request_opens_the_window_and_the_next_ones_come_into_it() -> None:
    groups = CapAndDigestIndex()

    assert groups.due(WISH, NOW) == later(900)
    groups.changed(None, email(1, due_at=later(900)), HOME)
    assert groups.due(WISH, later(600)) == later(900)
    assert groups.due(a_request("bob@example.com", digest=DIGEST), later(600)) == later(1500)
    assert groups.due(a_request(), NOW) is None


def test_one_that_was_put_off_does_not_hold_the_next_ones_back() -> None:
    assert knowing(email(1, due_at=later(9999))).due(WISH, NOW) == later(900)


def test_what_is_due_is_gathered_in_the_order_of_the_requests() -> None:
    first, second = email(1, due_at=later(0)), email(2, due_at=later(0))
    later_one, gone = email(3, due_at=later(60)), email(4, Status.CANCELLED)
    groups = knowing(second, later_one, gone, first)

    assert groups.due_with(first, NOW.timestamp()) == [second.id]
    assert groups.due_with(second, later(60).timestamp()) == [first.id, later_one.id]


def test_the_endings_in_the_log_say_whose_events_a_mail_tells() -> None:
    leader, other = email(1), email(2)
    verdict, ended = fold.attempted(
        other, structs.replace(a_claim(instead=Instead.SUPPRESSED, reason="r", into=leader.id), id=other.id)
    )
    groups = knowing(leader, other, ended)

    assert verdict is Verdict.WON
    assert ended.status is Status.SUPPRESSED
    assert ended.digested_into == leader.id
    assert groups.parts_of(leader.id) == [other.id]
    assert groups.due_with(leader, later(9999).timestamp()) == []


def test_an_ending_that_comes_too_late_tells_nothing_twice() -> None:
    """A paused owner's word about an email that a new owner has called for meanwhile."""
    called = email(2, Status.PROCESSING, attempt=1, nonce="n1")

    verdict, after = fold.attempted(
        called, structs.replace(a_claim(nonce="late", instead=Instead.SUPPRESSED, into="em_x"), id=called.id)
    )

    assert verdict is Verdict.LOST
    assert after.digested_into is None


def test_what_belongs_to_others_is_forgotten() -> None:
    one, two = email(1, Status.SENT), email(2, Status.SENT)
    groups = CapAndDigestIndex()
    for partition, status in ((HOME, one), (HOME + 1, two)):
        groups.changed(None, status, partition)

    groups.lost({HOME})

    assert groups.called_since(email(3), 0.0) == 1


@given(st.lists(st.tuples(st.integers(0, 4), st.sampled_from(list(Status)), st.booleans()), max_size=30))
def test_the_newest_status_of_each_email_is_all_that_counts(steps: list[tuple[int, Status, bool]]) -> None:
    """So a new owner, who reads only those, decides as the former one would have."""
    history = [
        email(number, status, digested_into="em_leader" if is_part and status is Status.SUPPRESSED else None)
        for number, status, is_part in steps
    ]
    newest = {status.id: status for status in history}
    told_all, told_newest = knowing(*history), knowing(*newest.values())

    asked = email(99)
    assert told_all.called_since(asked, 0.0) == told_newest.called_since(asked, 0.0)
    assert told_all.due_with(asked, 1e12) == told_newest.due_with(asked, 1e12)
    assert told_all.parts_of("em_leader") == told_newest.parts_of("em_leader")
    assert told_all.due(WISH, NOW) == told_newest.due(WISH, NOW)
