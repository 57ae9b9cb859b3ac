"""Which loop a test of a port runs in."""

import asyncio
from collections.abc import Callable

import pytest
import uvloop


def pytest_asyncio_loop_factories(item: pytest.Item) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The calls to the provider run in the worker's own loop: its transports are not asyncio's."""
    is_provider = item.path.stem == "test_provider"
    return {"uvloop": uvloop.new_event_loop} if is_provider else {"asyncio": asyncio.new_event_loop}
