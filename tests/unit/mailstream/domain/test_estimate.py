"""The position that callers see is the one that the worker's own schedule gives."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailstream.domain.estimate import position, starts_at
from mailstream.domain.request import Lane
from streams.core.schedule import Schedule
from streams.core.waiting import Waiting

COUNTS = st.fixed_dictionaries({lane: st.integers(0, 60) for lane in Lane})


def order_of(counts: dict[Lane, int]) -> list[tuple[Lane, int]]:
    """The worker's order of so many emails in each lane."""
    schedule = Schedule()
    number = 0
    for lane, count in counts.items():
        for place in range(count):
            number += 1
            schedule.add(Waiting(f"{lane}/{place}", 0, number, lane, place, number, due=0), now=1)
    order = []
    while (email := schedule.next(1)) is not None:
        lane, _, place = email.id.partition("/")
        order.append((Lane(lane), int(place)))
        schedule.done(email.recipient, 1)
    return order


@given(counts=COUNTS)
def test_the_position_is_that_of_the_workers_schedule(counts: dict[Lane, int]) -> None:
    for index, (lane, place) in enumerate(order_of(counts)):
        assert position(lane, place, counts) == index


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        pytest.param({"last_start": None, "due": None}, 100 + 6, id="an idle worker starts now"),
        pytest.param({"last_start": 99, "due": None}, 101 + 6, id="the next turn is a gap after the last start"),
        pytest.param({"last_start": 50, "due": None}, 100 + 6, id="a turn long due is taken now"),
        pytest.param({"last_start": 99, "due": 500.0}, 500, id="not before send_at"),
    ],
)
def test_the_estimate_counts_gaps_from_the_next_turn(members: dict[str, float], expected: float) -> None:
    assert starts_at(3, now=100, interval=2, **members) == expected
