"""What stands behind the workers only waits; what they have passed must have had its consequence."""

from collections import Counter
from itertools import product

import pytest
from msgspec import structs

from mailstream.clock import moment
from mailstream.domain import topics
from mailstream.domain.attempt import Instead, Outcome
from mailstream.domain.request import ControlKind
from mailstream.domain.status import Status, rank_of
from streams.audit.passed import Passed
from streams.audit.report import Kind
from streams.core import fold
from tests.support.audited import ALL, hear, say, verified
from tests.support.histories import START, Scene, a_clean_scene
from tests.support.history_logs import Record

#: Requests are passed; nothing behind the checkpoint or of the events is.
NOTHING_FOLDED = Passed(requests=ALL.requests)


def sent() -> tuple[Scene, str]:
    scene = Scene()
    id_ = scene.ask(at=1)
    scene.send(id_, at=2)
    return scene, id_


def written_but_not_shown(scene: Scene, id_: str, *, at: float) -> None:
    """A claim, and the outcome of its call, of which no status tells."""
    shown, records = scene.known[id_], list(scene.records)
    scene.send(id_, at=at)
    hidden = [r for r in scene.records[len(records) :] if r.topic == topics.STATUS.name]
    scene.records = [r for r in scene.records if r not in hidden]
    scene.known[id_] = shown


def test_events_behind_the_workers_wait_and_their_statuses_lag() -> None:
    scene, id_ = sent()
    hear(scene, id_, "delivered", at=40)

    report = verified(scene, passed=ALL._replace(events=0))

    assert report.holds, report.findings
    assert report.waiting == Counter(events=1)
    assert report.behind == 1


def test_an_event_that_was_passed_and_moved_nothing_is_a_finding() -> None:
    scene, id_ = sent()
    hear(scene, id_, "delivered", at=40)

    report = verified(scene, passed=ALL)

    assert report.found == {Kind.NOT_THE_FOLD: 1}
    assert not report.waiting


def test_an_event_that_was_passed_is_owed_though_a_later_one_waits() -> None:
    scene, id_ = sent()
    hear(scene, id_, "delivered", at=40)
    hear(scene, id_, "open", at=41)

    assert verified(scene, passed=ALL._replace(events=1)).found == {Kind.NOT_THE_FOLD: 1}


def test_a_claim_and_its_outcome_behind_the_checkpoint_wait_for_the_next_owner() -> None:
    scene = Scene()
    id_ = scene.ask(at=1)
    written_but_not_shown(scene, id_, at=2)

    waits = verified(scene, passed=ALL._replace(attempts=0))
    owed = verified(scene, passed=ALL)
    half = verified(scene, passed=ALL._replace(attempts=1))

    assert waits.holds
    assert waits.behind == 1
    assert owed.found == half.found == {Kind.NOT_THE_FOLD: 1}


def test_each_topic_may_be_behind_by_itself() -> None:
    """Attempts and events come in any order to a worker that stops: every mix of what it had taken is right."""
    scene = Scene()
    id_ = scene.ask(at=1)
    claim = scene.claim(id_, at=2)
    hear(scene, id_, "deferred", at=2.5)
    scene.outcome(claim, Outcome.ACCEPTED, started=2.1, at=3)
    hear(scene, id_, "delivered", at=4)
    lives = [record.value for record in scene.records]
    queued = next(value for value in lives if getattr(value, "status", None) is Status.QUEUED)
    attempts = [value for value in lives if hasattr(value, "worker")]
    events = [value for value in lives if hasattr(value, "dedupe")]
    for folded, heard in product(range(3), range(3)):
        status = queued
        for attempt in attempts[:folded]:
            _, status = fold.attempted(status, attempt)
        for event in events[:heard]:
            status = fold.happened(status, event)
        scene.records = [r for r in scene.records if r.topic != topics.STATUS.name]
        scene.publish(status, at=5)

        assert verified(scene, passed=NOTHING_FOLDED).holds, (folded, heard)
        assert verified(scene, passed=ALL._replace(attempts=folded, events=heard)).holds, (folded, heard)


def test_a_status_that_no_part_of_the_log_gives_is_a_lie_whatever_waits() -> None:
    scene = Scene()
    id_ = scene.ask(at=1)
    scene.claim(id_, at=2)
    liar = structs.replace(scene.known[id_], status=Status.SENT, rank=rank_of(Status.SENT, 1), final=True)
    scene.publish(liar, at=3)

    assert verified(scene, passed=NOTHING_FOLDED).found == {Kind.NOT_THE_FOLD: 1}


def a_request_without_a_status() -> tuple[Scene, Record]:
    scene = a_clean_scene()
    id_ = scene.ask("ada@example.com", at=50)
    scene.records = [r for r in scene.records if r.topic != topics.STATUS.name or r.value.id != id_]
    return scene, next(r for r in scene.records if r.value.id == id_)


def test_a_request_waits_until_a_worker_has_passed_it() -> None:
    scene, asked = a_request_without_a_status()

    waits = verified(scene, passed=ALL._replace(requests=asked.offset))
    owed = verified(scene, passed=ALL._replace(requests=asked.offset + 1))

    assert waits.holds
    assert waits.waiting["requests"] >= 1
    assert owed.found == {Kind.LOST: 1}
    assert f"email.requested {asked.partition}/{asked.offset}" in owed.findings[0].what


def test_a_refused_request_has_a_status_or_is_lost() -> None:
    scene, asked = a_request_without_a_status()
    scene.dead_letter(asked, "BAD_VALUE", at=51)

    lost = verified(scene, passed=ALL)
    told = fold.rejected(
        email_id=asked.value.id,
        recipient=asked.value.id[3:11],
        place=fold.Coordinates(asked.partition, asked.offset),
        at=moment(START + 51),
        reason="BAD_VALUE",
        detail="no",
        writer="w/1",
    )
    scene.publish(told, at=52)

    assert lost.found == {Kind.LOST: 1}
    assert "BAD_VALUE" in lost.findings[0].what
    assert verified(scene, passed=ALL).holds


# -- controls ---------------------------------------------------------------------------------------------


def test_a_control_waits_until_a_worker_has_passed_it() -> None:
    scene = Scene()
    id_ = scene.ask(at=1)
    cancel = say(scene, id_, ControlKind.CANCEL, at=2)

    waits = verified(scene, passed=ALL._replace(requests=cancel.offset))
    owed = verified(scene, passed=ALL)

    assert waits.holds
    assert waits.waiting == Counter(controls=1)
    assert owed.found == {Kind.LOST: 1}
    assert f"the control at email.requested {cancel.partition}/{cancel.offset}" in owed.findings[0].what


def test_a_cancel_that_was_passed_and_did_not_stop_the_call_is_a_finding() -> None:
    scene = Scene()
    id_ = scene.ask(at=1)
    say(scene, id_, ControlKind.CANCEL, at=2)
    scene.send(id_, at=3)

    assert verified(scene, passed=ALL).found == {Kind.LOST: 1}


def test_a_control_whose_claim_won_is_decided_though_no_status_says_so_yet() -> None:
    """The claim is in the log, so the record is acked: killed before the status is written, the next owner folds it."""
    scene = Scene()
    id_ = scene.ask(at=1)
    cancel = say(scene, id_, ControlKind.CANCEL, at=2)
    queued = scene.known[id_]
    scene.end(id_, Instead.CANCELLED, at=3, control=cancel.offset, by="ops")
    scene.records = [r for r in scene.records if r.topic != topics.STATUS.name]
    scene.publish(queued, at=4)

    waits = verified(scene, passed=ALL._replace(attempts=0))
    owed = verified(scene, passed=ALL)

    assert waits.holds, waits.findings
    assert waits.behind == 1
    assert owed.found == {Kind.NOT_THE_FOLD: 1}


def test_a_control_that_came_when_all_was_over_and_stands_nowhere_is_no_loss() -> None:
    scene, id_ = sent()
    say(scene, id_, ControlKind.CANCEL, at=30)

    assert verified(scene, passed=ALL).holds


def test_a_control_that_became_a_dead_letter_is_decided() -> None:
    scene = Scene()
    id_ = scene.ask(at=1)
    scene.dead_letter(say(scene, id_, ControlKind.CANCEL, at=2, tenant="other"), "ID_CONFLICT", at=3)

    assert verified(scene, passed=ALL).holds


@pytest.mark.parametrize("is_won", [True, False])
def test_a_control_that_won_or_was_refused_is_decided(*, is_won: bool) -> None:
    scene = Scene()
    id_ = scene.ask(at=1)
    cancel = say(scene, id_, ControlKind.CANCEL, at=2)
    if is_won:
        scene.end(id_, Instead.CANCELLED, at=3, control=cancel.offset, by="ops")
    else:
        refused = fold.noted_control(
            scene.known[id_],
            control=cancel.offset,
            what="cancel_refused",
            why="already_sending",
            by="",
            at=moment(START + 3),
        )
        scene.publish(refused, at=3)
        scene.send(id_, at=4)

    report = verified(scene, passed=ALL)

    assert report.holds, report.findings


# -- other things that only wait --------------------------------------------------------------------------


def test_an_old_status_on_top_waits_for_the_next_owner_when_no_checkpoint_knows_it() -> None:
    scene, id_ = sent()
    first = next(r.value for r in scene.records if r.topic == topics.STATUS.name)
    scene.publish(structs.replace(first, writer="worker-1/b1"), at=60)
    end = scene.end_of(topics.STATUS.name, scene.partition_of(id_))

    waits = verified(scene, passed=ALL._replace(statuses=end - 1))
    owed = verified(scene, passed=ALL._replace(statuses=end))

    assert waits.holds
    assert waits.behind == 1
    assert owed.found == {Kind.STALE: 1}
