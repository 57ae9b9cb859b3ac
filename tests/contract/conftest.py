"""Which loop a test of a port runs in, and the logs of which the same is claimed."""

import asyncio
from collections.abc import Callable, Iterator

import pytest
import uvloop

from tests.support.logs import InMemory, KafkaLog, Log
from tests.support.system import some_settings, topics_of


def pytest_asyncio_loop_factories(item: pytest.Item) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The calls to the provider run in the worker's own loop: its transports are not asyncio's."""
    is_provider = item.path.stem == "test_provider"
    return {"uvloop": uvloop.new_event_loop} if is_provider else {"asyncio": asyncio.new_event_loop}


@pytest.fixture(params=["kafka", "memory"])
def log(request: pytest.FixtureRequest) -> Log:
    """A log on real brokers, and one in memory: what is claimed of one must be true of the other."""
    return KafkaLog(request.getfixturevalue("settings")) if request.param == "kafka" else InMemory()


@pytest.fixture(params=["kafka", "memory"])
def log_that_can_be_cut(request: pytest.FixtureRequest) -> Iterator[Log]:
    """The same with a cable between the brokers and their clients."""
    if request.param == "memory":
        yield InMemory()
        return
    direct = some_settings(request.getfixturevalue("proxied_kafka").bootstrap)
    with topics_of(direct):
        yield KafkaLog(direct, request.getfixturevalue("kafka_proxy"))
