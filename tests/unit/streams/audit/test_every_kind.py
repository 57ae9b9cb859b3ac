"""For all that may happen to an email the audit's fold gives the status that its worker publishes; and broken ones do not."""

from collections.abc import Callable

import pytest
from msgspec import structs

from mailstream.clock import moment
from mailstream.domain import topics
from mailstream.domain.attempt import Instead, Outcome, OutcomeRecord
from mailstream.domain.request import ControlKind, OnAmbiguous
from mailstream.domain.status import EmailStatus, Status, rank_of
from streams.audit.report import Kind, Report
from streams.core import fold
from tests.support.audited import ALL, hear, say, verified
from tests.support.histories import START, Scene

OTHER = "worker-1/b1"


def asked(**more: object) -> tuple[Scene, str]:
    scene = Scene()
    return scene, scene.ask(at=1, **more)


def take(scene: Scene, id_: str, event: str, *, at: float, **more: object) -> None:
    """An event comes, and the owner shows what it means."""
    heard = hear(scene, id_, event, at=at, **more)
    scene.publish(fold.happened(scene.known[id_], heard), at=at + 0.01)


def decide(scene: Scene, id_: str, what: str, control: int, *, at: float, **changes: object) -> None:
    """The owner shows a control that needed no claim."""
    noted = fold.noted_control(scene.known[id_], control=control, what=what, why=None, by="ops", at=moment(START + at))
    scene.publish(structs.replace(noted, **changes), at=at)


def repeat(scene: Scene, id_: str, result: Outcome, *, at: float) -> None:
    """The newest outcome is appended again: its acknowledgement was lost. It changes no status."""
    again = next(
        r.value
        for r in reversed(scene.records)
        if isinstance(r.value, OutcomeRecord) and r.value.id == id_ and r.value.result is result
    )
    scene.append(topics.ATTEMPTS.name, scene.partition_of(id_), at, again)


# -- clean ------------------------------------------------------------------------------------------------


def rescheduled_then_cancelled() -> Scene:
    scene, id_ = asked()
    later = say(scene, id_, ControlKind.RESCHEDULE, at=2, send_at=moment(START + 500))
    scene.end(id_, Instead.RESCHEDULED, at=3, control=later.offset, not_before=moment(START + 500))
    cancel = say(scene, id_, ControlKind.CANCEL, at=4)
    scene.end(id_, Instead.CANCELLED, at=5, control=cancel.offset)
    late = say(scene, id_, ControlKind.CANCEL, at=6)
    decide(scene, id_, "cancel_refused", late.offset, at=7)
    return scene


def rescheduled_and_sent() -> Scene:
    scene, id_ = asked()
    later = say(scene, id_, ControlKind.RESCHEDULE, at=2, send_at=moment(START + 50))
    scene.end(id_, Instead.RESCHEDULED, at=3, control=later.offset, not_before=moment(START + 50))
    scene.send(id_, at=51)
    take(scene, id_, "delivered", at=60)
    return scene


def held(**more: object) -> tuple[Scene, str]:
    scene, id_ = asked(**more)
    scene.call(claim := scene.claim(id_, at=2), at=3, answer="reset")
    scene.hold(claim, at=30)
    return scene, id_


def resolved_as_sent() -> Scene:
    scene, id_ = held()
    word = say(scene, id_, ControlKind.RESOLVE, at=40, to="SENT")
    scene.end(id_, Instead.SENT, at=41, control=word.offset, by="ops")
    return scene


def resolved_as_unconfirmed_then_proven() -> Scene:
    scene, id_ = held()
    word = say(scene, id_, ControlKind.RESOLVE, at=40, to="UNCONFIRMED")
    scene.end(id_, Instead.UNCONFIRMED, at=41, control=word.offset, by="ops")
    take(scene, id_, "delivered", at=50)
    return scene


def resolved_by_a_resend() -> Scene:
    scene, id_ = held()
    word = say(scene, id_, ControlKind.RESOLVE, at=40, to="RESEND")
    decide(scene, id_, "resend_ordered", word.offset, at=41, on_ambiguous=OnAmbiguous.RESEND)
    scene.send(id_, at=45, worker=OTHER, possible_duplicate=True)
    return scene


def carried_forward() -> Scene:
    scene, id_ = asked()
    first = next(r for r in scene.records if r.topic == topics.REQUESTED.name)
    copy = scene.append(topics.REQUESTED.name, first.partition, 400, first.value, mailstream_carried=b"0")
    place = fold.Coordinates(copy.partition, copy.offset)
    scene.publish(fold.carried(scene.known[id_], place, moment(copy.at)), at=401)
    scene.records.remove(first)  # its retention is over
    scene.send(id_, at=500)
    return scene


def digested() -> Scene:
    scene = Scene()
    leader, other = scene.ask(at=1), scene.ask(at=2)
    claim = scene.claim(leader, at=10)
    scene.end(other, Instead.SUPPRESSED, at=10.1, into=leader, reason=f"digested into {leader}")
    scene.call(claim, at=10.2)
    scene.outcome(claim, Outcome.ACCEPTED, started=10.2, at=10.3)
    return scene


def failed_and_redriven() -> Scene:
    scene, id_ = asked()
    claim = scene.claim(id_, at=2)
    scene.outcome(claim, Outcome.REFUSED, started=2.1, at=3)
    scene.send(scene.ask(at=50, redrive_of=id_), at=60)
    return scene


def retried() -> Scene:
    scene, id_ = asked()
    scene.outcome(scene.claim(id_, at=2), Outcome.NOT_ACCEPTED, started=2.1, at=3)
    scene.release(scene.claim(id_, at=5), at=6)
    scene.send(id_, at=10)
    return scene


def heard_before_the_answer() -> Scene:
    scene, id_ = asked()
    claim = scene.claim(id_, at=2)
    take(scene, id_, "processed", at=2.5)
    scene.outcome(claim, Outcome.ACCEPTED, started=2.1, at=3)
    return scene


def expired() -> Scene:
    scene, id_ = asked(expires_at=moment(START + 5))
    scene.end(id_, Instead.EXPIRED, at=6)
    return scene


def an_outcome_appended_again() -> Scene:
    scene, id_ = asked()
    scene.send(id_, at=2)
    repeat(scene, id_, Outcome.ACCEPTED, at=3)
    return scene


def an_old_outcome_appended_again_behind_the_next_claim() -> Scene:
    scene, id_ = asked()
    scene.outcome(scene.claim(id_, at=2), Outcome.NOT_ACCEPTED, started=2.1, at=3)
    claim = scene.claim(id_, at=10)
    repeat(scene, id_, Outcome.NOT_ACCEPTED, at=10.1)
    scene.outcome(claim, Outcome.ACCEPTED, started=11, at=12)
    return scene


def the_first_call_of_a_resend_says_that_it_does_not_know() -> Scene:
    scene, id_ = held(on_ambiguous=OnAmbiguous.RESEND)
    first = next(r.value for r in scene.records if r.topic == topics.ATTEMPTS.name)
    scene.send(id_, at=40, worker=OTHER, possible_duplicate=True)
    scene.outcome(first, Outcome.UNKNOWN, started=3, at=50)
    return scene


def evidence_beside_a_resend() -> Scene:
    """The event is in the log a moment before the claim whose worker has not heard of it. No order is between topics."""
    scene, id_ = held(on_ambiguous=OnAmbiguous.RESEND)
    event = hear(scene, id_, "processed", at=39.98)
    scene.send(id_, at=40, worker=OTHER, possible_duplicate=True)
    scene.publish(fold.happened(scene.known[id_], event), at=41)
    return scene


def a_repeat_refused_behind_a_request_that_is_gone() -> Scene:
    """The first request is older than its topic keeps; a repeat with other content, a dead letter, is not."""
    scene, id_ = asked()
    first = next(r for r in scene.records if r.topic == topics.REQUESTED.name)
    again = scene.append(topics.REQUESTED.name, first.partition, 10, first.value)
    scene.dead_letter(again, "ID_CONFLICT", at=11)
    scene.send(id_, at=20)
    scene.records.remove(first)
    return scene


def a_bad_repeat_before_the_carried_copy() -> Scene:
    scene, id_ = asked()
    first = next(r for r in scene.records if r.topic == topics.REQUESTED.name)
    scene.dead_letter(scene.append(topics.REQUESTED.name, first.partition, 10, first.value), "BAD_VALUE", at=11)
    copy = scene.append(topics.REQUESTED.name, first.partition, 400, first.value, mailstream_carried=b"0")
    place = fold.Coordinates(copy.partition, copy.offset)
    scene.publish(fold.carried(scene.known[id_], place, moment(copy.at)), at=401)
    scene.records.remove(first)
    return scene


CLEAN = [
    rescheduled_then_cancelled,
    rescheduled_and_sent,
    resolved_as_sent,
    resolved_as_unconfirmed_then_proven,
    resolved_by_a_resend,
    carried_forward,
    digested,
    failed_and_redriven,
    retried,
    heard_before_the_answer,
    expired,
    an_outcome_appended_again,
    an_old_outcome_appended_again_behind_the_next_claim,
    the_first_call_of_a_resend_says_that_it_does_not_know,
    evidence_beside_a_resend,
    a_repeat_refused_behind_a_request_that_is_gone,
    a_bad_repeat_before_the_carried_copy,
]


@pytest.mark.parametrize("play", CLEAN)
def test_what_a_worker_publishes_is_what_the_audit_folds(play: Callable[[], Scene]) -> None:
    report = verified(play(), passed=ALL)

    assert report.holds, report.findings
    assert (report.not_judged, report.unsettled, report.behind) == (0, 0, 0)
    assert not report.waiting


# -- broken -----------------------------------------------------------------------------------------------


def shown_as(scene: Scene, id_: str, status: Status, attempt: int) -> None:
    known: EmailStatus = scene.known[id_]
    scene.publish(
        structs.replace(known, status=status, rank=rank_of(status, attempt), attempt=attempt, final=True), at=70
    )


def sent_without_an_outcome() -> Scene:
    scene, id_ = asked()
    scene.claim(id_, at=2)
    shown_as(scene, id_, Status.SENT, 1)
    return scene


def delivered_without_an_event() -> Scene:
    scene, id_ = asked()
    scene.send(id_, at=2)
    shown_as(scene, id_, Status.DELIVERED, 1)
    return scene


def cancelled_without_a_claim() -> Scene:
    scene, id_ = asked()
    shown_as(scene, id_, Status.CANCELLED, 1)
    return scene


def cancelled_by_a_claim_that_lost() -> Scene:
    scene, id_ = asked()
    claim = scene.claim(id_, at=2)
    lost = structs.replace(claim, nonce="late", worker=OTHER, instead=Instead.CANCELLED)
    scene.note(lost, at=2.1)
    shown_as(scene, id_, Status.CANCELLED, 1)
    return scene


def a_digest_whose_event_nobody_ended() -> Scene:
    scene = digested()
    other = next(status.id for status in scene.known.values() if status.digested_into)
    scene.records = [r for r in scene.records if r.topic != topics.ATTEMPTS.name or r.value.id != other]
    return scene


def a_reschedule_that_the_status_does_not_know() -> Scene:
    scene, id_ = asked()
    later = say(scene, id_, ControlKind.RESCHEDULE, at=2, send_at=moment(START + 500))
    queued = scene.known[id_]
    scene.end(id_, Instead.RESCHEDULED, at=3, control=later.offset, not_before=moment(START + 500))
    scene.records = [r for r in scene.records if r.topic != topics.STATUS.name]
    scene.publish(queued, at=70)
    return scene


def a_call_of_a_loser() -> Scene:
    scene, id_ = asked()
    winner = scene.claim(id_, at=2)
    scene.note(loser := structs.replace(winner, nonce="late", worker=OTHER), at=2.1)
    scene.outcome(loser, Outcome.REFUSED, started=3, at=3.1)
    scene.outcome(winner, Outcome.ACCEPTED, started=6, at=6.1)
    take(scene, id_, "delivered", at=10)
    return scene


def accepted_twice_and_appended_again() -> Scene:
    scene, id_ = asked()
    first = scene.claim(id_, at=2)
    scene.release(first, at=3)
    scene.send(id_, at=4)
    repeat(scene, id_, Outcome.ACCEPTED, at=5)
    scene.outcome(first, Outcome.ACCEPTED, started=2.1, at=6)
    return scene


BROKEN = [
    (Kind.NOT_THE_FOLD, sent_without_an_outcome),
    (Kind.NOT_THE_FOLD, delivered_without_an_event),
    (Kind.NOT_THE_FOLD, cancelled_without_a_claim),
    (Kind.NOT_THE_FOLD, cancelled_by_a_claim_that_lost),
    (Kind.NOT_THE_FOLD, a_digest_whose_event_nobody_ended),
    (Kind.NOT_THE_FOLD, a_reschedule_that_the_status_does_not_know),
    (Kind.NO_SAY, a_call_of_a_loser),
    (Kind.DUPLICATE, accepted_twice_and_appended_again),
]


@pytest.mark.parametrize(("kind", "play"), BROKEN)
def test_what_no_log_explains_is_found(kind: Kind, play: Callable[[], Scene]) -> None:
    report: Report = verified(play(), passed=ALL)

    assert kind in report.found, report.findings


def test_a_repeated_outcome_is_one_call() -> None:
    report = verified(an_outcome_appended_again(), passed=ALL)

    assert report.accepted == 1
    assert report.smallest_gap is None
