"""What an email was when its record was first taken, for statuses that are made anew."""

import time
from dataclasses import replace
from unittest.mock import Mock

import pytest

from mailstream.clock import SystemClock
from mailstream.dead_letter import Reason
from mailstream.log.kafka import Kafka
from mailstream.settings import Settings
from mailstream.status import Status
from streams.accept import Accept
from streams.core.faults import Fault
from streams.core.groups import Groups
from tests.support.builders import HOME, ID, PARTITIONS, a_record, a_request
from tests.support.desk import Desk


@pytest.mark.parametrize(
    ("refused", "status"),
    [
        pytest.param(None, Status.QUEUED, id="it was taken"),
        pytest.param((Reason.EVENT_TOO_OLD, "late"), Status.REJECTED, id="it was read too late"),
        pytest.param((Reason.TEMPLATE_FAILED, "no such template"), Status.REJECTED, id="its template is there now"),
        pytest.param((Reason.ID_CONFLICT, "other content"), None, id="it was a repeat of a record that is gone"),
    ],
)
def test_what_was_refused_stays_refused(refused: Fault | None, status: Status | None) -> None:
    """Whoever was told so may have asked again under another id: taken now, it would be mailed a second time."""
    desk = Desk()
    desk.table.silent(HOME)
    accept = Accept(
        Kafka(Settings(partitions=PARTITIONS, _env_file=None)),
        publisher=Mock(),
        table=desk.table,
        projection=desk.projection,
        bodies=Mock(),
        rendering=Mock(),
        controls=Mock(),
        groups=Groups(),
        clock=SystemClock(),
        spawn=Mock(),
    )
    record = replace(a_record(a_request(id=ID)), timestamp_ms=int(time.time() * 1000))

    is_born = accept.bear_again(record, refused)

    shown = desk.table.get_status(ID)
    assert (shown and shown.status) is status
    assert is_born == (status is not None)
    if refused is not None and shown is not None:
        assert shown.timeline[-1].detail == f"{refused[0]}: {refused[1]}"
