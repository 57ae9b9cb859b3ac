"""The weighted share of the lanes: critical overtakes, bulk never starves."""

from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailstream.domain.estimate import WEIGHTS
from mailstream.domain.lanes import Lanes
from mailstream.domain.request import Lane

ROUND = sum(WEIGHTS.values())


def starts(lanes: Lanes, waiting: set[Lane], count: int) -> list[Lane]:
    found = []
    for _ in range(count):
        lane = lanes.choose(waiting)
        lanes.started(lane)
        found.append(lane)
    return found


@pytest.mark.parametrize(
    ("waiting", "shares"),
    [
        pytest.param(set(Lane), {Lane.CRITICAL: 16, Lane.NORMAL: 4, Lane.BULK: 1}, id="all three"),
        pytest.param({Lane.NORMAL, Lane.BULK}, {Lane.NORMAL: 17, Lane.BULK: 4}, id="without critical"),
        pytest.param({Lane.BULK}, {Lane.BULK: 21}, id="bulk alone gets all"),
    ],
)
def test_each_lane_that_waits_gets_its_share(waiting: set[Lane], shares: dict[Lane, int]) -> None:
    assert Counter(starts(Lanes(), waiting, ROUND)) == shares


def test_the_more_urgent_lane_goes_first() -> None:
    assert starts(Lanes(), set(Lane), 3)[0] is Lane.CRITICAL


@pytest.mark.parametrize("quiet", Lane)
def test_a_lane_that_was_empty_saves_up_no_starts_and_owes_none(quiet: Lane) -> None:
    lanes = Lanes()
    starts(lanes, set(Lane) - {quiet}, 10_000)

    found = Counter(starts(lanes, set(Lane), ROUND * 10))

    assert found[quiet] == pytest.approx(WEIGHTS[quiet] * 10, abs=1)


@given(st.lists(st.sets(st.sampled_from(Lane), min_size=1), min_size=1, max_size=60))
def test_whatever_comes_and_goes_a_lane_that_waits_is_not_passed_over_for_more_than_a_round(
    waits: list[set[Lane]],
) -> None:
    lanes = Lanes()
    passed_over = dict.fromkeys(Lane, 0)
    for waiting in waits:
        lane = lanes.choose(waiting)
        lanes.started(lane)
        assert lane in waiting
        for other in Lane:
            passed_over[other] = passed_over[other] + 1 if other in waiting - {lane} else 0
            assert passed_over[other] <= ROUND


@given(st.integers(0, 50))
def test_starts_of_bulk_are_a_round_apart(before: int) -> None:
    lanes = Lanes()
    starts(lanes, {Lane.CRITICAL, Lane.NORMAL}, before)

    bulk = [n for n, lane in enumerate(starts(lanes, set(Lane), ROUND * 3)) if lane is Lane.BULK]

    assert all(later - earlier <= ROUND for earlier, later in pairwise(bulk))
