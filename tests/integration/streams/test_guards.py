"""Records that Faust passes over are noticed, wherever in the partition they lie."""

import uuid
from types import SimpleNamespace

import pytest
from faust.types import TP

from mailstream import topics
from mailstream.errors import OffsetGap
from mailstream.log.publish import Publisher
from mailstream.settings import Settings
from mailstream.topics import Naming
from streams.guards import GuardedApp, make_app


async def an_app(settings: Settings, records: int, *, committed: int | None) -> tuple[GuardedApp, TP]:
    """A worker's app that was just assigned a partition with that many records, and what its group has committed."""
    tp = TP(Naming(settings.topic_prefix).of(topics.REQUESTED), 0)
    publisher = Publisher(settings)
    for _ in range(records):
        await publisher.publish(tp.topic, b"{}", key=uuid.uuid4().bytes, partition=0)
    await publisher.close()
    app = make_app(settings, "guarded")
    app._consumer = SimpleNamespace(_committed_offset={tp: committed})
    app.is_draining = False
    return app, tp


@pytest.mark.parametrize("committed", [None, 1])
async def test_records_that_are_passed_over_before_the_first_one_end_the_worker(
    settings: Settings, committed: int | None
) -> None:
    app, tp = await an_app(settings, 3, committed=committed)

    with pytest.raises(OffsetGap):
        await app.admit(tp, 2)


@pytest.mark.parametrize(("committed", "first"), [(None, 0), (1, 1)])
async def test_the_first_record_that_was_not_settled_is_taken(
    settings: Settings, committed: int | None, first: int
) -> None:
    app, tp = await an_app(settings, 3, committed=committed)

    assert await app.admit(tp, first) is not None
    assert await app.admit(tp, first) is None  # it comes again
    assert await app.admit(tp, first + 1) is not None
