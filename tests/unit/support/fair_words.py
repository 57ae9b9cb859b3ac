"""Words, keys and batches that are answered as they should be."""

from dataclasses import replace

from msgspec import structs

from mailstream.clock import moment
from mailstream.domain.attempt import Instead, Outcome
from mailstream.domain.request import Batch, ControlKind
from tests.support.histories import GAP, START, Scene, a_clean_scene
from tests.support.history import History, Run
from tests.support.history_logs import Ask, Result
from tests.unit.support.planted_words import asked, held, reschedule, word
from tests.unit.support.planting import fair


@fair("cancel", "reschedule", "resolve")
def a_word_that_was_refused_visibly(kind: str) -> History:
    scene = Scene()
    id_ = held(scene)
    control = scene.control(id_, ControlKind(kind), at=35, send_at=moment(START + 99), to="RESEND")
    scene.refuse(control, f"{kind}_refused", at=36)
    word(scene, ControlKind(kind), id_, at=35, code=409)
    scene.event(id_, "delivered", at=40)
    scene.calls[0] = structs.replace(scene.calls[0], is_accepted=True)
    return scene.history()


@fair("SENT", "UNCONFIRMED")
def an_operator_ends_it(to: str) -> History:
    scene = Scene()
    id_ = held(scene)
    control = scene.control(id_, ControlKind.RESOLVE, at=50, to=to)
    scene.end(id_, Instead(to), at=51, control=control.offset)
    return scene.history()


@fair()
def an_operator_orders_a_resend() -> History:
    scene = Scene(Run(gap_seconds=GAP, hold_timeout_seconds=900))
    id_ = held(scene)
    scene.refuse(scene.control(id_, ControlKind.RESOLVE, at=50, to="RESEND"), "resend_ordered", at=51)
    scene.send(id_, at=52, possible_duplicate=True)
    return scene.history()


@fair(20, 900)
def a_resend_that_was_ordered_and_stayed_in_doubt_too(seconds: float) -> History:
    scene = Scene(Run(gap_seconds=GAP, hold_timeout_seconds=seconds))
    id_ = held(scene)
    scene.refuse(scene.control(id_, ControlKind.RESOLVE, at=50, to="RESEND"), "resend_ordered", at=51)
    claim = scene.claim(id_, at=52, possible_duplicate=True)
    scene.call(claim, at=52.1, accepted=False, answer="503")
    scene.outcome(claim, Outcome.UNKNOWN, started=52.1, at=52.4)
    scene.end(id_, Instead.UNCONFIRMED, at=52.5 + seconds)
    return scene.history()


@fair(0.2, 4)
def a_cancel_that_came_a_moment_late(seconds: float) -> History:
    scene = a_clean_scene()
    id_ = scene.ask("gus@example.com", at=50)
    control = scene.control(id_, ControlKind.CANCEL, at=51)
    scene.send(id_, at=51 + seconds)
    scene.refuse(control, "cancel_refused", at=52 + seconds)
    word(scene, ControlKind.CANCEL, id_, at=51, code=409)
    return scene.history()


@fair("repeat", "conflict", "conflict first unanswered", "other recipient", "busy")
def a_key_that_was_used_again(how: str) -> History:
    scene = a_clean_scene()
    id_ = scene.ask("gus@example.com", at=50)
    if how == "conflict first unanswered":
        scene.asks.append(Ask(START + 49, Result.INFO, key="k", to="gus@example.com", body="b"))
    asked(scene, "a", at=50, id_=id_)
    match how:
        case "repeat":
            asked(scene, "a", at=55, id_=id_, is_replay=True, replica="api-1")
        case "other recipient":
            asked(scene, "b", at=55, id_=scene.ask("hal@example.com", at=55), to="hal@example.com")
        case "busy":
            asked(scene, "a", at=50.05, code=409)
        case _:
            asked(scene, "b", at=55, code=422)
    return scene.history()


@fair()
def a_strict_batch_repeated() -> History:
    scene = Scene()
    ids = scene.batch("ada@example.com", "bob@example.com", at=1)
    scene.asks = [replace(ask, key="k", body="a") for ask in scene.asks]
    scene.asks += [replace(ask, at=START + 5, ended_at=START + 6, batch="again", is_replay=True) for ask in scene.asks]
    for n, id_ in enumerate(ids):
        scene.send(id_, at=8 + 3 * n)
    return scene.history()


@fair("dead letter", "nothing")
def a_second_batch_under_its_id_that_is_refused(then: str) -> History:
    scene = Scene()
    first = scene.batch("ada@example.com", at=1, name="k")
    scene.batch("ada@example.com", "bob@example.com", at=2, name="k")
    scene.asks = [ask if ask.id in first else replace(ask, code=422, result=Result.FAIL, id=None) for ask in scene.asks]
    scene.records = [r for r in scene.records if isinstance(r.value, Batch) or r.value.id in first]
    if then == "dead letter":
        scene.dead_letter([r for r in scene.records if isinstance(r.value, Batch)][1], "ID_CONFLICT", at=3)
    scene.send(first[0], at=4)
    return scene.history()


@fair()
def put_off_twice_at_once() -> History:
    scene = a_clean_scene()
    id_ = scene.ask("gus@example.com", at=50)
    reschedule(scene, id_, at=50.5, to=90)
    reschedule(scene, id_, at=50.55, to=60)
    scene.words[-2] = replace(scene.words[-2], ended_at=START + 52)
    scene.send(id_, at=61)
    return scene.history()
