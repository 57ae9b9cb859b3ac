"""Lost, sent twice, out of order, too fast, too slow."""

from typing import Any

from msgspec import structs

from mailstream.clock import moment
from mailstream.domain import email_id, topics
from mailstream.domain.attempt import ClaimRecord, Outcome
from mailstream.domain.request import Address, Batch, EmailRequest, OnAmbiguous
from tests.support.histories import GAP, START, Scene, a_clean_scene
from tests.support.history import History, Run
from tests.support.history_logs import Ask, FaultKind, Result, Sample
from tests.unit.support.planting import planted

OTHER = "worker-1/b1"


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
    return resent(Scene())


@planted("I3")
def a_third_accepted_call() -> History:
    scene = Scene()
    history = resent(scene, on_ambiguous=OnAmbiguous.RESEND)
    (id_,) = scene.known
    scene.call(ClaimRecord(id=id_, attempt=2, nonce="n2", worker=OTHER, at=moment(START + 80)), at=80)
    return History(run=history.run, asks=scene.asks, calls=scene.calls, records=scene.records)


def resent(scene: Scene, **request: Any) -> History:
    """Accepted, answer lost, held, sent again with a mark, accepted."""
    id_ = scene.ask(at=1, **request)
    scene.call(first := scene.claim(id_, at=2), at=3)
    scene.hold(first, at=30)
    scene.send(id_, at=60, worker=OTHER, possible_duplicate=True)
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
    return killed(next_call=3 + 30 + 5 + GAP + 1)


@planted("I9")
def no_call_at_all_after_a_kill() -> History:
    return killed(next_call=None)


def killed(next_call: float | None) -> History:
    scene = Scene()
    first, second = scene.ask("ada@example.com", at=0), scene.ask("ada@example.com", at=0.5)
    scene.send(first, at=1)
    scene.fault(FaultKind.KILL, at=3)
    if next_call is not None:
        scene.send(second, at=next_call, worker=OTHER)
    return scene.history()
