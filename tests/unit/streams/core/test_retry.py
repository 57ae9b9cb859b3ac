"""How long an email waits between two attempts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.core.retry import back_off_seconds

DELAYS = (30.0, 120.0, 600.0)


def test_each_attempt_has_its_delay_and_the_last_one_repeats() -> None:
    assert [back_off_seconds(attempt, delays=DELAYS, jitter=0) for attempt in (1, 2, 3, 4, 99)] == [
        30, 120, 600, 600, 600,
    ]  # fmt: skip


@given(st.integers(1, 10**6), st.lists(st.floats(0.001, 1e6), min_size=1), st.floats(0, 1))
def test_jitter_only_adds_and_at_most_a_tenth(attempt: int, delays: list[float], jitter: float) -> None:
    plain = back_off_seconds(attempt, delays=delays, jitter=0)

    assert plain <= back_off_seconds(attempt, delays=delays, jitter=jitter) <= plain * 1.1000001


@pytest.mark.parametrize(
    ("attempt", "delays", "jitter"),
    [
        pytest.param(0, DELAYS, 0.0, id="attempts are counted from 1"),
        pytest.param(1, (), 0.0, id="there must be a delay"),
        pytest.param(1, DELAYS, 1.1, id="jitter is at most 1"),
        pytest.param(1, DELAYS, -0.1, id="jitter is at least 0"),
    ],
)
def test_what_makes_no_sense_is_refused(attempt: int, delays: tuple[float, ...], jitter: float) -> None:
    with pytest.raises(ValueError, match=r"attempt|delays|jitter"):
        back_off_seconds(attempt, delays=delays, jitter=jitter)
