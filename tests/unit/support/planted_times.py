"""Of the ten histories that the checker once let pass, with neighbours of each (other numbers, statuses, order): times."""

from collections.abc import Callable

from mailstream.clock import moment
from mailstream.domain.attempt import Outcome, OutcomeRecord
from mailstream.domain.recipient import canonical, partition_of, recipient_hash
from mailstream.domain.request import Lane
from tests.support.histories import GAP, PARTITIONS, START, Scene
from tests.support.history import History, Run
from tests.support.history_logs import FaultKind, Sample
from tests.unit.support.planting import planted

OTHER = "worker-1/b1"

# -- 8: the gap -----------------------------------------------------------------------------------------------------


@planted("I7", (0.1, 2, 0.09), (0.1, 10, 0.09), (0.1, 3, 0.05), (2.0, 2, 0.5), (0.5, 4, 0.2))
def many_calls_behind_their_gate(kind: tuple[float, int, float]) -> History:
    """Each n-th call comes late, and so near to the next one, by nothing but the worker's word."""
    gap, each, late = kind
    return _late(gap, lambda n: late if n % each == 0 else 0.0)


@planted("I7", 0.3, 1.2)
def a_call_that_was_on_its_way_for_long(late: float) -> History:
    return _late(2.0, lambda n: late if n == 5 else 0.0)


@planted("I7", FaultKind.PAUSE, FaultKind.KILL, FaultKind.CUT)
def late_calls_behind_a_blow_that_was_over(kind: FaultKind) -> History:
    scene = late_scene(0.1, lambda n: 0.09 if n % 5 == 0 else 0.0)
    scene.fault(kind, at=0.2)
    scene.fault(FaultKind.RESUME, at=0.3)
    scene.fault(FaultKind.PAUSE, "worker-5", at=0.3)
    return scene.history()


@planted("I7")
def many_late_calls_behind_one_pause() -> History:
    scene = late_scene(0.1, lambda n: 0.09 if n % 5 == 0 else 0.0)
    scene.fault(FaultKind.PAUSE, at=0.9)
    scene.fault(FaultKind.RESUME, at=99)
    return scene.history()


@planted("I7")
def late_calls_without_a_recorded_start() -> History:
    scene = late_scene(0.1, lambda n: 0.09 if n == 50 else 0.0)
    scene.records = [
        r for r in scene.records if not (isinstance(r.value, OutcomeRecord) and r.value.nonce == scene.calls[50].nonce)
    ]
    return scene.history()


@planted("I7")
def a_start_before_its_claim() -> History:
    """The claim is too young for the start that would excuse it."""
    scene = Scene(Run(gap_seconds=0.1))
    for n, (claimed, started, arrived) in enumerate(((0.5, 1.0, 1.09), (1.05, 1.0, 1.1))):
        claim = scene.claim(scene.ask(f"{n}@example.com", at=0), at=claimed)
        scene.call(claim, at=arrived)
        scene.outcome(claim, Outcome.ACCEPTED, started=started + n * 0.1 - n * 0.1, at=2)
    return scene.history()


@planted("I7")
def a_stall_of_another_process() -> History:
    scene = late_scene(0.1, lambda n: 0.09 if n % 10 == 0 else 0.0)
    return scene.history(samples=[Sample(START + n, "worker-7", "stall_seconds", 1) for n in range(1, 20)])


@planted("I7")
def stalls_that_are_too_short_to_explain_it() -> History:
    scene = late_scene(0.1, lambda n: 0.09 if n % 10 == 0 else 0.0)
    return scene.history(samples=[Sample(START + 1.05 + n / 10, "machine", "stall_seconds", 0.02) for n in range(100)])


def _late(gap: float, late: Callable[[int], float]) -> History:
    return late_scene(gap, late).history()


def late_scene(gap: float, late: Callable[[int], float]) -> Scene:
    scene = Scene(Run(gap_seconds=gap))
    for n in range(100):
        claim = scene.claim(scene.ask(f"{n}@example.com", at=0), at=0.5)
        start = 1 + n * gap
        scene.call(claim, at=start + late(n))
        scene.outcome(claim, Outcome.ACCEPTED, started=start, at=start + gap + late(n))
    return scene


# -- 9: silence ----------------------------------------------------------------------------------------------------


@planted("I9", 5, 20, 60)
def a_silence_in_which_others_are_killed(count: int) -> History:
    """They never claimed, so their end unsettles no group."""
    return _silent(FaultKind.KILL, "worker-9", count)


@planted("I9", FaultKind.KILL, FaultKind.PAUSE, FaultKind.CUT, FaultKind.STOP)
def a_silence_in_which_a_member_is_hit_again_and_again(kind: FaultKind) -> History:
    return _silent(kind, "worker-1", 60)


@planted("I9")
def a_silence_without_any_fault() -> History:
    scene = Scene(Run(gap_seconds=GAP, session_timeout_seconds=3))
    scene.send(scene.ask("ada@example.com", at=0), at=1)
    scene.send(scene.ask("bob@example.com", at=2), at=20)
    return scene.history()


@planted("I9")
def a_silence_until_the_end() -> History:
    scene = Scene(Run(gap_seconds=GAP, session_timeout_seconds=3))
    scene.send(scene.ask("ada@example.com", at=0), at=1)
    id_ = scene.ask("bob@example.com", at=2)
    scene.look_up(id_, at=60)
    return scene.history()


@planted("I9")
def a_silence_longer_than_the_broker_was_away() -> History:
    scene = Scene(Run(gap_seconds=GAP, session_timeout_seconds=3))
    scene.send(scene.ask("ada@example.com", at=0), at=1)
    id_ = scene.ask("bob@example.com", at=2)
    scene.fault(FaultKind.BROKER_DOWN, "broker", at=3)
    scene.fault(FaultKind.BROKER_UP, "broker", at=10)
    scene.send(id_, at=60)
    return scene.history()


@planted("I9", "for ever", "for long")
def an_email_that_is_passed_over(how: str) -> History:
    scene = Scene(Run(gap_seconds=GAP))
    ids = [scene.ask(f"{n}@example.com", at=n * 3) for n in range(200)]
    for n, id_ in enumerate(ids[1:], 1):
        scene.send(id_, at=n * 3 + 1)
    if how == "for long":
        scene.send(ids[0], at=700)
    return scene.history()


@planted("I9")
def a_silence_of_the_dead_workers_partition_only() -> History:
    return behind_a_kill(is_in_partition=False, calls=12, lane=Lane.BULK)


def behind_a_kill(*, is_in_partition: bool, calls: int, lane: Lane) -> History:
    """A mail of this lane waits when its worker is killed; critical ones that come later go first, there or elsewhere."""
    scene = Scene(Run(gap_seconds=GAP, session_timeout_seconds=3))
    first = scene.ask("ada@example.com", at=0)
    home = scene.partition_of(first)
    at_home = [f"{n}@example.com" for n in range(200) if partition_at(f"{n}@example.com") == home]
    elsewhere = [f"{n}@example.com" for n in range(200) if partition_at(f"{n}@example.com") != home]
    waiting = scene.ask(at_home.pop(), at=0.5, lane=lane)
    scene.send(first, at=1)
    scene.fault(FaultKind.KILL, at=3)
    for n, address in enumerate((at_home if is_in_partition else elsewhere)[:calls]):
        critical = scene.ask(address, at=4 + 2 * n, lane=Lane.CRITICAL)
        scene.send(critical, at=5 + 2 * n, worker=OTHER)
    scene.send(waiting, at=5 + 2 * calls, worker=OTHER)
    return scene.history()


def partition_at(address: str) -> int:
    return partition_of(recipient_hash(canonical(address)), PARTITIONS)


def _silent(kind: FaultKind, target: str, count: int) -> History:
    scene = Scene(Run(gap_seconds=GAP, session_timeout_seconds=3))
    first, second = scene.ask("ada@example.com", at=0), scene.ask("ada@example.com", at=0.5)
    scene.send(first, at=1)
    scene.fault(FaultKind.KILL, at=3)
    ends = {FaultKind.PAUSE: FaultKind.RESUME, FaultKind.CUT: FaultKind.MEND}
    for n in range(1, count):
        scene.fault(kind, target, at=3 + 5 * n)
        if kind in ends:
            scene.fault(ends[kind], target, at=4 + 5 * n)
    scene.send(second, at=3 + 5 * (count - 1) + 4, worker=OTHER)
    return scene.history()


# -- 10: order -----------------------------------------------------------------------------------------------------


@planted("I6", "release", "retry before", "hold before", "of a third")
def overtaken_without_cause(trouble: str) -> History:
    scene = Scene()
    earlier = scene.ask(at=1)
    if trouble == "retry before":  # long over when the later one was asked for
        not_accepted(scene, earlier, at=2, retry_at=3)
    if trouble == "hold before":
        claim = scene.claim(earlier, at=2)
        scene.fault(FaultKind.KILL, at=2.5)
        scene.hold(claim, at=20)
        scene.outcome(claim, Outcome.NOT_ACCEPTED, started=2, at=21)
    later = scene.ask(at=30)
    if trouble == "release":
        scene.release(scene.claim(earlier, at=31), at=31.5)
    if trouble == "of a third":
        not_accepted(scene, scene.ask("bob@example.com", at=30), at=31, retry_at=90)
    scene.send(later, at=32)
    scene.send(earlier, at=35)
    return scene.history()


def not_accepted(scene: Scene, id_: str, *, at: float, retry_at: float) -> None:
    claim = scene.claim(id_, at=at)
    about = {
        "id": id_,
        "attempt": claim.attempt,
        "nonce": claim.nonce,
        "at": moment(START + at),
        "worker": claim.worker,
    }
    outcome = OutcomeRecord(**about, result=Outcome.NOT_ACCEPTED, retry_at=moment(START + retry_at), counts=True)
    scene.note(outcome, at=at + 0.1)
