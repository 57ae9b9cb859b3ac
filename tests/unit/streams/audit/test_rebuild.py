"""Which emails are born again when their statuses are gone, as what, and which of them may have been called already."""

import math
from dataclasses import replace
from typing import Any

import pytest
from msgspec import structs

from mailstream.domain import codec
from mailstream.domain.dead_letter import DeadLetter, Reason
from mailstream.domain.request import Address, EmailRequest, OnAmbiguous
from mailstream.domain.status import Coordinates, Status
from streams.audit.rebuild import WRITER, Partition
from streams.core.faults import Fault, Rules
from tests.support.builders import (
    HOME,
    ID,
    NOW,
    PARTITIONS,
    a_claim,
    a_record,
    a_request,
    a_status,
    an_event,
    an_outcome,
    later,
)

REQUEST = a_request(id=ID)
HOUR = 3600.0


def a_partition(**known: Any) -> Partition:
    """One whose attempts are whole, and all of whose requests were taken by workers."""
    return Partition(
        **{
            "number": HOME,
            "rules": Rules(PARTITIONS, HOUR, frozenset()),
            "on_ambiguous": OnAmbiguous.HOLD,
            "unread_from": 1000,
            "attempts_since": 0.0,
            "whole_since": 0.0,
        }
        | known
    )


def shown(partition: Partition) -> list[tuple[str, Status, bool]]:
    return [(status.id, status.status, status.possible_duplicate) for status in partition.finished()]


def refused(partition: Partition, fault: Fault, offset: int = 7, topic: str = "email.requested") -> None:
    letter = DeadLetter(*fault, replace(a_record(b"v", offset=offset), topic=topic))
    partition.letter(replace(a_record(b"v"), headers=dict(letter.headers())), "email.requested")


@pytest.mark.parametrize(
    ("fault", "status"),
    [
        pytest.param(None, Status.QUEUED, id="it was taken"),
        pytest.param((Reason.EVENT_TOO_OLD, "late"), Status.REJECTED, id="it was read too late"),
        pytest.param((Reason.TEMPLATE_FAILED, "no such template"), Status.REJECTED, id="its template is there now"),
        pytest.param((Reason.ID_CONFLICT, "other content"), None, id="it was a repeat of a record that is gone"),
    ],
)
def test_what_was_refused_stays_refused(fault: Fault | None, status: Status | None) -> None:
    """Who was told so may have asked again under another id: taken now, it would be mailed a second time."""
    partition = a_partition()
    if fault is not None:
        refused(partition, fault)

    partition.request(a_record(REQUEST))

    known = partition.statuses.get(ID)
    assert (known and known.status) is status
    if fault is not None and known is not None:
        assert known.timeline[-1].detail == f"{fault[0]}: {fault[1]}"


def test_only_dead_letters_of_requests_refuse_one() -> None:
    partition = a_partition()
    refused(partition, (Reason.BAD_EVENT, "no event"), topic="email.events")
    partition.letter(a_record(b"v"), "email.requested")

    partition.request(a_record(REQUEST))

    assert shown(partition) == [(ID, Status.QUEUED, False)]


def test_what_was_taken_stays_taken_whatever_the_settings_here_say_of_it() -> None:
    """The command may run where neither templates nor senders of the workers are known."""
    partition = a_partition()

    partition.request(a_record(structs.replace(REQUEST, from_=Address("else@example.com"), template="gone")))

    assert shown(partition) == [(ID, Status.QUEUED, False)]


@pytest.mark.parametrize(
    ("unread_from", "request_", "is_called", "is_shown"),
    [
        pytest.param(8, REQUEST, False, True, id="a worker has taken it"),
        pytest.param(7, REQUEST, False, False, id="it stands unread: a worker takes it, or refuses it"),
        pytest.param(7, REQUEST, True, True, id="a worker has taken it, and could not commit before it was called"),
        pytest.param(None, REQUEST, False, True, id="how far workers came was forgotten"),
        pytest.param(
            None,
            structs.replace(REQUEST, from_=Address("else@example.com")),
            False,
            False,
            id="forgotten, and the record has a fault: workers read it again",
        ),
    ],
)
def test_what_no_worker_has_taken_is_left_to_them(
    unread_from: int | None, request_: EmailRequest, is_called: bool, is_shown: bool
) -> None:
    partition = a_partition(unread_from=unread_from)
    partition.request(a_record(request_))
    if is_called:
        partition.attempt(a_record(a_claim()))

    assert [status.id for status in partition.finished()] == [ID] * is_shown


def test_all_topics_together_give_the_status_that_the_email_had() -> None:
    partition = a_partition()
    partition.request(a_record(REQUEST))
    for offset, record in enumerate((a_claim(), an_outcome())):
        partition.attempt(a_record(record, offset=offset))
    partition.event(a_record(an_event("delivered", id=ID)))

    (status,) = partition.finished()

    assert (status.status, status.attempt, status.writer) == (Status.DELIVERED, 1, WRITER)
    steps = [fact.status for fact in status.timeline]
    assert steps == [Status.QUEUED, Status.PROCESSING, Status.SENT, Status.DELIVERED]
    assert partition.settled_to(2) == 2


def test_a_claim_that_is_open_is_read_again_by_the_next_worker() -> None:
    """Only the log says whose call is under way."""
    partition = a_partition()
    partition.request(a_record(REQUEST))
    partition.attempt(a_record(a_claim(), offset=5))
    assert partition.settled_to(9) == 5

    partition.event(a_record(an_event("processed", id=ID)))

    assert partition.settled_to(9) == 9


def test_a_status_that_is_left_counts_by_its_rank() -> None:
    partition = a_partition()
    for status in (a_status(Status.SENT, 1), a_status(Status.QUEUED)):
        partition.status(a_record(status, key=ID.encode()))
    partition.request(a_record(REQUEST))

    assert shown(partition) == [(ID, Status.SENT, False)]
    partition.status(replace(a_record(b"", key=ID.encode()), value=None))
    assert shown(partition) == []


def test_a_younger_copy_of_the_request_is_where_the_body_is() -> None:
    partition = a_partition()
    partition.request(a_record(REQUEST))
    partition.request(a_record(REQUEST, offset=90, age_seconds=-60, **{codec.CARRIED_HEADER: b"7/1"}))

    (status,) = partition.finished()

    assert (status.order, status.request, status.request_at) == (7, Coordinates(HOME, 90), later(60))


@pytest.mark.parametrize(
    ("attempts_since", "whole_since", "is_born", "is_marked"),
    [
        pytest.param(-HOUR, -math.inf, True, False, id="it is younger than the first attempt that is kept"),
        pytest.param(
            HOUR, -HOUR, True, True, id="too young for retention: only another hand can have deleted attempts"
        ),
        pytest.param(HOUR, HOUR / 2, False, False, id="older than retention, and than the first attempt that is kept"),
        pytest.param(math.inf, -HOUR, True, True, id="all attempts were deleted, by another hand"),
        pytest.param(math.inf, HOUR, False, False, id="all attempts were deleted by retention"),
    ],
)
def test_who_cannot_have_lost_an_attempt_to_retention_is_born_again(
    attempts_since: float, whole_since: float, is_born: bool, is_marked: bool
) -> None:
    now = NOW.timestamp()
    partition = a_partition(attempts_since=now + attempts_since, whole_since=now + whole_since)

    partition.request(a_record(REQUEST))

    assert shown(partition) == [(ID, Status.QUEUED, is_marked)] * is_born
    assert partition.forgotten == (not is_born)


def test_an_email_whose_attempts_are_known_is_not_marked() -> None:
    partition = a_partition(attempts_since=NOW.timestamp() + HOUR)
    partition.request(a_record(REQUEST))
    for record in (a_claim(), an_outcome()):
        partition.attempt(a_record(record))

    assert shown(partition) == [(ID, Status.SENT, False)]
