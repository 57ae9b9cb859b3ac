"""Which statuses are forgotten, and when."""

from datetime import timedelta
from unittest.mock import AsyncMock, Mock

import pytest
from msgspec import structs

from mailstream.domain import codec
from mailstream.domain.status import Status, is_final
from streams.maintenance.retention import Retention
from tests.support.builders import HOME, ID, NOW, PARTITIONS, a_request, a_status
from tests.support.system import some_settings
from tests.support.tables import a_table

RETENTION = 86_400.0 * 30


@pytest.mark.parametrize(
    ("status", "age_seconds", "is_forgotten"),
    [
        (Status.DELIVERED, RETENTION + 1, True),
        (Status.DELIVERED, RETENTION - 1, False),
        (Status.QUEUED, RETENTION * 2, False),
        (Status.HELD, RETENTION * 2, False),
    ],
)
async def test_an_email_is_forgotten_only_long_after_it_became_final(
    status: Status, age_seconds: float, *, is_forgotten: bool
) -> None:
    changed = NOW - timedelta(seconds=age_seconds)
    known = structs.replace(a_status(status, 1), updated_at=changed, created_at=NOW, request_at=NOW)
    table = Mock(
        statuses=Mock(return_value=[known]),
        owned=Mock(return_value={HOME}),
        partition_count=PARTITIONS,
        needs_body=lambda found: not is_final(found.status),
    )
    groups = Mock()
    clock = Mock(now=Mock(return_value=NOW.timestamp()), sleep=AsyncMock())
    settings = some_settings("nobody:1", status_retention=RETENTION)

    await Retention(settings, table, Mock(), Mock(), groups, clock, request_retention=RETENTION).go_round()

    assert table.forget.call_args_list == ([((ID, HOME),)] if is_forgotten else [])
    assert groups.forget.called == is_forgotten


@pytest.mark.parametrize(
    ("leader", "is_carried"),
    [
        pytest.param(Status.QUEUED, True, id="its digest is still to be made: of its body too"),
        pytest.param(Status.HELD, True, id="its digest may be made once more"),
        pytest.param(Status.SENT, False, id="its digest was taken"),
    ],
)
async def test_the_body_of_an_email_that_became_part_of_a_digest_is_kept_as_long_as_the_digests(
    leader: Status, *, is_carried: bool
) -> None:
    request = a_request(id=f"{ID}2")
    old = NOW - timedelta(seconds=RETENTION)
    part = structs.replace(
        a_status(Status.SUPPRESSED, 1, request=request), id=f"{ID}2", digested_into=ID, request_at=old, updated_at=NOW
    )
    table = a_table(Mock())
    publisher = Mock(publish=AsyncMock())
    table.gained({HOME})
    for status in (structs.replace(a_status(leader, 1), request_at=NOW), part):
        table.remember(status, codec.encode(status))
    bodies = Mock(get=AsyncMock(return_value=codec.encode(request)))
    clock = Mock(now=Mock(return_value=NOW.timestamp()), sleep=AsyncMock())

    await Retention(
        some_settings("nobody:1"), table, bodies, publisher, Mock(), clock, request_retention=RETENTION
    ).go_round()

    assert [codec.decode_requested(call.args[1]).id for call in publisher.publish.call_args_list] == (
        [part.id] if is_carried else []
    )
