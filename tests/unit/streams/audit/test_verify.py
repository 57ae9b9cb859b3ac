"""The audit finds what is planted, and nothing in a clean log."""

from collections import Counter
from collections.abc import Callable

import pytest
from msgspec import structs

from mailstream.domain import topics
from mailstream.domain.attempt import Instead, Outcome
from mailstream.domain.request import Address, EmailRequest, OnAmbiguous
from mailstream.domain.status import Coordinates, EmailStatus, Status, rank_of
from streams.audit.report import Kind
from tests.support.audited import verified
from tests.support.histories import GAP, START, Scene, a_clean_scene

OTHER = "worker-1/b1"


def test_a_clean_log_holds_and_is_counted() -> None:
    report = verified(a_clean_scene())

    assert report.holds, report.findings
    assert report.emails == 6
    assert report.accepted == 4
    assert report.statuses == {"SENT": 4, "CANCELLED": 1, "FAILED": 1}
    assert report.smallest_gap == pytest.approx(GAP)


def test_an_id_that_was_forgotten_and_asked_for_again_has_two_lives() -> None:
    """The first one's attempts are still there, and say nothing about the second."""
    scene = Scene()
    id_ = scene.ask(at=50)
    queued, partition = scene.known[id_], scene.partition_of(id_)
    scene.send(id_, at=51)
    scene.records = [r for r in scene.records if r.topic != topics.STATUS.name]  # a tombstone, and compaction
    again = scene.append(topics.REQUESTED.name, partition, 100, EmailRequest(to=Address("ada@example.com"), id=id_))
    scene.publish(structs.replace(queued, order=again.offset, request=Coordinates(partition, again.offset)), at=100.1)

    assert verified(scene).holds, "it waits, though the log holds an accepted call"
    scene.send(id_, at=101)
    report = verified(scene)

    assert report.holds, report.findings
    assert report.accepted == 1


def lost() -> Scene:
    scene = a_clean_scene()
    victim = scene.ask("ada@example.com", at=50)
    scene.ask("ada@example.com", at=51)  # taken after it, by the same partition
    scene.records = [r for r in scene.records if r.topic != topics.STATUS.name or r.value.id != victim]
    return scene


def lost_body() -> Scene:
    scene = Scene()
    id_ = scene.ask(at=50)
    scene.records = [r for r in scene.records if r.topic != topics.REQUESTED.name or r.value.id != id_]
    return scene


def doubled() -> Scene:
    scene = a_clean_scene()
    id_ = scene.ask(at=50)
    first = scene.claim(id_, at=51)
    scene.release(first, at=52)
    scene.send(id_, at=53)
    scene.outcome(first, Outcome.ACCEPTED, started=55, at=56)
    return scene


def sent_without_proof_in_the_log() -> Scene:
    scene = a_clean_scene()
    id_ = scene.ask(at=50)
    queued = scene.known[id_]
    scene.publish(structs.replace(queued, status=Status.SENT, rank=rank_of(Status.SENT, 0), final=True), at=51)
    return scene


def another_attempt_than_in_the_log() -> Scene:
    scene = a_clean_scene()
    cancelled = next(status for status in scene.known.values() if status.status is Status.CANCELLED)
    scene.publish(structs.replace(cancelled, attempt=2, rank=rank_of(Status.CANCELLED, 2)), at=60)
    return scene


def an_old_status_on_top() -> Scene:
    scene = a_clean_scene()
    id_ = scene.calls[0].id
    first: EmailStatus = next(r.value for r in scene.records if r.topic == topics.STATUS.name and r.value.id == id_)
    scene.publish(structs.replace(first, writer=OTHER), at=60)
    return scene


def an_outcome_of_a_loser() -> Scene:
    scene = a_clean_scene()
    id_ = scene.ask(at=50)
    winner = scene.claim(id_, at=51)
    scene.note(loser := structs.replace(winner, nonce="late", worker=OTHER), at=52)
    scene.outcome(winner, Outcome.ACCEPTED, started=53, at=54)
    scene.outcome(loser, Outcome.ACCEPTED, started=55, at=56)
    return scene


def too_close() -> Scene:
    scene = a_clean_scene()
    scene.send(scene.ask("gus@example.com", at=50), at=9 + GAP - 0.001)
    return scene


PLANTED = [
    pytest.param(Kind.LOST, lost, id="passed by and without a status"),
    pytest.param(Kind.LOST, lost_body, id="waits, and its request is gone"),
    pytest.param(Kind.DUPLICATE, doubled, id="two accepted calls, none marked"),
    pytest.param(Kind.NOT_THE_FOLD, sent_without_proof_in_the_log, id="SENT without proof"),
    pytest.param(Kind.NOT_THE_FOLD, another_attempt_than_in_the_log, id="another attempt"),
    pytest.param(Kind.STALE, an_old_status_on_top, id="an old status on top"),
    pytest.param(Kind.NO_SAY, an_outcome_of_a_loser, id="an outcome of a loser"),
    pytest.param(Kind.GAP, too_close, id="two calls too close"),
]


@pytest.mark.parametrize(("kind", "plant"), PLANTED)
def test_a_planted_fault_is_found(kind: Kind, plant: Callable[[], Scene]) -> None:
    report = verified(plant())

    assert not report.holds
    assert kind.value in report.found, report.findings


def test_every_kind_of_finding_has_a_planted_fault() -> None:
    assert {param.values[0] for param in PLANTED} == set(Kind)


def test_a_marked_resend_is_no_duplicate() -> None:
    scene = Scene()
    id_ = scene.ask(at=1, on_ambiguous=OnAmbiguous.RESEND)
    first = scene.claim(id_, at=2)
    scene.hold(first, at=30)
    scene.send(id_, at=60, worker=OTHER, possible_duplicate=True)
    scene.outcome(first, Outcome.ACCEPTED, started=3, at=70)

    report = verified(scene)

    assert report.holds, report.findings
    assert (report.accepted, report.marked) == (2, 1)


def test_what_no_worker_has_taken_yet_waits_and_is_not_lost() -> None:
    scene = a_clean_scene()
    id_ = scene.ask(at=50)
    scene.records = [r for r in scene.records if r.topic != topics.STATUS.name or r.value.id != id_]

    report = verified(scene)

    assert report.holds, report.findings
    assert report.waiting == Counter(requests=1)


def test_what_changed_just_now_is_not_judged() -> None:
    report = verified(sent_without_proof_in_the_log(), before=START + 50.5)

    assert report.holds
    assert report.unsettled == 1


def test_an_email_whose_beginning_the_log_forgot_is_not_judged() -> None:
    scene = Scene()
    id_ = scene.ask(at=1)
    scene.end(id_, Instead.EXPIRED, at=2)
    scene.records = [r for r in scene.records if r.topic == topics.STATUS.name]

    report = verified(scene)

    assert report.holds
    assert report.not_judged == 1


def test_with_a_burst_only_the_rate_is_judged() -> None:
    scene = Scene()
    for n in range(30):
        scene.send(scene.ask(f"{n}@example.com", at=0), at=1 + n * 0.5)

    assert "GAP" in verified(scene, gap=2.0, burst=5).found
    assert verified(scene, gap=0.5, burst=5).holds
