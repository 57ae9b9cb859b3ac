"""The error of the wall clock, as far as acknowledgements prove it."""

import pytest
from hypothesis import given
from hypothesis.strategies import floats

from mailstream.domain.clock_error import ALLOWED_SECONDS, ClockError

BROKERS = 1_800_000_000.0  #: the brokers' time at our monotonic time 1,000
SENT = 1_000.0
HOUR, YEAR = 3_600.0, 31_536_000.0


def measured(*, acknowledged_after: float = 0.0) -> ClockError:
    error = ClockError()
    error.measured(BROKERS, sent=SENT, acknowledged=SENT + acknowledged_after)
    return error


def test_a_clock_that_was_never_compared_cannot_be_trusted() -> None:
    assert not ClockError().is_right(BROKERS, SENT)


@pytest.mark.parametrize("step", [HOUR, -HOUR, YEAR, -YEAR])
def test_a_step_is_seen_at_once_and_without_another_record(step: float) -> None:
    error = measured()
    assert error.is_right(BROKERS + 60, SENT + 60)

    assert not error.is_right(BROKERS + 61 + step, SENT + 61)
    assert error.seconds(BROKERS + 61 + step, SENT + 61) == pytest.approx(step)
    assert error.brokers_now(SENT + 61) == pytest.approx(BROKERS + 61)

    assert error.is_right(BROKERS + 62, SENT + 62)


def test_a_slow_acknowledgement_accuses_no_right_clock() -> None:
    error = measured(acknowledged_after=2 * ALLOWED_SECONDS)

    assert error.is_right(BROKERS, SENT)
    assert error.is_right(BROKERS + 2 * ALLOWED_SECONDS, SENT + 2 * ALLOWED_SECONDS)


def test_brokers_whose_clock_was_set_are_believed_with_their_next_record() -> None:
    error = measured()
    error.measured(BROKERS + HOUR, sent=SENT + 1, acknowledged=SENT + 1)

    assert not error.is_right(BROKERS + 2, SENT + 2)
    assert error.is_right(BROKERS + HOUR + 2, SENT + 2)


def test_a_machine_that_slept_is_right_again_after_its_next_record() -> None:
    error = measured()
    assert not error.is_right(BROKERS + HOUR, SENT), "its monotonic clock stood still"

    error.measured(BROKERS + HOUR, sent=SENT, acknowledged=SENT)
    assert error.is_right(BROKERS + HOUR, SENT)


@given(true=floats(-YEAR, YEAR), taken=floats(0, 60), stamped=floats(0, 1), later=floats(0, HOUR))
def test_what_is_said_of_a_clock_is_never_more_than_its_true_error(
    true: float, taken: float, stamped: float, later: float
) -> None:
    error = ClockError()
    error.measured(BROKERS + taken * stamped, sent=SENT, acknowledged=SENT + taken)

    said = error.seconds(BROKERS + later + true, SENT + later)

    assert abs(said) <= abs(true) + 1e-3
    assert abs(said - true) <= taken + 1e-3
    assert said == 0 or (said > 0) == (true > 0)
