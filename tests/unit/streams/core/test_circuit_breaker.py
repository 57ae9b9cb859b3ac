"""When the worker pauses for the provider, and how often it asks."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailstream.domain.attempt import Outcome
from streams.core.circuit_breaker import (
    ACCOUNT_PROBE_SECONDS,
    BREAKER_PROBE_SECONDS,
    UNKNOWN_IN_A_ROW,
    CircuitBreaker,
    Reason,
)


def after(*outcomes: Outcome) -> CircuitBreaker:
    breaker = CircuitBreaker()
    for outcome in outcomes:
        breaker.learn(outcome, f"because of {outcome}", 100.0)
    return breaker


UNKNOWNS = (Outcome.UNKNOWN,) * UNKNOWN_IN_A_ROW


@pytest.mark.parametrize(
    ("outcomes", "reason"),
    [
        pytest.param((), None, id="nothing happened"),
        pytest.param((Outcome.ACCEPTED, Outcome.REFUSED, Outcome.NOT_ACCEPTED), None, id="ordinary answers"),
        pytest.param((Outcome.ACCOUNT_FAULT,), Reason.ACCOUNT_FAULT, id="one fault of the account is enough"),
        pytest.param(UNKNOWNS[:-1], None, id="a few unknown answers are not"),
        pytest.param(UNKNOWNS, Reason.PROVIDER_FAILING, id="several in a row are"),
        pytest.param((*UNKNOWNS[:-1], Outcome.ACCEPTED, Outcome.UNKNOWN), None, id="in a row"),
        pytest.param((*UNKNOWNS, Outcome.ACCEPTED), Reason.PROVIDER_FAILING, id="a call under way does not end it"),
        pytest.param((*UNKNOWNS, Outcome.ACCOUNT_FAULT), Reason.ACCOUNT_FAULT, id="a fault of the account is the worse news"),
        pytest.param((Outcome.ACCOUNT_FAULT, *UNKNOWNS), Reason.ACCOUNT_FAULT, id="and is not hidden by unknown answers"),
    ],
)  # fmt: skip
def test_what_answers_prove_decides_whether_to_pause(outcomes: tuple[Outcome, ...], reason: Reason | None) -> None:
    breaker = after(*outcomes)

    assert breaker.reason is reason
    assert (breaker.probe_in(100.0) is None) == (reason is None)


def test_the_reason_is_told_in_the_providers_words() -> None:
    assert after(Outcome.ACCOUNT_FAULT).detail == "because of ACCOUNT_FAULT"


@pytest.mark.parametrize(
    ("outcomes", "seconds"),
    [((Outcome.ACCOUNT_FAULT,), ACCOUNT_PROBE_SECONDS), (UNKNOWNS, BREAKER_PROBE_SECONDS)],
    ids=["account", "breaker"],
)
def test_probes_come_at_their_distance_until_one_passes(outcomes: tuple[Outcome, ...], seconds: float) -> None:
    breaker = after(*outcomes)

    assert breaker.probe_in(100.0) == seconds
    assert breaker.probe_in(100.0 + seconds + 5) == 0
    breaker.probed(is_well=False, now=200.0)
    assert breaker.probe_in(200.0) == seconds
    breaker.probed(is_well=True, now=300.0)
    assert breaker.probe_in(300.0) is None
    assert breaker.reason is None
    assert breaker.detail is None


def test_after_a_probe_that_passes_unknown_answers_are_counted_anew() -> None:
    breaker = after(*UNKNOWNS)
    breaker.probed(is_well=True, now=200.0)

    breaker.learn(Outcome.UNKNOWN, None, 201.0)

    assert breaker.reason is None


@given(st.lists(st.tuples(st.sampled_from(Outcome), st.floats(0, 40)), max_size=60))
def test_whatever_comes_in_meanwhile_there_is_no_more_than_one_probe_in_its_time(
    answers: list[tuple[Outcome, float]],
) -> None:
    """Every probe fails here; a fault of the account is asked about once a minute at most."""
    breaker, now, probes = CircuitBreaker(), 0.0, []
    for outcome, pause in answers:
        now += pause
        breaker.learn(outcome, None, now)
        if breaker.probe_in(now) == 0:
            probes.append((now, breaker.reason))
            breaker.probed(is_well=False, now=now)

    for (earlier, before), (later, reason) in pairwise(probes):
        least = ACCOUNT_PROBE_SECONDS if reason is before is Reason.ACCOUNT_FAULT else BREAKER_PROBE_SECONDS
        assert later - earlier >= least


@pytest.mark.parametrize(
    ("outcomes", "seconds"),
    [
        pytest.param((), None, id="nothing to ask"),
        pytest.param((Outcome.ACCOUNT_FAULT,), 0.0, id="the account was at fault: asked at once"),
        pytest.param(UNKNOWNS, BREAKER_PROBE_SECONDS - 1, id="the provider fails: no key helps"),
    ],
)
def test_another_key_is_tried_at_once_where_a_key_may_help(
    outcomes: tuple[Outcome, ...], seconds: float | None
) -> None:
    breaker = after(*outcomes)

    breaker.change_key(101.0)

    assert breaker.probe_in(101.0) == seconds
