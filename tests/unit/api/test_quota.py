"""A key stops exactly at its quota, whatever of it was used before a restart or by another process."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest

from api.keys import DEV_KEY, Key
from api.problems import Code, Problem
from api.quota import DAY_SECONDS, Quota
from api.rate_limits import Rates
from api.view.brief import Brief
from mailstream.clock import SystemClock, moment
from mailstream.domain.recipient import recipient_hash
from mailstream.domain.request import Address, EmailRequest
from mailstream.domain.status import Status

NOON = 20_000 * DAY_SECONDS + DAY_SECONDS / 2


class Clock(SystemClock):
    def __init__(self) -> None:
        self.at = NOON

    def now(self) -> float:
        return self.at


def a_request(number: int, **members: Any) -> EmailRequest:
    return EmailRequest(to=Address(f"user{number}@example.com"), id=f"em_{number}", tenant="dev", **members)


def a_brief(number: int, at: float) -> Brief:
    recipient = f"{recipient_hash(f'user{number}@example.com'):08x}"
    return Brief("dev", recipient, Status.QUEUED, 4, moment(at), moment(at))


@contextmanager
def refused() -> Iterator[None]:
    with pytest.raises(Problem) as error:
        yield
    assert error.value.code is Code.QUOTA_USED_UP
    assert int(error.value.headers["Retry-After"]) == DAY_SECONDS / 2


def accept(quota: Quota, caller: Key, *requests: EmailRequest, was_new: bool = True) -> None:
    with quota.taken(caller, requests) as others:
        others += () if was_new else requests


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def caller() -> Key:
    return DEV_KEY.model_copy(update={"quota": 3})


def test_the_last_recipient_fits_and_one_more_does_not(clock: Clock, caller: Key) -> None:
    quota = Quota(clock)
    for number in range(3):
        accept(quota, caller, a_request(number))

    with refused():
        accept(quota, caller, a_request(3))


def test_copies_count_and_a_batch_is_taken_whole_or_not(clock: Clock, caller: Key) -> None:
    quota = Quota(clock)
    with refused():
        accept(quota, caller, a_request(1, cc=(Address("a@b.example"),)), a_request(2, bcc=(Address("a@b.example"),)))

    accept(quota, caller, a_request(1, cc=(Address("a@b.example"), Address("c@b.example"))))


def test_what_is_read_back_from_the_log_counts_once(clock: Clock, caller: Key) -> None:
    quota = Quota(clock)
    accept(quota, caller, a_request(1))
    quota.changed(b"em_1", None, a_brief(1, NOON))
    accept(quota, caller, a_request(2), a_request(3))

    with refused():
        accept(quota, caller, a_request(4))


def test_what_another_process_accepted_today_counts(clock: Clock, caller: Key) -> None:
    quota = Quota(clock)
    for number in range(3):
        quota.changed(b"em_%d" % number, None, a_brief(number, NOON - 100))
        quota.changed(b"em_y%d" % number, None, a_brief(number, NOON - DAY_SECONDS))

    with refused():
        accept(quota, caller, a_request(4))


def test_what_failed_or_was_a_repeat_counts_for_nothing(clock: Clock, caller: Key) -> None:
    quota = Quota(clock)
    for _ in range(10):
        accept(quota, caller, a_request(1), was_new=False)
        with pytest.raises(ZeroDivisionError), quota.taken(caller, (a_request(1),)):
            raise ZeroDivisionError

    accept(quota, caller, a_request(1), a_request(2), a_request(3))


def test_a_new_day_begins_at_midnight(clock: Clock, caller: Key) -> None:
    quota = Quota(clock)
    accept(quota, caller, a_request(1), a_request(2), a_request(3))

    clock.at += timedelta(hours=12).total_seconds()

    accept(quota, caller, a_request(4))


def test_one_recipient_gets_only_so_many(clock: Clock) -> None:
    quota, caller = Quota(clock), DEV_KEY.model_copy(update={"quota_per_recipient": 2})
    accept(quota, caller, a_request(1))
    quota.changed(b"em_other", None, a_brief(1, NOON))

    with refused():
        accept(quota, caller, a_request(1))
    accept(quota, caller, a_request(2))


def test_a_key_that_asks_too_often_is_told_when_to_ask_again() -> None:
    rates, caller = Rates(SystemClock()), DEV_KEY.model_copy(update={"rate": "2/minute; 100/hour"})

    left = [rates.take(caller)["RateLimit-Remaining"] for _ in range(2)]
    with pytest.raises(Problem) as error:
        rates.take(caller)

    assert left == ["1", "0"]
    assert error.value.code is Code.RATE_LIMITED
    assert error.value.headers["RateLimit-Limit"] == "2"
    assert 1 <= int(error.value.headers["Retry-After"]) <= 60
    assert rates.take(DEV_KEY) == {}
