"""Lies, illegal steps, audits, secrets, poison."""

from msgspec import structs

from mailstream.clock import moment
from mailstream.domain import email_id, topics
from mailstream.domain.attempt import ClaimRecord, Instead
from mailstream.domain.request import Address, EmailRequest
from mailstream.domain.status import Fact, Status, rank_of
from tests.support.histories import START, Scene, a_clean_scene
from tests.support.history import History
from tests.support.history_logs import Ask, Audit, FaultKind, Lookup, Planted, Result
from tests.unit.support.planting import planted

OTHER = "worker-1/b1"


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


@planted("I10")
def an_audit_that_misses_a_lost_email() -> History:
    scene = a_clean_scene()
    request = EmailRequest(to=Address("ada@example.com"), id=email_id.new("ada@example.com"))
    scene.append(topics.REQUESTED.name, scene.partition_of(request.id or ""), 50, request)
    scene.ask("ada@example.com", at=51)  # behind it, and taken
    return scene.history(audits=[Audit(START + 90, START + 91, 0)])


@planted("I10")
def an_audit_that_misses_a_duplicate() -> History:
    scene = a_clean_scene()
    id_ = scene.calls[0].id or ""
    scene.known[id_] = structs.replace(scene.known[id_], final=False, status=Status.QUEUED)
    scene.send(id_, at=70)
    return scene.history(audits=[Audit(START + 90, START + 91, 0)])


@planted("I10")
def an_audit_that_finds_what_is_well() -> History:
    scene = a_clean_scene()
    return scene.history(audits=[Audit(START + 90, START + 91, 1, found=(scene.calls[0].id or "",))])


@planted("I10")
def an_audit_that_finds_something_and_ends_with_0() -> History:
    scene = a_clean_scene()
    scene.asks.append(Ask(START + 50, Result.OK, 202, lost := email_id.new("lost@example.com")))
    return scene.history(audits=[Audit(START + 90, START + 91, 0, found=(lost,))])


@planted("I5")
def a_replica_that_goes_back_across_its_kill() -> History:
    scene = a_clean_scene()
    id_ = scene.calls[0].id or ""
    scene.look_up(id_, at=41, replica="api-1")
    scene.fault(FaultKind.KILL, "api-1", at=42)
    scene.lookups.append(Lookup(START + 43, id_, 200, Status.QUEUED, rank_of(Status.QUEUED, 0), "api-1", START + 44))
    return scene.history()


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
