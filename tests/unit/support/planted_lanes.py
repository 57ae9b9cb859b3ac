"""Lanes that do not get their share."""

from mailstream.domain.request import Lane
from tests.support.histories import Scene
from tests.support.history import History, Run
from tests.unit.support.planting import planted

OTHER = "worker-1/b1"


@planted("I19", (Lane.CRITICAL, Lane.NORMAL, 12), (Lane.CRITICAL, Lane.BULK, 8), (Lane.NORMAL, Lane.BULK, 8))
def a_lane_that_waits_for_a_slower_one(kind: tuple[Lane, Lane, int]) -> History:
    return lanes(*kind)


@planted("I19", (Lane.BULK, Lane.CRITICAL, 60), (Lane.BULK, Lane.NORMAL, 20))
def a_lane_that_starves(kind: tuple[Lane, Lane, int]) -> History:
    return lanes(*kind)


@planted("I19")
def a_lane_that_waits_behind_a_worker_that_took_over_long_ago() -> History:
    scene = Scene(Run())
    other = scene.ask("other@example.com", at=0)
    scene.send(other, at=0.5, worker=OTHER)
    late = scene.ask("last@example.com", at=1, lane=Lane.CRITICAL)
    for n in range(12):
        scene.send(scene.ask(f"{n}@example.com", at=1), at=3 + n * 0.5)
    scene.send(late, at=10)
    return scene.history()


def lanes(waiting: Lane, others: Lane, count: int) -> History:
    """One waits, and so many of another lane are called first."""
    scene = Scene(Run())
    late = scene.ask("last@example.com", at=0, lane=waiting)
    for n in range(count):
        scene.send(scene.ask(f"{n}@example.com", at=0.01, lane=others), at=2 + n * 0.5)
    scene.send(late, at=2 + count * 0.5)
    return scene.history()
