"""Of the ten histories that the checker once let pass, with neighbours of each (other numbers, statuses, order): ends."""

from dataclasses import replace

from msgspec import structs

from mailstream.clock import moment
from mailstream.domain import email_id, topics
from mailstream.domain.attempt import Instead, Outcome
from mailstream.domain.request import Address, ControlKind, EmailRequest
from mailstream.domain.status import Fact, Status, rank_of
from tests.support.histories import GAP, START, Scene, a_clean_scene
from tests.support.history import History, Run
from tests.support.history_logs import Ask, FaultKind, Record, Result
from tests.unit.support.planting import planted

OTHER = "worker-1/b1"
REASONS = (
    "EVENT_TOO_OLD", "BAD_VALUE", "BAD_ADDRESS", "BAD_ID", "ID_CONFLICT", "TEMPLATE_FAILED", "SENDER_NOT_ALLOWED",
    "TOO_LARGE", "NOT_JSON", "WHATEVER",
)  # fmt: skip


# -- 1: valid emails dead-lettered ----------------------------------------------------------------------------


@planted("I12", *REASONS)
def a_valid_request_in_the_dead_letters(reason: str) -> History:
    scene = a_clean_scene()
    scene.dead_letter(_asked_only(scene, has_202=False), reason, at=50.1)
    return scene.history()


@planted("I1", *REASONS)
def a_202_that_became_a_dead_letter(reason: str) -> History:
    scene = a_clean_scene()
    scene.dead_letter(_asked_only(scene), reason, at=50.1)
    return scene.history()


@planted("I12")
def a_202_that_is_shown_as_rejected() -> History:
    scene = a_clean_scene()
    id_ = scene.ask("vera@example.com", at=50)
    request = next(r for r in scene.records if isinstance(r.value, EmailRequest) and r.value.id == id_)
    scene.dead_letter(request, "BAD_VALUE", at=50.1)
    status, rank = Status.REJECTED, rank_of(Status.REJECTED, 0)
    facts = (Fact(at=moment(START + 51), status=status),)
    scene.publish(
        structs.replace(scene.known[id_], status=status, rank=rank, final=True, timeline=facts, writer=OTHER), at=51
    )
    return scene.history()


@planted("I12", ControlKind.CANCEL, ControlKind.RESCHEDULE, ControlKind.RESOLVE)
def a_word_about_a_known_email_in_the_dead_letters(kind: ControlKind) -> History:
    scene = a_clean_scene()
    control = scene.control(scene.calls[0].id or "", kind, at=50, send_at=moment(START + 90), to="SENT")
    scene.dead_letter(control, "UNKNOWN_ID", at=50.1)
    return scene.history()


@planted("I12")
def a_cancel_that_came_before_its_batch_was_unfolded() -> History:
    scene = Scene()
    id_ = scene.batch("ada@example.com", "bob@example.com", at=1)[1]
    own = next(r for r in scene.records if isinstance(r.value, EmailRequest) and r.value.id == id_)
    scene.records.remove(own)
    scene.dead_letter(scene.control(id_, ControlKind.CANCEL, at=1.5), "UNKNOWN_ID", at=1.6)
    scene.records.append(replace(own, at=START + 2))
    return scene.history()


def _asked_only(scene: Scene, *, has_202: bool = True) -> Record:
    id_ = email_id.new("vera@example.com")
    if has_202:
        scene.asks.append(Ask(START + 50, Result.OK, 202, id_, START + 50))
    request = EmailRequest(to=Address("vera@example.com"), id=id_, subject="s", text="t")
    return scene.append(topics.REQUESTED.name, scene.partition_of(id_), 50, request)


# -- 2: endings without what they say --------------------------------------------------------------------------


@planted("I13", None, 0.5, 3600)
def expired_before_its_time(seconds: float | None) -> History:
    scene = a_clean_scene()
    more = {} if seconds is None else {"expires_at": moment(START + 51 + seconds)}
    scene.end(scene.ask(at=50, **more), Instead.EXPIRED, at=51)
    return scene.history()


@planted("I13", *(each for each in Instead if each is not Instead.RESCHEDULED))
def an_ending_out_of_nothing(ending: Instead) -> History:
    scene = a_clean_scene()
    scene.end(scene.ask("gus@example.com", at=50), ending, at=51)
    if ending in (Instead.SENT, Instead.UNCONFIRMED):  # these lose when nothing is in doubt
        scene.claim(scene.calls[-1].id or "", at=52, instead=ending)
        _publish(scene, scene.ask("hal@example.com", at=53), Status(ending.value), at=54)
    return scene.history()


@planted("I13", "late", "of another", "of another kind")
def cancelled_by_a_word_that_is_none(how: str) -> History:
    scene = a_clean_scene()
    id_ = scene.ask("gus@example.com", at=50)
    kind = ControlKind.RESCHEDULE if how == "of another kind" else ControlKind.CANCEL
    about = scene.calls[0].id if how == "of another" else id_
    scene.control(about or "", kind, at=52 if how == "late" else 50.5, send_at=moment(START + 99))
    scene.end(id_, Instead.CANCELLED, at=51)
    return scene.history()


@planted("I13", *(status for status in Status if status is not Status.QUEUED))
def a_status_that_follows_from_nothing(status: Status) -> History:
    scene = a_clean_scene()
    scene.event(scene.calls[0].id or "", "processed", at=49)
    _publish(scene, scene.ask("gus@example.com", at=50), status, at=51)
    return scene.history()


@planted("I13", 0.1, 30)
def delivered_before_the_provider_said_so(early: float) -> History:
    scene = a_clean_scene()
    id_ = scene.calls[0].id or ""
    scene.event(id_, "delivered", at=60)
    status = scene.known[id_]
    scene.records = [r for r in scene.records if r.value is not status]
    scene.append(topics.STATUS.name, scene.partition_of(id_), 60 - early, status)
    return scene.history()


def _publish(scene: Scene, id_: str, status: Status, *, at: float) -> None:
    attempt = 0 if status is Status.REJECTED else 1
    facts = (*scene.known[id_].timeline, Fact(at=moment(START + at), status=status, attempt=attempt))
    more = {"status": status, "final": True, "attempt": attempt, "rank": rank_of(status, attempt), "timeline": facts}
    scene.publish(structs.replace(scene.known[id_], **more), at=at)


# -- 3: in doubt without a call and without a fault ------------------------------------------------------------


@planted("I13", None, *FaultKind)
def in_doubt_without_a_call(elsewhere: FaultKind | None) -> History:
    """A fault of another worker, or one that was over before the claim, is no excuse."""
    scene = a_clean_scene()
    if elsewhere is not None and elsewhere not in (FaultKind.BROKER_UP, FaultKind.ALL_UP, FaultKind.TOPIC_TAKES):
        scene.fault(elsewhere, at=40)
        for end in (FaultKind.RESUME, FaultKind.MEND, FaultKind.BROKER_UP, FaultKind.ALL_UP, FaultKind.TOPIC_TAKES):
            scene.fault(end, at=45)
        is_common = elsewhere in (FaultKind.BROKER_DOWN, FaultKind.ALL_DOWN, FaultKind.TOPIC_REFUSES)
        scene.fault(FaultKind.KILL if is_common else elsewhere, "worker-7", at=60)
        scene.fault(FaultKind.KILL, at=81)  # after it was said
    claim = scene.claim(scene.ask("gus@example.com", at=50), at=51)
    scene.hold(claim, at=80)
    scene.end(claim.id, Instead.UNCONFIRMED, at=110)
    return scene.history()


@planted("I13")
def unknown_without_a_call() -> History:
    scene = a_clean_scene()
    claim = scene.claim(scene.ask("gus@example.com", at=50), at=51)
    scene.outcome(claim, Outcome.UNKNOWN, started=51.5, at=52)
    return scene.history()


@planted("I13", 1, 8)
def given_up_before_its_time(seconds: float) -> History:
    scene = a_clean_scene()
    scene.run = Run(gap_seconds=GAP, hold_timeout_seconds=10)
    claim = scene.claim(scene.ask("gus@example.com", at=50), at=51)
    scene.call(claim, at=52, answer="reset")
    scene.hold(claim, at=70)
    scene.end(claim.id, Instead.UNCONFIRMED, at=70 + seconds)
    return scene.history()


# -- 4: exits --------------------------------------------------------------------------------------------------


@planted("I12", FaultKind.KILL, FaultKind.STOP, FaultKind.PAUSE, FaultKind.CUT, FaultKind.BROKER_DOWN)
def thirty_exits_long_after_one_blow(kind: FaultKind) -> History:
    scene = a_clean_scene()
    scene.fault(kind, at=0.5)
    for end in (FaultKind.RESUME, FaultKind.MEND, FaultKind.BROKER_UP):
        scene.fault(end, at=0.9)
    for n in range(30):
        scene.fault(FaultKind.EXIT, at=10 + n, code=1)
    return scene.history()


@planted("I12", FaultKind.PAUSE, FaultKind.CUT, FaultKind.BROKER_DOWN, FaultKind.KILL)
def an_exit_behind_a_blow_to_another_worker(kind: FaultKind) -> History:
    scene = a_clean_scene()
    scene.fault(kind, "broker" if kind is FaultKind.BROKER_DOWN else "worker-1", at=0.5)
    scene.fault(FaultKind.BROKER_UP, "broker", at=0.9)
    scene.fault(FaultKind.EXIT, "worker-0", at=40, code=1)
    return scene.history()


@planted("I12", "api-0", "worker-0")
def two_exits_behind_one_kill(target: str) -> History:
    scene = a_clean_scene()
    scene.fault(FaultKind.KILL, target, at=0.5)
    scene.fault(FaultKind.EXIT, target, at=0.6, code=-9)
    scene.fault(FaultKind.EXIT, target, at=0.7, code=-9)
    return scene.history()


@planted("I12")
def a_worker_that_was_asked_to_leave_and_failed() -> History:
    scene = a_clean_scene()
    scene.fault(FaultKind.STOP, at=50)
    scene.fault(FaultKind.EXIT, at=55, code=1)
    return scene.history()


# -- and what is shown stays behind ------------------------------------------------------------------------------


@planted("I13", "outcome", "event", "ending", "claim")
def a_status_that_stays_behind_the_log(what: str) -> History:
    scene = a_clean_scene()
    id_ = scene.ask("gus@example.com", at=50)
    if what == "ending":
        scene.cancel(id_, at=51)
    elif what == "claim":
        scene.call(scene.claim(id_, at=51), at=52, accepted=False, answer="drop")
    else:
        claim = scene.claim(id_, at=51)
        scene.call(claim, at=52)
        if what == "outcome":
            scene.outcome(claim, Outcome.ACCEPTED, started=52, at=52.1)
        else:
            scene.event(id_, "processed", at=53)
    published = [r for r in scene.records if r.topic == topics.STATUS.name and r.value.id == id_]
    scene.records.remove(published[-1])
    scene.look_up(scene.calls[0].id or "", at=70)
    return scene.history()


@planted("I13")
def a_mail_that_nobody_asked_for() -> History:
    scene = a_clean_scene()
    scene.send(id_ := scene.ask("gus@example.com", at=50), at=51)
    scene.asks = [ask for ask in scene.asks if ask.id != id_]
    scene.records = [r for r in scene.records if not (isinstance(r.value, EmailRequest) and r.value.id == id_)]
    return scene.history()
