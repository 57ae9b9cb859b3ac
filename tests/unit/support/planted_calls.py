"""Of the ten histories that the checker once let pass, with neighbours of each (other numbers, statuses, order): calls."""

from mailstream.clock import moment
from mailstream.domain import topics
from mailstream.domain.attempt import AttemptRecord, ClaimRecord, Outcome, OutcomeRecord, ReleasedRecord
from mailstream.domain.request import ControlKind, OnAmbiguous
from mailstream.domain.status import Status, rank_of
from tests.support.histories import START, Scene, a_clean_scene
from tests.support.history import History
from tests.support.history_logs import Lookup
from tests.unit.support.planting import planted

OTHER = "worker-1/b1"

# -- 5: a second call behind one in doubt ------------------------------------------------------------------------


@planted("I2", "reset", "drop", "silent", "503", "202")
def a_second_call_behind_one_in_doubt(answer: str) -> History:
    scene = Scene()
    id_ = scene.ask(at=0)
    scene.call(scene.claim(id_, at=1), at=2, accepted=False, answer=answer)
    _call_again(scene, id_)
    return scene.history()


@planted("I2", "release", "outcome", "guess", "afterwards", "of another nonce")
def a_second_call_behind_no_proof(proof: str) -> History:
    scene = Scene()
    id_ = scene.ask(at=0)
    first = scene.claim(id_, at=1)
    scene.call(first, at=2, accepted=False, answer="reset")
    about = {"id": id_, "attempt": 1, "nonce": first.nonce, "at": moment(START + 3), "worker": OTHER}
    match proof:
        case "release":  # of a worker that did not claim
            _write(scene, ReleasedRecord(**about), at=3)
        case "outcome":
            _write(scene, OutcomeRecord(**about, result=Outcome.NOT_ACCEPTED), at=3)
        case "guess":  # a reset proves nothing
            _write(scene, OutcomeRecord(**about | {"worker": first.worker}, result=Outcome.NOT_ACCEPTED), at=3)
        case "of another nonce":
            _write(scene, ReleasedRecord(**about | {"nonce": "x", "worker": first.worker}), at=3)
    _call_again(scene, id_)
    if proof == "afterwards":
        _write(scene, OutcomeRecord(**about | {"worker": first.worker}, result=Outcome.NOT_ACCEPTED), at=20)
    return scene.history()


@planted("I2")
def a_call_of_an_attempt_that_jumps() -> History:
    scene = Scene()
    id_ = scene.ask(at=0)
    claim = ClaimRecord(id=id_, attempt=2, nonce="far", at=moment(START + 1), worker=OTHER)
    _write(scene, claim, at=1)
    scene.call(claim, at=2, accepted=False, answer="503")
    return scene.history()


@planted("I2")
def two_requests_of_one_claim() -> History:
    scene = Scene()
    claim = scene.claim(scene.ask(at=0), at=1)
    for at in (2, 4.5):
        scene.call(claim, at=at, accepted=False, answer="reset")
    return scene.history()


@planted("I2")
def a_call_that_is_recorded_as_released() -> History:
    scene = Scene()
    claim = scene.claim(scene.ask(at=0), at=1)
    scene.call(claim, at=2, accepted=False, answer="429")
    scene.release(claim, at=3)
    return scene.history()


@planted("I2")
def a_mark_without_a_doubt() -> History:
    scene = Scene()
    scene.send(scene.ask(at=0, on_ambiguous=OnAmbiguous.RESEND), at=1, possible_duplicate=True)
    return scene.history()


@planted("I3", "reset", "drop")
def a_marked_resend_that_nobody_chose_and_that_was_not_taken(answer: str) -> History:
    scene = Scene()
    id_ = scene.ask(at=0)
    first = scene.claim(id_, at=1)
    scene.call(first, at=2, accepted=False, answer=answer)
    scene.hold(first, at=20)
    scene.call(scene.claim(id_, at=40, worker=OTHER, possible_duplicate=True), at=41, accepted=False, answer=answer)
    return scene.history()


@planted("I3")
def a_resend_that_was_ordered_after_it_was_made() -> History:
    scene = Scene()
    id_ = scene.ask(at=0)
    first = scene.claim(id_, at=1)
    scene.call(first, at=2, answer="drop")
    scene.hold(first, at=20)
    scene.send(id_, at=40, worker=OTHER, possible_duplicate=True)
    scene.control(id_, ControlKind.RESOLVE, at=50, to="RESEND")
    return scene.history()


def _write(scene: Scene, record: AttemptRecord, *, at: float) -> None:
    scene.append(topics.ATTEMPTS.name, scene.partition_of(record.id), at, record)


def _call_again(scene: Scene, id_: str) -> None:
    claim = ClaimRecord(id=id_, attempt=2, nonce="bad", at=moment(START + 4), worker=OTHER)
    _write(scene, claim, at=4)
    scene.call(claim, at=5, accepted=False, answer="503")


# -- 6 and 7: before its claim, before its call ------------------------------------------------------------------


@planted("I2", 0.02, 1, 8, 3600)
def a_call_before_its_claim(early: float) -> History:
    scene = Scene()
    claim = scene.claim(scene.ask(at=0), at=10)
    scene.call(claim, at=10 - early)
    scene.outcome(claim, Outcome.ACCEPTED, started=10, at=11)
    return scene.history()


@planted("I2", 0.05, 28)
def a_call_behind_its_outcome(late: float) -> History:
    scene = a_clean_scene()
    claim = scene.claim(scene.ask("zoe@example.com", at=50), at=51)
    scene.outcome(claim, Outcome.ACCEPTED, started=51.5, at=51.6)
    scene.call(claim, at=51.6 + late)
    return scene.history()


@planted("I4", 0.05, 28)
def sent_in_the_topic_before_the_call(early: float) -> History:
    scene = a_clean_scene()
    claim = scene.claim(scene.ask("zoe@example.com", at=50), at=51)
    scene.outcome(claim, Outcome.ACCEPTED, started=51.5, at=60)
    scene.call(claim, at=60 + early)
    return scene.history()


@planted("I4", *(s for s in Status if s in (Status.SENT, Status.DELIVERED, Status.BOUNCED, Status.DROPPED)))
def sent_in_an_answer_before_the_call(status: Status) -> History:
    scene = a_clean_scene()
    id_ = scene.calls[0].id or ""
    scene.lookups.append(Lookup(START + 0.5, id_, 200, status, rank_of(status, 1), "api-1", START + 0.6))
    return scene.history()


@planted("I4", *(s for s in Status if s not in (Status.QUEUED, Status.PROCESSING, Status.SENT)))
def an_answer_that_was_never_published(status: Status) -> History:
    scene = a_clean_scene()
    scene.lookups.append(Lookup(START + 45, scene.calls[0].id or "", 200, status, rank_of(status, 1), "api-1"))
    return scene.history()
