"""Words, keys, batches, evidence, times, lanes."""

from dataclasses import replace
from typing import Any

from msgspec import structs

from mailstream.clock import moment
from mailstream.domain import email_id
from mailstream.domain.attempt import Instead, Outcome
from mailstream.domain.request import Batch, ControlKind, OnAmbiguous
from mailstream.domain.status import Status, rank_of
from tests.support.histories import GAP, START, Scene, a_clean_scene
from tests.support.history import History, Run
from tests.support.history_logs import Ask, FaultKind, Result, Word
from tests.unit.support.planting import planted

OTHER = "worker-1/b1"


# -- I14: words ----------------------------------------------------------------------------------------------------


@planted("I14", True, False)
def a_cancel_answered_200_and_called(is_accepted: bool) -> History:
    scene = a_clean_scene()
    id_ = scene.ask("gus@example.com", at=50)
    scene.control(id_, ControlKind.CANCEL, at=50.5)
    word(scene, ControlKind.CANCEL, id_, at=50.5)
    scene.call(scene.claim(id_, at=51), at=52, accepted=is_accepted, answer="202" if is_accepted else "429")
    return scene.history()


@planted("I14", 200, 202)
def a_word_that_was_answered_and_is_not_in_the_log(code: int) -> History:
    scene = a_clean_scene()
    word(scene, ControlKind.RESCHEDULE, scene.ask("gus@example.com", at=50), at=50.5, code=code, send_at=START + 99)
    return scene.history()


@planted("I14")
def an_operators_word_that_is_not_in_the_log() -> History:
    scene = Scene()
    id_ = held(scene)
    scene.words.append(Word(START + 50, START + 51, ControlKind.RESOLVE, id_, Result.OK, to="SENT"))
    return scene.history()


@planted("I14", ControlKind.CANCEL, ControlKind.RESCHEDULE, ControlKind.RESOLVE)
def a_word_that_was_neither_obeyed_nor_refused(kind: ControlKind) -> History:
    scene = a_clean_scene()
    id_ = scene.ask("gus@example.com", at=50)
    scene.control(id_, kind, at=50.5, send_at=moment(START + 99), to="UNCONFIRMED")
    scene.send(id_, at=51)
    return scene.history()


@planted("I14", ControlKind.CANCEL, ControlKind.RESCHEDULE)
def a_word_that_is_never_decided(kind: ControlKind) -> History:
    scene = a_clean_scene()
    id_ = scene.ask("gus@example.com", at=50, send_at=moment(START + 900))
    scene.control(id_, kind, at=50.5, send_at=moment(START + 999))
    scene.look_up(id_, at=100)
    return scene.history()


@planted("I14", 6, 60)
def a_cancel_that_lost_to_a_claim_long_after_it(seconds: float) -> History:
    """It is refused visibly, but it stood in the log for long when the claim was made."""
    scene = a_clean_scene()
    id_ = scene.ask("gus@example.com", at=50)
    control = scene.control(id_, ControlKind.CANCEL, at=51)
    scene.send(id_, at=51 + seconds)
    scene.refuse(control, "cancel_refused", at=52 + seconds)
    return scene.history()


@planted("I14", 0.1, 40)
def called_before_the_time_that_a_reschedule_gave(early: float) -> History:
    scene = a_clean_scene()
    id_ = scene.ask("gus@example.com", at=50)
    reschedule(scene, id_, at=50.5, to=100)
    scene.send(id_, at=100 - early)
    return scene.history()


@planted("I14")
def a_reschedule_that_got_another_time() -> History:
    scene = a_clean_scene()
    id_ = scene.ask("gus@example.com", at=50)
    reschedule(scene, id_, at=50.5, to=100)
    scene.words[-1] = replace(scene.words[-1], send_at=START + 200)
    scene.send(id_, at=120)
    return scene.history()


@planted("I14", "SENT", "UNCONFIRMED")
def another_end_than_the_operator_said(to: str) -> History:
    scene = Scene()
    id_ = held(scene)
    control = scene.control(id_, ControlKind.RESOLVE, at=50, to=to)
    other = Instead.UNCONFIRMED if to == "SENT" else Instead.SENT
    scene.end(id_, other, at=51, control=control.offset)
    return scene.history()


@planted("I14")
def a_resend_that_was_ordered_and_never_came() -> History:
    scene = Scene()
    id_ = held(scene)
    scene.refuse(scene.control(id_, ControlKind.RESOLVE, at=50, to="RESEND"), "resend_ordered", at=51)
    scene.end(id_, Instead.UNCONFIRMED, at=60)
    return scene.history()


@planted("I14")
def a_resend_that_came_and_was_given_up_in_its_name() -> History:
    scene = Scene(Run(gap_seconds=GAP, hold_timeout_seconds=900))
    id_ = held(scene)
    control = scene.control(id_, ControlKind.RESOLVE, at=50, to="RESEND")
    scene.refuse(control, "resend_ordered", at=51)
    claim = scene.claim(id_, at=52, possible_duplicate=True)
    scene.call(claim, at=52.1, accepted=False, answer="503")
    scene.outcome(claim, Outcome.UNKNOWN, started=52.1, at=52.4)
    scene.end(id_, Instead.UNCONFIRMED, at=1200, control=control.offset)
    return scene.history()


@planted("I4")
def a_404_to_a_cancel_after_its_202() -> History:
    scene = a_clean_scene()
    word(scene, ControlKind.CANCEL, scene.ask("gus@example.com", at=50), at=51, code=404)
    return scene.history()


def word(scene: Scene, kind: ControlKind, id_: str, *, at: float, code: int = 200, **more: Any) -> None:
    """A client says a word and gets this answer."""
    result = Result.OK if code < 300 else Result.FAIL
    scene.words.append(Word(START + at, START + at + 0.2, kind, id_, result, code, **more))


def reschedule(scene: Scene, id_: str, *, at: float, to: float) -> None:
    """It gets another time, with 200."""
    control = scene.control(id_, ControlKind.RESCHEDULE, at=at, send_at=moment(START + to))
    scene.end(id_, Instead.RESCHEDULED, at=at + 0.1, not_before=moment(START + to), control=control.offset)
    word(scene, ControlKind.RESCHEDULE, id_, at=at, send_at=START + to)


def held(scene: Scene, **request: Any) -> str:
    """Called, answer lost, shown as HELD."""
    id_ = scene.ask(at=1, **request)
    claim = scene.claim(id_, at=2)
    scene.call(claim, at=3, accepted=False, answer="reset")
    scene.hold(claim, at=30)
    return id_


# -- I15: keys -----------------------------------------------------------------------------------------------------


def asked(scene: Scene, body: str, *, at: float, code: int = 202, id_: str | None = None, **more: Any) -> None:
    """A request under the key k."""
    result = Result.OK if code == 202 else Result.FAIL
    more = {"key": "k", "to": "gus@example.com", "body": body} | more
    scene.asks.append(Ask(START + at, result, code, id_, START + at + 0.1, **more))


@planted("I15", "api-0", "api-1")
def two_bodies_under_one_key(replica: str) -> History:
    scene = a_clean_scene()
    id_ = scene.ask("gus@example.com", at=50)
    asked(scene, "a", at=50, id_=id_)
    asked(scene, "b", at=55, id_=id_, replica=replica)
    return scene.history()


@planted("I15", 0.05, 5)
def two_ids_for_one_request(later: float) -> History:
    scene = a_clean_scene()
    for n in range(2):
        asked(scene, "a", at=50 + n * later, id_=scene.ask("gus@example.com", at=50), to=None)
    return scene.history()


@planted("I15", 200, 400, 404, 500)
def another_body_that_is_refused_as_something_else(code: int) -> History:
    scene = a_clean_scene()
    asked(scene, "a", at=50, id_=scene.ask("gus@example.com", at=50))
    asked(scene, "b", at=55, code=code)
    return scene.history()


@planted("I15")
def a_repeat_that_is_taken_for_a_conflict() -> History:
    scene = a_clean_scene()
    asked(scene, "a", at=50, id_=scene.ask("gus@example.com", at=50))
    asked(scene, "a", at=55, code=422)
    return scene.history()


@planted("I15", "one more", "other order", "changed")
def a_strict_batch_with_another_body(how: str) -> History:
    scene = a_clean_scene()
    first = ["ada@example.com", "bob@example.com"]
    second = {"one more": [*first, "cleo@example.com"], "other order": first[::-1], "changed": first}[how]
    for name, addresses, at in (("a", first, 50), ("b", second, 55)):
        ids = scene.batch(*addresses, at=at)
        scene.asks[-len(ids) :] = [replace(ask, key="k", body=name) for ask in scene.asks[-len(ids) :]]
    return scene.history()


@planted("I15")
def an_item_of_a_refused_batch_that_is_sent() -> History:
    scene = Scene()
    scene.batch("ada@example.com", at=1, name="k")
    extra = scene.batch("ada@example.com", "bob@example.com", at=2, name="k")[1]
    del scene.asks[-2:]
    scene.send(extra, at=4)
    return scene.history()


@planted("I1", "kafka", "trigger")
def taken_by_kafka_and_not_there(by: str) -> History:
    scene = a_clean_scene()
    lost = email_id.new("lost@example.com")
    scene.asks.append(Ask(START + 50, Result.OK, None, lost, START + 50, by=by))
    return scene.history()


@planted("I15")
def a_permissive_batch_in_another_order_that_mails_twice() -> History:
    scene = a_clean_scene()
    for n, order in enumerate((("ada", "bob"), ("bob", "ada"))):
        for item, name in enumerate(order):
            to = f"{name}@example.com"
            more = {"batch": f"b{n}", "item": item, "mode": "permissive", "to": to}
            asked(scene, f"{n}", at=50 + n, id_=scene.ask(to, at=50 + n), **more)
    return scene.history()


@planted("I15")
def a_first_request_that_is_answered_as_a_replay() -> History:
    scene = a_clean_scene()
    asked(scene, "a", at=50, id_=scene.ask("gus@example.com", at=50), is_replay=True)
    return scene.history()


# -- I16 and I1: batches -------------------------------------------------------------------------------------------


@planted("I16", 422, 503)
def a_strict_batch_of_which_a_part_was_answered_with_202(code: int) -> History:
    scene = Scene()
    scene.batch("ada@example.com", "bob@example.com", at=1)
    scene.asks[-1] = replace(scene.asks[-1], code=code, result=Result.FAIL, id=None)
    return scene.history()


@planted("I16")
def a_strict_batch_of_which_a_part_is_in_the_log() -> History:
    scene = Scene()
    ids = scene.batch("ada@example.com", "bob@example.com", at=1)
    scene.records = [r for r in scene.records if not isinstance(r.value, Batch) and r.value.id != ids[1]]
    return scene.history()


@planted("I1")
def an_item_that_never_got_its_status() -> History:
    scene = Scene()
    ids = scene.batch("ada@example.com", "bob@example.com", "cleo@example.com", at=1)
    scene.records = [r for r in scene.records if isinstance(r.value, Batch) or r.value.id != ids[2]]
    return scene.history()


@planted("I16")
def one_item_rejected_and_the_others_taken() -> History:
    scene = Scene()
    ids = scene.batch("ada@example.com", "bob@example.com", at=1)
    status = scene.known[ids[1]]
    rejected = structs.replace(
        status, status=Status.REJECTED, final=True, rank=rank_of(Status.REJECTED, 0), timeline=()
    )
    scene.records = [r for r in scene.records if r.value is not status]
    facts = (structs.replace(status.timeline[0], status=Status.REJECTED),)
    scene.publish(structs.replace(rejected, timeline=facts), at=2)
    return scene.history()


# -- I17: evidence -------------------------------------------------------------------------------------------------


@planted("I17", "delivered", "processed", "bounce")
def sent_again_although_an_event_stood_in_the_log(event: str) -> History:
    scene = Scene()
    id_ = held(scene, on_ambiguous=OnAmbiguous.RESEND)
    _event_nobody_read(scene, id_, event, at=40)
    scene.send(id_, at=60, worker=OTHER, possible_duplicate=True)
    return scene.history()


@planted("I17", 3, 600)
def given_up_although_an_event_stood_in_the_log(late: float) -> History:
    scene = Scene()
    id_ = held(scene)
    _event_nobody_read(scene, id_, "delivered", at=40)
    scene.fault(FaultKind.KILL, at=41)  # not of the worker that gave up
    scene.end(id_, Instead.UNCONFIRMED, at=40 + late, worker=OTHER)
    return scene.history()


def _event_nobody_read(scene: Scene, id_: str, event: str, *, at: float) -> None:
    known, published = scene.known[id_], len(scene.records)
    scene.event(id_, event, at=at)
    scene.known[id_] = known
    del scene.records[published + 1 :]


# -- I18: times ------------------------------------------------------------------------------------------------


@planted("I18", 0.1, 3600)
def called_before_its_send_at(early: float) -> History:
    scene = a_clean_scene()
    scene.send(scene.ask("gus@example.com", at=50, send_at=moment(START + 60 + early)), at=60)
    return scene.history()


@planted("I18", 2, 3600)
def claimed_behind_its_expires_at(late: float) -> History:
    scene = a_clean_scene()
    scene.send(scene.ask("gus@example.com", at=50, expires_at=moment(START + 52)), at=52 + late)
    return scene.history()


@planted("I18")
def another_send_at_in_the_log_than_was_asked_for() -> History:
    scene = a_clean_scene()
    id_ = scene.ask("gus@example.com", at=50)
    scene.asks[-1] = replace(scene.asks[-1], send_at=START + 99)
    scene.send(id_, at=60)
    return scene.history()
