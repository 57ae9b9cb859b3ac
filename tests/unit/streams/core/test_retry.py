"""How long an email waits between two attempts."""

from hypothesis import given
from hypothesis import strategies as st

from streams.core.retry import back_off_seconds

DELAYS = (30.0, 120.0, 600.0)


def test_each_retry_has_its_delay_and_there_are_no_more_than_delays() -> None:
    assert [back_off_seconds(used, delays=DELAYS, jitter=0) for used in range(5)] == [30, 120, 600, None, None]
    assert back_off_seconds(0, delays=(), jitter=0) is None


@given(st.lists(st.floats(0.001, 1e6), min_size=1), st.floats(0, 1), st.data())
def test_jitter_only_adds_and_at_most_a_tenth(delays: list[float], jitter: float, data: st.DataObject) -> None:
    used = data.draw(st.integers(0, len(delays) - 1))
    plain, jittered = (back_off_seconds(used, delays=delays, jitter=some) for some in (0, jitter))

    assert plain is not None
    assert jittered is not None
    assert plain <= jittered <= plain * 1.1000001
