"""Whether and when an email is tried again, and what that costs."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailstream.domain.status import Provider, Status
from streams.core.provider_answer import CutOff, NeverLeft, ProviderAnswer, RateHints, Responded, classify
from streams.core.retry import Retry, back_off_seconds, exhausted, retry_after
from tests.support.builders import NOW, a_status

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


@pytest.mark.parametrize(
    ("answer", "used", "decided"),
    [
        (Responded(202), 0, Retry()),
        (Responded(400), 0, Retry()),
        (CutOff("reset"), 0, Retry()),
        (Responded(401), 3, Retry(1000)),
        (NeverLeft("refused"), 0, Retry(1030, counts=True)),
        (NeverLeft("refused"), 2, Retry(1600, counts=True)),
        (NeverLeft("refused"), 3, Retry(None, counts=True)),
        (Responded(429, hints=RateHints(retry_after="17")), 3, Retry(1017, pause_seconds=17)),
        (Responded(429), 0, Retry(1004, pause_seconds=4)),
    ],
)
def test_only_what_was_certainly_not_taken_is_tried_again_and_the_budget_pays_for_no_429(
    answer: ProviderAnswer, used: int, decided: Retry
) -> None:
    found = retry_after(classify(answer), answer, now=1000, used=used, delays=DELAYS, earlier=2, jitter=0)

    assert found == decided


def test_retries_are_exhausted_when_the_last_outcome_named_no_time() -> None:
    told = Provider(reason="refused")
    assert exhausted(a_status(Status.RETRYING, due_at=None, provider=told)) == "retries_exhausted: refused"
    assert exhausted(a_status(Status.RETRYING, due_at=None)) == "retries_exhausted"
    assert exhausted(a_status(Status.RETRYING, due_at=NOW)) is None
    assert exhausted(a_status(Status.QUEUED)) is None
