"""The checker of histories finds every planted fault, and nothing in a clean history (guarantees §5)."""

from collections.abc import Callable
from typing import Any

import pytest
from msgspec import structs

from mailstream import codec, email_id, topics
from mailstream.attempt import ClaimRecord, Instead, Outcome
from mailstream.clock import moment
from mailstream.request import Address, Batch, Control, ControlKind, EmailRequest, OnAmbiguous
from mailstream.status import Fact, Status, rank_of
from tests.support.histories import GAP, START, Scene, a_clean_scene
from tests.support.history import History, Run
from tests.support.history_logs import Ask, Audit, FaultKind, Lookup, Planted, Result, Sample, record
from tests.support.verdict import INVARIANTS, exposed, judge

OTHER = "worker-1/b1"


def test_a_clean_history_has_no_finding_and_true_figures() -> None:
    verdict = judge(a_clean_scene().history())

    assert not verdict.findings, str(verdict)
    assert verdict.holds
    wanted = {"asked": 6, "accepted": 4, "lost": 0, "unfinished": 0, "held": 1, "held resolved": 1, "min gap": GAP}
    assert wanted.items() <= verdict.figures.items()


def planted(invariant: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Mark a function that makes a history with one fault of this invariant."""

    def keep(plant: Callable[[], History]) -> Callable[[], History]:
        PLANTED.append(pytest.param(invariant, plant, id=f"{invariant} {plant.__name__.replace('_', ' ')}"))
        return plant

    return keep


PLANTED: list[Any] = []


@planted("I1")
def a_202_without_a_record() -> History:
    scene = a_clean_scene()
    scene.asks.append(Ask(START + 50, Result.OK, 202, email_id.new("lost@example.com")))
    return scene.history()


@planted("I1")
def a_request_without_a_status() -> History:
    scene = a_clean_scene()
    scene.append(topics.REQUESTED.name, 0, 50, EmailRequest(to=Address("lost@example.com"), idempotency_key="k"))
    return scene.history()


@planted("I1")
def an_item_of_a_batch_without_a_status() -> History:
    scene = a_clean_scene()
    item = EmailRequest(to=Address("lost@example.com"), id=email_id.new("lost@example.com"))
    scene.append(topics.REQUESTED.name, 0, 50, Batch(items=(item,), id="batch"))
    return scene.history()


@planted("I2")
def two_accepted_calls() -> History:
    scene = a_clean_scene()
    id_ = scene.ask(at=50)
    first = scene.claim(id_, at=51)
    scene.call(first, at=52)
    scene.release(first, at=53)
    scene.send(id_, at=54.1)
    return scene.history()


@planted("I2")
def a_call_of_a_claim_that_lost() -> History:
    scene = a_clean_scene()
    id_ = scene.ask(at=50)
    winner = scene.claim(id_, at=51)
    loser = structs.replace(winner, nonce="late")
    scene.note(loser, at=52)
    scene.call(loser, at=53)
    scene.outcome(winner, Outcome.ACCEPTED, started=55.1, at=56)
    return scene.history()


@planted("I3")
def a_resend_that_nobody_chose() -> History:
    return _resent(Scene())


@planted("I3")
def a_third_accepted_call() -> History:
    scene = Scene()
    history = _resent(scene, on_ambiguous=OnAmbiguous.RESEND)
    (id_,) = scene.known
    scene.call(ClaimRecord(id=id_, attempt=2, nonce="n2", worker=OTHER, at=moment(START + 80)), at=80)
    return History(run=history.run, asks=scene.asks, calls=scene.calls, records=scene.records)


def _resent(scene: Scene, **request: Any) -> History:
    """Accepted, answer lost, held, sent again with a mark, accepted."""
    id_ = scene.ask(at=1, **request)
    scene.call(first := scene.claim(id_, at=2), at=3)
    scene.hold(first, at=30)
    scene.send(id_, at=60, worker=OTHER, possible_duplicate=True)
    return scene.history()


@planted("I4")
def sent_without_a_call() -> History:
    scene = a_clean_scene()
    scene.calls = [call for call in scene.calls if call.at != START + 3]
    return scene.history()


@planted("I4")
def cancelled_and_sent() -> History:
    scene = a_clean_scene()
    id_ = scene.ask(at=50)
    scene.end(id_, Instead.CANCELLED, at=51)
    scene.call(ClaimRecord(id=id_, attempt=1, nonce="n9", worker=OTHER, at=moment(START)), at=52)
    return scene.history()


@planted("I4")
def failed_shown_only_in_a_lookup_and_sent() -> History:
    scene = a_clean_scene()
    scene.lookups.append(Lookup(START + 2, scene.calls[0].id or "", 200, Status.FAILED, rank_of(Status.FAILED, 1)))
    return scene.history()


@planted("I4")
def a_404_after_a_202() -> History:
    scene = a_clean_scene()
    scene.look_up(scene.calls[0].id or "", at=41, code=404, replica="api-1")
    return scene.history()


@planted("I5")
def a_lower_rank_by_the_same_writer() -> History:
    scene = a_clean_scene()
    sent = scene.known[scene.calls[0].id or ""]
    first = next(r.value for r in scene.records if r.topic == topics.STATUS.name and r.value.id == sent.id)
    scene.publish(structs.replace(first, writer=sent.writer), at=60)
    scene.publish(sent, at=61)
    return scene.history()


@planted("I5")
def an_old_status_of_a_former_owner_that_nobody_mended() -> History:
    scene = a_clean_scene()
    sent = scene.known[scene.calls[0].id or ""]
    first = next(r.value for r in scene.records if r.topic == topics.STATUS.name and r.value.id == sent.id)
    scene.publish(structs.replace(first, writer=OTHER), at=60)
    return scene.history()


@planted("I5")
def sent_again_after_it_was_cancelled() -> History:
    scene = a_clean_scene()
    cancelled = next(status for status in scene.known.values() if status.status is Status.CANCELLED)
    risen = structs.replace(cancelled, status=Status.FAILED, rank=rank_of(Status.FAILED, 1))
    scene.publish(risen, at=60)
    return scene.history()


@planted("I5")
def a_timeline_that_jumps() -> History:
    scene = a_clean_scene()
    cancelled = next(status for status in scene.known.values() if status.status is Status.CANCELLED)
    facts = (*cancelled.timeline, Fact(at=moment(START + 60), status=Status.EXPIRED, attempt=1))
    scene.publish(structs.replace(cancelled, timeline=facts), at=60)
    return scene.history()


@planted("I5")
def a_replica_that_goes_back() -> History:
    scene = a_clean_scene()
    id_ = scene.calls[0].id or ""
    scene.lookups.append(Lookup(START + 41, id_, 200, Status.QUEUED, rank_of(Status.QUEUED, 0)))
    return scene.history()


@planted("I5")
def a_rank_that_is_not_its_own() -> History:
    scene = a_clean_scene()
    sent = scene.known[scene.calls[0].id or ""]
    scene.publish(structs.replace(sent, rank=sent.rank + 3), at=60)
    return scene.history()


@planted("I6")
def the_later_one_is_called_first() -> History:
    scene = Scene()
    earlier, later = scene.ask(at=1), scene.ask(at=2)
    scene.send(later, at=3)
    scene.send(earlier, at=5)
    return scene.history()


@planted("I7")
def two_calls_too_close_at_the_provider() -> History:
    scene = a_clean_scene()
    claim = scene.claim(scene.ask("gus@example.com", at=50), at=51)
    scene.call(claim, at=9 + GAP - 0.1)
    return scene.history()


@planted("I7")
def two_calls_too_close_as_recorded() -> History:
    scene = Scene()
    for n, started in enumerate((1.0, 1.0 + GAP - 0.001)):
        claim = scene.claim(scene.ask(f"{n}@example.com", at=0), at=0.5)
        scene.call(claim, at=1 + n * GAP)
        scene.outcome(claim, Outcome.ACCEPTED, started=started, at=9)
    return scene.history()


@planted("I7")
def recorded_starts_that_are_not_the_real_ones() -> History:
    scene = Scene()
    for n in range(6):
        claim = scene.claim(scene.ask(f"{n}@example.com", at=0), at=0.5)
        scene.call(claim, at=2 + n * GAP)
        scene.outcome(claim, Outcome.ACCEPTED, started=1.9 + n * GAP, at=20 + n)
    return scene.history()


@planted("I7")
def too_high_a_rate_where_only_the_rate_is_kept() -> History:
    scene = Scene(Run(gap_seconds=0.05, is_rate_only=True))
    for n in range(40):
        scene.send(scene.ask(f"{n}@example.com", at=0), at=1 + n * 0.03)
    return scene.history()


@planted("I8")
def more_memory_than_allowed() -> History:
    scene = a_clean_scene()
    scene.run = Run(gap_seconds=GAP, limits={"rss_bytes": 300e6})
    return scene.history(samples=[Sample(START + 5, "worker-0", "rss_bytes", 301e6)])


@planted("I9")
def a_long_silence_after_a_kill() -> History:
    return _killed(next_call=3 + 30 + 5 + GAP + 1)


@planted("I9")
def no_call_at_all_after_a_kill() -> History:
    return _killed(next_call=None)


def _killed(next_call: float | None) -> History:
    scene = Scene()
    first, second = scene.ask("ada@example.com", at=0), scene.ask("ada@example.com", at=0.5)
    scene.send(first, at=1)
    scene.fault(FaultKind.KILL, at=3)
    if next_call is not None:
        scene.send(second, at=next_call, worker=OTHER)
    return scene.history()


@planted("I10")
def a_published_status_that_is_not_the_fold() -> History:
    scene = a_clean_scene()
    return scene.history(audits=[Audit(START + 90, START + 91, 1, (scene.calls[0].id or "",))])


@planted("I10")
def an_audit_that_calls_the_provider() -> History:
    return a_clean_scene().history(audits=[Audit(START + 4, START + 6, 0)])


@planted("I10")
def an_audit_that_fails_for_another_reason() -> History:
    return a_clean_scene().history(audits=[Audit(START + 90, START + 91, 2)])


@planted("I11")
def an_address_in_a_log() -> History:
    texts = {"worker-0.log": "started\nsending to ada@example.com\n", "metrics": "mailstream_held 0"}
    return a_clean_scene().history(texts=texts, canaries={"address": "ada@example.com"})


@planted("I12")
def a_poison_record_that_vanished() -> History:
    return _poisoned(reason=None)


@planted("I12")
def a_poison_record_rejected_for_another_reason() -> History:
    return _poisoned(reason="BAD_SHAPE")


@planted("I12")
def a_good_record_in_the_dead_letters() -> History:
    scene = _poison_scene("NOT_JSON")
    good = next(r for r in scene.records if isinstance(r.value, EmailRequest))
    scene.dead_letter(good, "BAD_VALUE", at=3)
    return scene.history(planted=_planted_in(scene))


@planted("I12")
def a_slow_neighbour() -> History:
    scene = _poison_scene("NOT_JSON", neighbour_seconds=1.5)
    return scene.history(planted=_planted_in(scene))


@planted("I12")
def a_worker_that_ends_by_itself() -> History:
    scene = a_clean_scene()
    scene.fault(FaultKind.EXIT, at=5, code=1)
    return scene.history()


def _poison_scene(reason: str | None, neighbour_seconds: float = 0.02) -> Scene:
    scene = Scene()
    id_ = scene.ask(at=1)
    poison = scene.append(topics.REQUESTED.name, scene.partition_of(id_), 1.1, b"\xff\xfe")
    if reason:
        scene.dead_letter(poison, reason, at=1.2)
    status = next(r for r in scene.records if r.topic == topics.STATUS.name)
    scene.records.remove(status)
    scene.append(topics.STATUS.name, status.partition, 1 + neighbour_seconds, status.value)
    scene.send(id_, at=4)
    return scene


def _planted_in(scene: Scene) -> list[Planted]:
    return [
        Planted(r.partition, r.offset, "NOT_JSON")
        for r in scene.records
        if r.value == b"\xff\xfe" and r.topic == topics.REQUESTED.name
    ]


def _poisoned(reason: str | None) -> History:
    scene = _poison_scene(reason)
    return scene.history(planted=_planted_in(scene))


@pytest.mark.parametrize(("invariant", "plant"), PLANTED)
def test_a_planted_fault_is_found(invariant: str, plant: Callable[[], History]) -> None:
    verdict = judge(plant())

    assert not verdict.holds
    assert invariant in {finding.invariant for finding in verdict.findings}, str(verdict)


def test_every_invariant_has_a_planted_fault() -> None:
    assert {param.values[0] for param in PLANTED} == INVARIANTS.keys()


def test_findings_carry_the_number_of_the_invariant_that_found_them() -> None:
    for param in PLANTED:
        for name, check in INVARIANTS.items():
            assert {finding.invariant for finding in check(param.values[1]())} <= {name}


def test_a_marked_resend_that_was_chosen_is_no_finding_and_is_counted() -> None:
    verdict = judge(_resent(Scene(), on_ambiguous=OnAmbiguous.RESEND))

    assert not verdict.findings, str(verdict)
    assert verdict.figures["marked"] == 1


def test_an_operators_resend_is_a_choice_too() -> None:
    scene = Scene()
    history = _resent(scene)
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
    scene.release(scene.claim(earlier, at=2.5), at=2.6)
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
    slow_but_fair = _killed(next_call=3 + 30 + 5 + GAP - 1)

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
