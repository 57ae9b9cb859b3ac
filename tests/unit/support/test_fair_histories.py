"""Histories in which faults did what faults may do: nothing is found, and what they excuse is named."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from msgspec import structs

from mailstream.clock import moment
from mailstream.domain import email_id, topics
from mailstream.domain.attempt import Instead, Outcome, OutcomeRecord
from mailstream.domain.recipient import canonical
from mailstream.domain.request import Address, Cap, Control, ControlKind, EmailRequest, Lane, OnAmbiguous
from mailstream.domain.status import Status
from mailstream.domain.suppression import Origin, Suppression, key_of
from tests.support.histories import GAP, START, Scene, a_clean_scene
from tests.support.history import History, Run
from tests.support.history_logs import Ask, Audit, FaultKind, Record, Result, Sample
from tests.support.verdict import judge
from tests.unit.support import fair_words
from tests.unit.support.planted_lanes import lanes
from tests.unit.support.planted_times import behind_a_kill, late_scene, not_accepted
from tests.unit.support.planted_words import held, reschedule
from tests.unit.support.planting import FAIR, fair

OTHER = "worker-1/b1"
MODULES = (fair_words,)


@pytest.mark.parametrize(("make", "variant"), FAIR)
def test_a_fair_history_has_no_finding(make: Callable[..., History], variant: tuple[Any, ...]) -> None:
    verdict = judge(make(*variant))

    assert not verdict.findings, str(verdict)


ENDS = {
    FaultKind.PAUSE: FaultKind.RESUME,
    FaultKind.CUT: FaultKind.MEND,
    FaultKind.BROKER_DOWN: FaultKind.BROKER_UP,
    FaultKind.ALL_DOWN: FaultKind.ALL_UP,
    FaultKind.TOPIC_REFUSES: FaultKind.TOPIC_TAKES,
}


@fair(FaultKind.KILL, *ENDS)
def in_doubt_as_its_worker_was_hit(kind: FaultKind) -> History:
    scene = a_clean_scene()
    claim = scene.claim(scene.ask("gus@example.com", at=50), at=51)
    target = {FaultKind.BROKER_DOWN: "broker", FaultKind.TOPIC_REFUSES: topics.ATTEMPTS.name}.get(kind, "worker-0")
    scene.fault(kind, target, at=51.5)
    if kind in ENDS:
        scene.fault(ENDS[kind], target, at=55)
    scene.hold(claim, at=80)
    scene.end(claim.id, Instead.UNCONFIRMED, at=110, worker=OTHER)
    return scene.history()


@fair(Lane.NORMAL, Lane.BULK)
def waiting_behind_a_higher_lane_after_a_kill(lane: Lane) -> History:
    """Its partition is worked on: that is no silence, however long this one mail waits."""
    return behind_a_kill(is_in_partition=True, calls=12, lane=lane)


@fair()
def a_release_of_a_claim_that_the_broker_did_not_take() -> History:
    scene = a_clean_scene()
    claim = scene.claim(scene.ask("gus@example.com", at=50), at=51)
    scene.call(claim, at=51.1)
    scene.outcome(claim, Outcome.ACCEPTED, started=51.1, at=51.2)
    scene.release(structs.replace(claim, nonce="not in the log"), at=55)
    return scene.history()


@fair()
def in_doubt_as_the_call_was_cut_off_before_it_was_read() -> History:
    scene = a_clean_scene()
    claim = scene.claim(scene.ask("gus@example.com", at=50), at=51)
    scene.calls.append(structs.replace(scene.call(claim, at=51.5, accepted=False, answer="reset"), id=None, nonce=None))
    del scene.calls[-2]
    scene.outcome(claim, Outcome.UNKNOWN, started=51.5, at=52)
    return scene.history()


@fair(
    (FaultKind.KILL, 0.2, -9), (FaultKind.STOP, 3, 0), (FaultKind.PAUSE, 12, 1), (FaultKind.CUT, 12, 1),
    (FaultKind.BROKER_DOWN, 12, 1),
)  # fmt: skip
def an_exit_with_its_blow(kind: tuple[FaultKind, float, int]) -> History:
    what, seconds, code = kind
    scene = a_clean_scene()
    for n in range(3):
        target = "broker" if what is FaultKind.BROKER_DOWN else "worker-0"
        scene.fault(what, target, at=100 * n)
        if what in ENDS:
            scene.fault(ENDS[what], target, at=100 * n + 5)
        scene.fault(FaultKind.EXIT, at=100 * n + seconds, code=code)
    return scene.history()


@fair()
def each_worker_ends_once_as_the_broker_is_away() -> History:
    scene = a_clean_scene()
    scene.fault(FaultKind.BROKER_DOWN, "broker", at=50)
    scene.fault(FaultKind.BROKER_UP, "broker", at=55)
    for n in range(3):
        scene.fault(FaultKind.EXIT, f"worker-{n}", at=56 + n, code=1)
    return scene.history()


@fair("expired", "rescheduled", "suppressed", "capped", "refused", "retries")
def an_ending_with_its_cause(how: str) -> History:
    scene = a_clean_scene()
    more: dict[str, Any] = {"expired": {"expires_at": moment(START + 51)}, "capped": {"cap": Cap("k", 1, 60)}}.get(
        how, {}
    )
    if how == "capped":
        scene.send(scene.ask("gus@example.com", at=49, **more), at=49.5)
    id_ = scene.ask("gus@example.com", at=50, **more)
    match how:
        case "expired":
            scene.end(id_, Instead.EXPIRED, at=51.2)
        case "rescheduled":
            reschedule(scene, id_, at=51, to=80)
            scene.send(id_, at=81)
        case "suppressed":
            said = Suppression(
                tenant="t", recipient="", address="", origin=Origin.BOUNCE, since=moment(START), reason="bounced"
            )
            key = key_of("t", canonical("gus@example.com"))
            scene.records.append(Record(topics.SUPPRESSIONS.name, 0, 0, START + 50.5, said, key))
            scene.end(id_, Instead.SUPPRESSED, at=51)
        case "capped":
            scene.end(id_, Instead.SUPPRESSED, at=51)
        case "refused":
            claim = scene.claim(id_, at=51)
            scene.call(claim, at=52, accepted=False, answer="413")
            scene.outcome(claim, Outcome.REFUSED, started=52, at=52.1)
        case "retries":
            scene.run = Run(gap_seconds=GAP, retries=1)
            for n in range(2):
                claim = scene.claim(id_, at=51 + 10 * n)
                scene.call(claim, at=52 + 10 * n, accepted=False, answer="429")
                about = {"id": id_, "attempt": claim.attempt, "nonce": claim.nonce, "worker": claim.worker}
                at = moment(START + 53 + 10 * n)
                scene.note(OutcomeRecord(**about, at=at, result=Outcome.NOT_ACCEPTED, counts=True), at=53 + 10 * n)
            scene.end(id_, Instead.FAILED, at=70)
    return scene.history()


@fair("invalid", "unreadable", "conflict", "unknown")
def a_dead_letter_with_its_cause(how: str) -> History:
    scene = a_clean_scene()
    id_ = scene.ask("gus@example.com", at=50)
    place = scene.partition_of(id_)
    other = EmailRequest(to=Address("gus@example.com"), id=id_, subject="Other", text="…", tenant="t")
    value: Any = {
        "invalid": EmailRequest(to=Address("nobody"), subject="Hello", text="…"),
        "unreadable": b"\xff",
        "conflict": other,
        "unknown": Control(kind=ControlKind.CANCEL, id=email_id.new("hal@example.com")),
    }[how]
    reason = {"invalid": "BAD_ADDRESS", "unreadable": "NOT_JSON", "conflict": "ID_CONFLICT", "unknown": "UNKNOWN_ID"}
    scene.dead_letter(scene.append(topics.REQUESTED.name, place, 51, value), reason[how], at=51.1)
    scene.send(id_, at=52)
    return scene.history()


@fair()
def a_delivery_that_the_provider_told() -> History:
    scene = a_clean_scene()
    for call, event in zip(scene.calls[:2], ("delivered", "bounce"), strict=True):
        scene.event(call.id or "", "processed", at=50)
        scene.event(call.id or "", event, at=51)
        scene.look_up(call.id or "", at=52)
    return scene.history()


@fair()
def a_marked_resend_whose_worker_could_not_read_the_event() -> History:
    scene = Scene(Run(gap_seconds=GAP))
    id_ = held(scene, on_ambiguous=OnAmbiguous.RESEND)
    known = scene.known[id_]
    scene.fault(FaultKind.PAUSE, "worker-1", at=39)
    scene.event(id_, "processed", at=40)
    scene.known[id_] = known
    del scene.records[-1]
    scene.fault(FaultKind.RESUME, "worker-1", at=59)
    scene.calls[0] = structs.replace(scene.calls[0], is_accepted=True)
    scene.send(id_, at=60, worker=OTHER, possible_duplicate=True)
    return scene.history()


@fair()
def a_claim_that_came_just_behind_an_event() -> History:
    scene = a_clean_scene()
    id_ = scene.ask("gus@example.com", at=50, on_ambiguous=OnAmbiguous.RESEND)
    first = scene.claim(id_, at=51)
    scene.call(first, at=52, answer="drop")
    scene.hold(first, at=60)
    scene.event(id_, "processed", at=70)
    resend = structs.replace(first, attempt=2, nonce="late", worker=OTHER, possible_duplicate=True)
    scene.append(topics.ATTEMPTS.name, scene.partition_of(id_), 70.2, resend)
    scene.look_up(id_, at=99)
    return scene.history()


@fair((0.1, 0.09, 1), (2.0, 0.2, 1))
def one_call_late_by_chance(kind: tuple[float, float, int]) -> History:
    gap, late, each = kind
    return late_scene(gap, lambda n: late if n == 50 * each else 0.0).history()


@fair()
def late_calls_each_with_its_stall() -> History:
    scene = late_scene(0.1, lambda n: 0.09 if n % 10 == 0 else 0.0)
    stalls = [Sample(START + 1.08 + n, "machine", "stall_seconds", 0.07) for n in range(10)]
    return scene.history(samples=stalls)


@fair(FaultKind.BROKER_DOWN, FaultKind.ALL_DOWN, FaultKind.PAUSE)
def a_long_time_in_which_nothing_can_be_called(kind: FaultKind) -> History:
    scene = Scene(Run(gap_seconds=GAP, session_timeout_seconds=3))
    scene.send(scene.ask("ada@example.com", at=0), at=1)
    id_ = scene.ask("ada@example.com", at=2)
    target = {FaultKind.BROKER_DOWN: "broker", FaultKind.ALL_DOWN: "workers"}.get(kind, "worker-0")
    scene.fault(kind, target, at=3)
    scene.fault(ENDS[kind], target, at=203)
    scene.send(id_, at=208)
    return scene.history()


@fair("retry", "hold", "new time", "send_at")
def overtaken_with_cause(trouble: str) -> History:
    scene = Scene()
    more = {"send_at": moment(START + 34)} if trouble == "send_at" else {}
    earlier = scene.ask(at=1, **more)
    later = scene.ask(at=2)
    if trouble == "retry":
        not_accepted(scene, earlier, at=2, retry_at=34)
    if trouble == "hold":
        claim = scene.claim(earlier, at=2)
        scene.fault(FaultKind.KILL, at=2.5)
    if trouble == "new time":
        reschedule(scene, earlier, at=2, to=34)
    scene.send(later, at=10, worker=OTHER)
    if trouble == "hold":
        scene.hold(claim, at=20)
        scene.outcome(claim, Outcome.NOT_ACCEPTED, started=2, at=21)
    scene.send(earlier, at=35)
    return scene.history()


@fair((Lane.CRITICAL, Lane.NORMAL, 3), (Lane.BULK, Lane.CRITICAL, 30), (Lane.NORMAL, Lane.CRITICAL, 10))
def a_lane_that_has_its_share(kind: tuple[Lane, Lane, int]) -> History:
    return lanes(*kind)


@fair()
def an_audit_that_agrees() -> History:
    return a_clean_scene().history(audits=[Audit(START + 90, START + 91, 0)])


def test_what_cannot_be_judged_is_counted_and_printed() -> None:
    scene = a_clean_scene()
    scene.asks.append(Ask(START + 50, Result.INFO))
    scene.call(scene.claim(scene.ask("gus@example.com", at=51), at=52), at=53, accepted=False, answer="drop")

    verdict = judge(scene.history())

    assert verdict.not_judged["I7", "no start of this call is recorded"] == 1
    assert "not judged 1: I1, no answer came" in str(verdict)
    assert verdict.holds


def test_a_silence_is_told_as_long_as_it_was() -> None:
    scene = Scene(Run(gap_seconds=GAP, session_timeout_seconds=3))
    first, second = scene.ask("ada@example.com", at=0), scene.ask("ada@example.com", at=0.5)
    scene.send(first, at=1)
    scene.fault(FaultKind.KILL, at=3)
    for n in range(1, 60):
        scene.fault(FaultKind.KILL, "worker-1", at=3 + 5 * n)
    scene.send(second, at=302, worker=OTHER)

    assert judge(scene.history()).figures["longest recovery"] == pytest.approx(299)


def test_a_status_of_a_lookup_is_judged_by_when_its_answer_came() -> None:
    scene = a_clean_scene()
    scene.look_up(scene.calls[0].id or "", at=40)
    slow = replace(scene.lookups[-1], at=START + 0.9, ended_at=START + 1.2, replica="api-1")

    assert judge(scene.history(lookups=[slow])).holds
    assert not judge(scene.history(lookups=[replace(slow, ended_at=START + 0.95)])).holds
    assert scene.known[scene.calls[0].id or ""].status is Status.SENT
