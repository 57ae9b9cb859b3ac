"""What an answer proves, and how long a 429 keeps us away."""

from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailstream.domain.attempt import Outcome
from streams.core.provider_answer import (
    CutOff,
    Garbled,
    NeverLeft,
    ProviderAnswer,
    RateHints,
    Responded,
    TimedOut,
    Withheld,
    classify,
    pause_seconds,
)

NOW = 1_795_000_000.0
DATE = formatdate(NOW, usegmt=True)


@pytest.mark.parametrize(
    ("answer", "proves"),
    [
        pytest.param(Responded(202, "abc"), Outcome.ACCEPTED, id="202 is accepted"),
        pytest.param(Responded(202), Outcome.ACCEPTED, id="202 without a message id is accepted all the same"),
        pytest.param(Responded(200, is_sandbox=True), Outcome.ACCEPTED, id="200 is a sandbox request's success"),
        pytest.param(Responded(200), Outcome.UNKNOWN, id="200 to a real request queues nothing that we know of"),
        pytest.param(Responded(201), Outcome.UNKNOWN, id="another 2xx proves nothing"),
        pytest.param(Responded(204, is_sandbox=True), Outcome.UNKNOWN, id="another 2xx proves nothing in the sandbox"),
        pytest.param(Responded(302), Outcome.UNKNOWN, id="a redirect is not followed and proves nothing"),
        *(pytest.param(Responded(code), Outcome.REFUSED, id=f"{code} is refused for good")
          for code in (400, 404, 405, 406, 413, 415, 451)),
        *(pytest.param(Responded(code), Outcome.ACCOUNT_FAULT, id=f"{code} is a fault of the account")
          for code in (401, 403)),
        pytest.param(Responded(429), Outcome.NOT_ACCEPTED, id="429 is not accepted"),
        *(pytest.param(Responded(code), Outcome.UNKNOWN, id=f"{code} may come after acceptance")
          for code in (500, 502, 503, 504)),
        pytest.param(Responded(402), Outcome.UNKNOWN, id="a 4xx that nobody documents proves nothing"),
        pytest.param(Responded(408), Outcome.UNKNOWN, id="408 says that the server stopped waiting, not why"),
        pytest.param(NeverLeft("refused"), Outcome.NOT_ACCEPTED, id="what never left was not accepted"),
        pytest.param(Withheld(), Outcome.NOT_ACCEPTED, id="what the gate held back was not accepted"),
        pytest.param(CutOff("reset"), Outcome.UNKNOWN, id="one byte out is enough to doubt"),
        pytest.param(TimedOut("silence"), Outcome.UNKNOWN, id="silence proves nothing"),
        pytest.param(Garbled("HTTQ"), Outcome.UNKNOWN, id="what cannot be read proves nothing"),
    ],
)  # fmt: skip
def test_an_answer_proves_only_what_it_says(answer: ProviderAnswer, proves: Outcome) -> None:
    assert classify(answer) is proves


@given(st.integers(), st.booleans())
def test_any_code_has_an_outcome_and_only_two_are_accepted(code: int, is_sandbox: bool) -> None:
    outcome = classify(Responded(code, is_sandbox=is_sandbox))

    assert (outcome is Outcome.ACCEPTED) == (code == 202 or (code == 200 and is_sandbox))


def pause(*, earlier: int = 0, jitter: float = 0.0, **headers: str) -> float:
    return pause_seconds(Responded(429, hints=RateHints(**headers)), NOW, earlier=earlier, jitter=jitter)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        pytest.param({"reset": f"{NOW + 40:.0f}", "date": DATE}, 40, id="until the reset"),
        pytest.param({"reset": "1000040", "date": formatdate(1_000_000, usegmt=True)}, 40,
                     id="the reset is read against the answer's date, not our clock"),
        pytest.param({"reset": f"{NOW + 40:.0f}"}, 40, id="without a date our clock stands in"),
        pytest.param({"reset": f"{NOW + 40:.0f}", "date": "yesterday"}, 40, id="with a garbled date as well"),
        pytest.param({"reset": f"{NOW + 3600:.0f}", "date": DATE}, 300, id="a far reset is cut to 300 s"),
        pytest.param({"retry_after": "17"}, 17, id="Retry-After in seconds"),
        pytest.param({"retry_after": formatdate(NOW + 25, usegmt=True), "date": DATE}, 25, id="Retry-After as a date"),
        pytest.param({"reset": f"{NOW + 5:.0f}", "date": DATE, "retry_after": "20"}, 20, id="the longer of both"),
        pytest.param({}, 1, id="no header: back-off"),
        pytest.param({"reset": f"{NOW - 10:.0f}", "date": DATE}, 1, id="a reset that is over: back-off"),
        pytest.param({"retry_after": "0"}, 1, id="Retry-After 0: back-off"),
        pytest.param({"retry_after": "-5"}, 1, id="a negative Retry-After: back-off"),
        pytest.param({"reset": f"{(NOW + 40) * 1000:.0f}", "date": DATE}, 1, id="milliseconds: back-off"),
        pytest.param({"reset": "9" * 400}, 1, id="a number without end: back-off"),
        pytest.param({"reset": "soon", "retry_after": "٣"}, 1, id="words and foreign digits: back-off"),
        pytest.param({"retry_after": "0.2"}, 1, id="never less than a second"),
    ],
)  # fmt: skip
def test_a_429_waits_as_long_as_the_provider_names(headers: dict[str, str], seconds: float) -> None:
    assert pause(**headers) == pytest.approx(seconds)


def test_without_a_named_time_the_pause_doubles_up_to_a_minute() -> None:
    assert [pause(earlier=earlier) for earlier in (0, 1, 2, 5, 6, 7, 10**9)] == [1, 2, 4, 32, 60, 60, 60]


def test_jitter_adds_up_to_a_tenth_and_never_goes_above_the_longest_pause() -> None:
    assert pause(retry_after="100", jitter=1.0) == pytest.approx(110)
    assert pause(retry_after="299", jitter=1.0) == 300


header = st.none() | st.text(max_size=60) | st.integers().map(str) | st.floats().map(str) | st.sampled_from(
    [DATE, "Thu, 01 Jan 99999 00:00:00 GMT", "Thu, 01 Jan 2026 00:00:00 +9999", "Mon, 32 Foo 2026 99:99:99 GMT"]
)  # fmt: skip


@given(header, header, header, st.floats(0, 4e9), st.integers(), st.floats(0, 1))
def test_no_headers_make_a_pause_shorter_than_a_second_or_longer_than_300(
    reset: str | None, retry_after: str | None, date: str | None, now: float, earlier: int, jitter: float
) -> None:
    answer = Responded(429, hints=RateHints(reset, retry_after, date))

    assert 1 <= pause_seconds(answer, now, earlier=earlier, jitter=jitter) <= 300
