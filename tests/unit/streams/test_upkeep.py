"""Which statuses are forgotten, and when (amendments 4 and 24)."""

from datetime import timedelta
from unittest.mock import AsyncMock, Mock

import pytest
from msgspec import structs

from mailstream.status import Status, is_final
from streams.upkeep import Upkeep
from tests.support.builders import HOME, ID, NOW, PARTITIONS, a_status
from tests.support.system import some_settings

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

    await Upkeep(settings, table, Mock(), Mock(), groups, clock, request_retention=RETENTION).go_round()

    assert table.forget.call_args_list == ([((ID, HOME),)] if is_forgotten else [])
    assert groups.forget.called == is_forgotten
