"""Who wins a claim, whose word counts, and what may be claimed behind what."""

import pytest

from mailstream.domain.attempt import AttemptRecord, Instead, Outcome
from mailstream.domain.status import Doubt, EmailStatus, Status
from streams.core.claims import Verdict, doubts, is_open, judge, may_claim
from tests.support.builders import a_claim, a_hold, a_release, a_status, an_outcome

QUEUED = a_status()
CALLED = a_status(Status.PROCESSING, 1)
HELD = a_status(Status.HELD, 1)
RETRYING = a_status(Status.RETRYING, 1, answered=1)
RELEASED = a_status(Status.QUEUED, 1)
SENT = a_status(Status.SENT, 1, answered=1)
SENT_BY_EVENT = a_status(Status.SENT, 1)
RESENT = a_status(Status.PROCESSING, 2, doubt=Doubt(1, "n1"), possible_duplicate=True)
UNCONFIRMED = a_status(Status.UNCONFIRMED, 3, doubt=Doubt(1, "n1"), second_doubt=Doubt(2, "n2"))

CALL = "a call"
RESEND = "a marked resend"
NOT_SENT = (Instead.CANCELLED, Instead.EXPIRED, Instead.SUPPRESSED, Instead.FAILED, Instead.RESCHEDULED)
ENDS_DOUBT = (Instead.UNCONFIRMED, Instead.SENT)


@pytest.mark.parametrize(
    ("status", "allowed"),
    [
        pytest.param(QUEUED, {CALL, RESEND, *NOT_SENT}, id="waiting: a call, or an ending without one"),
        pytest.param(RETRYING, {CALL, RESEND, *NOT_SENT}, id="proven not accepted: the same"),
        pytest.param(RELEASED, {CALL, RESEND, *NOT_SENT}, id="released: the same"),
        pytest.param(CALLED, {RESEND, *ENDS_DOUBT}, id="under way: no ending that says: not sent"),
        pytest.param(HELD, {RESEND, *ENDS_DOUBT}, id="held: one marked resend, or an end of the doubt"),
        pytest.param(RESENT, {*ENDS_DOUBT}, id="resent once: never twice"),
        pytest.param(SENT, set(), id="sent: nothing"),
        pytest.param(a_status(Status.CANCELLED, 1), set(), id="cancelled: nothing, ever"),
        pytest.param(a_status(Status.REJECTED), set(), id="rejected: nothing"),
        pytest.param(UNCONFIRMED, set(), id="unconfirmed: nothing"),
    ],
)
def test_only_what_the_log_allows_may_be_claimed(status: EmailStatus, allowed: set[str]) -> None:
    found = {str(instead) for instead in Instead if may_claim(status, instead=instead)}
    found |= {CALL for _ in "1" if may_claim(status)}
    found |= {RESEND for _ in "1" if may_claim(status, possible_duplicate=True)}

    assert found == {str(name) for name in allowed}


@pytest.mark.parametrize(
    ("status", "record", "verdict"),
    [
        pytest.param(QUEUED, a_claim(1), Verdict.WON, id="the first claim wins"),
        pytest.param(QUEUED, a_claim(1, order=7), Verdict.WON, id="it names the request that its email began with"),
        pytest.param(QUEUED, a_claim(1, order=6), Verdict.FORMER, id="an id that was forgotten had claims of its own"),
        pytest.param(RETRYING, a_claim(2, order=6), Verdict.FORMER, id="however many"),
        pytest.param(QUEUED, a_claim(1, order=8), Verdict.WON, id="born again from an older request than its claimant knew"),
        pytest.param(CALLED, a_claim(1, "late"), Verdict.LOST, id="the second claim of an attempt loses"),
        pytest.param(CALLED, a_claim(1), Verdict.KNOWN, id="the winning claim read again is known"),
        pytest.param(RESENT, a_claim(1), Verdict.KNOWN, id="the claim of an attempt in doubt is known"),
        pytest.param(QUEUED, a_claim(2), Verdict.LOST, id="an attempt cannot be left out"),
        pytest.param(CALLED, a_claim(2), Verdict.LOST, id="nothing follows an open attempt without a mark"),
        pytest.param(RETRYING, a_claim(2), Verdict.WON, id="the next attempt follows proof"),
        pytest.param(HELD, a_claim(2, possible_duplicate=True), Verdict.WON, id="a marked resend follows a doubt"),
        pytest.param(RETRYING, a_claim(2, instead=Instead.UNCONFIRMED), Verdict.LOST,
                     id="UNCONFIRMED loses when proof came first: the email has another try"),
        pytest.param(RETRYING, a_claim(2, instead=Instead.SENT), Verdict.LOST,
                     id="an operator's SENT loses when proof of the contrary came first"),
        pytest.param(SENT, a_claim(2), Verdict.LOST, id="nothing follows a final status"),
        pytest.param(CALLED, an_outcome(), Verdict.CLOSED, id="the winner's outcome closes its attempt"),
        pytest.param(CALLED, an_outcome(nonce="loser"), Verdict.VOID, id="a loser's outcome is void"),
        pytest.param(CALLED, a_release(nonce="loser"), Verdict.VOID, id="a loser's release is void (16 steps to a double)"),
        pytest.param(CALLED, a_hold(nonce="loser"), Verdict.VOID, id="nobody can hold a loser"),
        pytest.param(QUEUED, an_outcome(), Verdict.VOID, id="an outcome without a claim is void"),
        pytest.param(CALLED, a_hold(), Verdict.CLOSED, id="an open attempt can be held"),
        pytest.param(HELD, a_hold(), Verdict.KNOWN, id="once"),
        pytest.param(SENT, a_hold(), Verdict.KNOWN, id="a hold behind an answer says nothing"),
        pytest.param(HELD, an_outcome(), Verdict.CLOSED, id="a late outcome ends a hold"),
        pytest.param(HELD, a_release(), Verdict.CLOSED, id="a late release ends a hold"),
        pytest.param(SENT, an_outcome(), Verdict.KNOWN, id="an outcome counts once"),
        pytest.param(a_status(Status.HELD, 1, answered=1), an_outcome(Outcome.UNKNOWN), Verdict.KNOWN,
                     id="an unknown outcome counts once as well"),
        pytest.param(RELEASED, a_release(), Verdict.KNOWN, id="a release counts once"),
        pytest.param(SENT_BY_EVENT, an_outcome(), Verdict.CLOSED, id="an outcome behind an event still tells who took it"),
        pytest.param(SENT_BY_EVENT, a_release(), Verdict.KNOWN, id="a release behind an event says nothing"),
        pytest.param(RELEASED, an_outcome(), Verdict.KNOWN, id="who released made no call: no outcome counts"),
        pytest.param(RESENT, an_outcome(attempt=1), Verdict.DOUBT_SETTLED, id="a late outcome settles a doubt"),
        pytest.param(RESENT, an_outcome(Outcome.UNKNOWN, 1), Verdict.VOID, id="an unknown outcome settles none"),
        pytest.param(RESENT, a_hold(1), Verdict.VOID, id="a hold settles none"),
        pytest.param(RESENT, a_release(1), Verdict.DOUBT_SETTLED, id="a late release settles a doubt"),
        pytest.param(RESENT, a_release(1, "loser"), Verdict.VOID, id="but not a loser's"),
        pytest.param(UNCONFIRMED, an_outcome(attempt=2), Verdict.DOUBT_SETTLED, id="the resend may be in doubt as well"),
        pytest.param(UNCONFIRMED, an_outcome(attempt=1), Verdict.DOUBT_SETTLED, id="beside the first attempt"),
    ],
)  # fmt: skip
def test_log_order_and_nonce_decide_what_a_record_means(
    status: EmailStatus, record: AttemptRecord, verdict: Verdict
) -> None:
    assert judge(status, record) is verdict


def test_an_attempt_is_open_while_nothing_proves_what_came_of_it() -> None:
    assert {status for status in Status if is_open(a_status(status, 1))} == {Status.PROCESSING, Status.HELD}


def test_up_to_two_attempts_are_in_doubt_at_once() -> None:
    assert doubts(QUEUED) == ()
    assert doubts(RESENT) == (Doubt(1, "n1"),)
    assert doubts(UNCONFIRMED) == (Doubt(1, "n1"), Doubt(2, "n2"))
