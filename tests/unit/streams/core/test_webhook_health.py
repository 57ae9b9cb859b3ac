"""While the provider's events do not arrive, nothing may be called unconfirmed."""

import random
from typing import Any

import pytest
from msgspec import structs

from mailstream.clock import moment
from mailstream.domain.status import EmailStatus, Fact, Status
from streams.core.webhook_health import FEW, OLDEST, SAMPLE, YOUNGEST, WebhookHealth
from tests.support.builders import a_status

NOW = 1_795_000_000.0
HOUR = 3600.0


def sent(number: int, *, at: float = NOW - 600.0, has_event: bool = False, **members: Any) -> EmailStatus:
    """An email that was accepted at this time, and whether an event about it has come."""
    fact = Fact(at=moment(at), status=Status.SENT, attempt=1)
    facts = (fact, Fact(at=moment(at), what="open", key="k")) if has_event else (fact,)
    return structs.replace(a_status(Status.SENT, 1), **{"id": f"e{number}", "timeline": facts} | members)


def watching(count: int, heard: int, *, seconds_ago: float = 600.0) -> WebhookHealth:
    """So many emails sent ten minutes ago, a second apart, and so many of them with an event."""
    health = WebhookHealth()
    for n in range(count):
        health.accepted(sent(n, at=NOW - seconds_ago + n), NOW - seconds_ago + n)
    for n in range(heard):
        health.accepted(sent(n, at=NOW - seconds_ago + n, has_event=True), NOW)
    return health


@pytest.mark.parametrize(
    ("count", "heard", "is_healthy"),
    [
        pytest.param(0, 0, True, id="nothing was sent"),
        pytest.param(FEW - 1, 0, True, id="too few to prove anything"),
        pytest.param(FEW, 0, False, id="enough, and no event"),
        pytest.param(100, 99, True, id="99 of 100"),
        pytest.param(100, 98, False, id="98 of 100"),
        pytest.param(100, 100, True, id="all"),
    ],
)
def test_nearly_all_emails_must_have_an_event(count: int, heard: int, is_healthy: bool) -> None:
    assert watching(count, heard).is_healthy(NOW) is is_healthy


def test_an_email_that_was_just_sent_owes_no_event_yet() -> None:
    assert watching(100, 0, seconds_ago=YOUNGEST - 1).is_healthy(NOW)
    assert not watching(100, 0, seconds_ago=YOUNGEST + 100).is_healthy(NOW)


def test_an_email_of_long_ago_owes_none_any_more() -> None:
    assert watching(100, 0, seconds_ago=OLDEST + 101).is_healthy(NOW)


def test_an_event_about_an_email_that_is_not_watched_changes_nothing() -> None:
    health = watching(FEW, 0)

    health.accepted(sent(FEW, at=NOW - 2 * HOUR, has_event=True), NOW)
    health.accepted(sent(FEW + 1, has_event=True), NOW)  # another one is watched for its moment

    assert not health.is_healthy(NOW)


def test_an_event_that_proves_by_itself_that_an_email_was_sent_counts_as_its_event() -> None:
    health = WebhookHealth()
    for n in range(FEW):
        proof = Fact(at=moment(NOW - 600 + n), status=Status.SENT, key="processed")
        health.accepted(sent(n, timeline=(proof,)), NOW)

    assert health.is_healthy(NOW)


def test_emails_whose_partition_went_owe_their_events_to_another_worker() -> None:
    health = watching(100, 90)
    assert not health.is_healthy(NOW)

    health.lose(lambda email_id: int(email_id[1:]) >= 90)

    assert health.is_healthy(NOW)


def test_an_email_is_watched_from_its_first_acceptance() -> None:
    health = watching(FEW, FEW)

    for n in range(FEW):
        health.accepted(sent(n, at=NOW), NOW)

    assert health.is_healthy(NOW)


@pytest.mark.parametrize("per_second", [0.5, 10])
def test_webhooks_that_died_are_noticed_however_long_nobody_asked(per_second: float) -> None:
    """Found here: the sample filled up once and was never renewed, so nothing was left to judge by."""
    health, begin = WebhookHealth(), NOW - 5 * HOUR
    for n in range(int(5 * HOUR * per_second)):
        at = begin + n / per_second
        health.accepted(sent(n, at=at, has_event=at < NOW - HOUR), at)  # then they died

    assert not health.is_healthy(NOW)


def test_the_sample_is_bounded() -> None:
    health = WebhookHealth()
    for n in range(3 * SAMPLE):
        health.accepted(sent(n, at=NOW + n / 10), NOW + n / 10)

    assert len(health._sent) <= SAMPLE + 1


def test_a_clock_that_is_set_back_does_not_end_the_watch() -> None:
    health = watching(100, 100)
    for n in range(100):
        health.accepted(sent(1000 + n, at=NOW - HOUR + n), NOW - HOUR + n)

    assert not health.is_healthy(NOW - HOUR + 600)


# -- after a restart -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("heard", "is_healthy"), [(0, False), (98, False), (99, True)])
def test_a_worker_that_starts_knows_from_its_statuses_whether_events_arrive(heard: int, is_healthy: bool) -> None:
    health = WebhookHealth()
    order = list(range(100))
    random.Random(7).shuffle(order)

    for n in order:
        health.accepted(sent(n, at=NOW - 600 + n, has_event=n < heard), NOW)

    assert health.is_healthy(NOW) is is_healthy


def test_what_owes_no_event_is_not_watched_after_a_start_either() -> None:
    health = WebhookHealth()
    for n in range(100):
        health.accepted(sent(n, at=NOW - OLDEST - 200 + n), NOW)
        health.accepted(sent(n, at=NOW - 600 + n, test=True, id=f"sandbox{n}"), NOW)

    assert health.is_healthy(NOW)


def test_an_event_that_stood_unread_at_the_start_is_heard() -> None:
    health = WebhookHealth()
    for n in range(FEW):
        health.accepted(sent(n, at=NOW - 600 + n), NOW)
        health.accepted(sent(n, at=NOW - 600 + n, has_event=True), NOW)

    assert health.is_healthy(NOW)
