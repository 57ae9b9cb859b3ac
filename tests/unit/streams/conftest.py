"""Which loop a test runs in: with ``loop_factories=["instant"]`` one whose time passes when nothing is left to do."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from tests.support.instant_loop import InstantLoop
from tests.support.memory_worker import MemoryWorker, a_worker


def pytest_asyncio_loop_factories(item: pytest.Item) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """As the test's own mark says."""
    marker = item.get_closest_marker("asyncio")
    is_instant = marker is not None and "instant" in marker.kwargs.get("loop_factories", ())
    return {"instant": InstantLoop} if is_instant else {"asyncio": asyncio.new_event_loop}


@pytest.fixture
async def worker() -> AsyncIterator[MemoryWorker]:
    """A worker over a log in memory that owns all partitions, without a gap."""
    async with a_worker() as made:
        yield made
