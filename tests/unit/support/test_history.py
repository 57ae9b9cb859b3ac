"""The checker of histories finds every planted fault, and nothing in a clean history."""

from collections.abc import Callable
from typing import Any

import pytest
from msgspec import structs

from mailstream.clock import moment
from mailstream.domain import codec, topics
from mailstream.domain.attempt import Outcome
from mailstream.domain.request import Address, Control, ControlKind, EmailRequest, OnAmbiguous
from tests.support.histories import GAP, START, Scene, a_clean_scene
from tests.support.history import History
from tests.support.history_logs import Ask, FaultKind, Result, record
from tests.support.verdict import INVARIANTS, exposed, judge
from tests.unit.support import planted_calls, planted_ends, planted_lanes, planted_showing, planted_times, planted_words
from tests.unit.support.planted_sending import OTHER, killed, resent
from tests.unit.support.planted_times import not_accepted
from tests.unit.support.planting import PLANTED

MODULES = (planted_calls, planted_ends, planted_lanes, planted_showing, planted_times, planted_words)


def test_a_clean_history_has_no_finding_and_true_figures() -> None:
    verdict = judge(a_clean_scene().history())

    assert not verdict.findings, str(verdict)
    assert verdict.holds
    wanted = {"asked": 6, "accepted": 4, "lost": 0, "unfinished": 0, "held": 1, "held resolved": 1, "min gap": GAP}
    assert wanted.items() <= verdict.figures.items()


@pytest.mark.parametrize(("invariant", "plant", "variant"), PLANTED)
def test_a_planted_fault_is_found(invariant: str, plant: Callable[..., History], variant: tuple[Any, ...]) -> None:
    verdict = judge(plant(*variant))

    assert not verdict.holds
    assert invariant in {finding.invariant for finding in verdict.findings}, str(verdict)


def test_every_invariant_has_a_planted_fault() -> None:
    assert {param.values[0] for param in PLANTED} == INVARIANTS.keys()


def test_findings_carry_the_number_of_the_invariant_that_found_them() -> None:
    for param in PLANTED:
        history = param.values[1](*param.values[2])
        for name, check in INVARIANTS.items():
            assert {finding.invariant for finding in check(history)} <= {name}


def test_a_marked_resend_that_was_chosen_is_no_finding_and_is_counted() -> None:
    verdict = judge(resent(Scene(), on_ambiguous=OnAmbiguous.RESEND))

    assert not verdict.findings, str(verdict)
    assert verdict.figures["marked"] == 1


def test_an_operators_resend_is_a_choice_too() -> None:
    scene = Scene()
    history = resent(scene)
    (id_,) = scene.known
    scene.append(
        topics.REQUESTED.name, scene.partition_of(id_), 50, Control(kind=ControlKind.RESOLVE, id=id_, to="RESEND")
    )

    verdict = judge(History(run=history.run, asks=scene.asks, calls=scene.calls, records=scene.records))

    assert not verdict.findings, str(verdict)


def test_an_unanswered_ask_is_never_counted_as_failed_nor_as_promised() -> None:
    scene = a_clean_scene()
    scene.asks.append(Ask(START + 50, Result.INFO))

    verdict = judge(scene.history())

    assert verdict.holds
    assert verdict.figures["unanswered"] == 1


def test_an_old_status_of_a_former_owner_that_was_mended_is_no_finding() -> None:
    scene = a_clean_scene()
    sent = scene.known[scene.calls[0].id or ""]
    first = next(r.value for r in scene.records if r.topic == topics.STATUS.name and r.value.id == sent.id)
    scene.publish(structs.replace(first, writer=OTHER), at=60)
    scene.publish(sent, at=61)

    assert judge(scene.history()).holds


def test_a_call_delayed_by_a_pause_behind_the_gate_is_listed_apart() -> None:
    scene = Scene()
    late, next_ = scene.ask("ada@example.com", at=0), scene.ask("bob@example.com", at=0)
    claim = scene.claim(late, at=1)
    scene.fault(FaultKind.PAUSE, at=2.01)
    scene.fault(FaultKind.RESUME, at=20)
    scene.call(claim, at=20.01)
    scene.outcome(claim, Outcome.ACCEPTED, started=2, at=20.1)
    scene.send(next_, at=20.5, worker=OTHER)

    verdict = judge(scene.history())

    assert not verdict.findings, str(verdict)
    assert len(verdict.apart) == 1


def test_an_outcome_that_was_appended_twice_is_one_call() -> None:
    scene = a_clean_scene()
    claim = scene.claim(scene.ask("gus@example.com", at=50), at=60)
    scene.call(claim, at=61)
    for at in (61.2, 62.2):
        scene.outcome(claim, Outcome.ACCEPTED, started=61, at=at)

    assert not judge(scene.history()).findings


def test_who_is_overtaken_behind_a_retry_is_listed_apart() -> None:
    scene = Scene()
    earlier, later = scene.ask(at=1), scene.ask(at=2)
    not_accepted(scene, earlier, at=2.5, retry_at=4)
    scene.send(later, at=3)
    scene.send(earlier, at=5)

    verdict = judge(scene.history())

    assert not verdict.findings, str(verdict)
    assert len(verdict.apart) == 1


def test_what_is_due_later_may_be_called_later() -> None:
    scene = Scene()
    earlier, later = scene.ask(at=1, send_at=moment(START + 4)), scene.ask(at=2)
    scene.send(later, at=3)
    scene.send(earlier, at=5)

    assert judge(scene.history()).holds


def test_recovery_is_timed_from_the_last_fault_and_only_where_something_waited() -> None:
    slow_but_fair = killed(next_call=3 + 30 + 5 + GAP - 1)

    assert judge(slow_but_fair).holds
    assert judge(slow_but_fair).figures["p99 recovery"] == pytest.approx(36)


def test_emails_in_flight_at_a_fault_are_exposed() -> None:
    scene = Scene()
    id_ = scene.ask(at=0)
    claim = scene.claim(id_, at=1)
    scene.call(claim, at=2)
    scene.fault(FaultKind.KILL, at=2.5)
    scene.hold(claim, at=30)

    history = scene.history()

    assert exposed(history) == {id_}
    assert judge(history).figures["unfinished"] == 1


def test_records_are_decoded_as_they_come_from_kafka_and_poison_stays_bytes() -> None:
    request = EmailRequest(to=Address("ada@example.com"), id="em_1c2f9a3b_x")

    good = record(topics.REQUESTED.name, 1, 2, 3000, b"k", codec.encode(request), [("h", b"v")])
    poison = record(topics.REQUESTED.name, 1, 3, 3000, None, b"\xff")

    assert good.value == request
    assert good.at == 3.0
    assert poison.value == b"\xff"
