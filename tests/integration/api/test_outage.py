"""Brokers that are out of reach when the API starts, or for a while later: it says so, and goes on by itself."""

import time
from collections.abc import Iterator

import httpx
import pytest

from mailstream.settings import Settings
from tests.support.api import DEV, an_email
from tests.support.broker import Kafka
from tests.support.eventually import eventually_here
from tests.support.processes import Program, Programs
from tests.support.proxy import Proxy
from tests.support.system import some_settings, topics_of


@pytest.fixture
def away(proxied_kafka: Kafka, kafka_proxy: Proxy) -> Iterator[Settings]:
    """Topics that are there, to be reached through the proxy only."""
    direct = some_settings(proxied_kafka.bootstrap)
    with topics_of(direct):
        yield direct.model_copy(update={"kafka_bootstrap": f"127.0.0.1:{kafka_proxy.port}"})


def code_of(api: Program, path: str) -> int:
    """The answer to a GET; 0 when nobody listens."""
    try:
        return httpx.get(api.url + path, timeout=5, headers=DEV).status_code
    except httpx.HTTPError:
        return 0


def ask(api: Program) -> int:
    """The answer to an email."""
    return httpx.post(f"{api.url}/v1/emails", json=an_email(), headers=DEV, timeout=5).status_code


def test_an_api_starts_without_brokers_and_goes_on_when_they_come(
    programs: Programs, away: Settings, kafka_proxy: Proxy
) -> None:
    kafka_proxy.cut()
    api = programs.api(away)
    eventually_here(lambda: code_of(api, "/healthz") == 200, within_seconds=20, waiting_for="a process that listens")

    assert code_of(api, "/readyz") == 503
    assert ask(api) == 503

    kafka_proxy.mend()
    api.ready(seconds=30)
    assert ask(api) == 202


def test_topics_that_turn_out_to_be_wrong_end_the_process_with_the_reason(
    programs: Programs, away: Settings, kafka_proxy: Proxy
) -> None:
    kafka_proxy.cut()
    api = programs.api(away.model_copy(update={"partitions": away.partitions + 1}))
    eventually_here(lambda: code_of(api, "/healthz") == 200, within_seconds=20, waiting_for="a process that listens")

    kafka_proxy.mend()

    assert api.wait(seconds=30) == 1
    assert f"{away.topic_prefix}email.requested" in api.last_lines(20)


@pytest.mark.parametrize("seconds", [3, pytest.param(60, marks=pytest.mark.long)])
def test_an_api_outlives_an_outage(programs: Programs, away: Settings, kafka_proxy: Proxy, seconds: int) -> None:
    api = programs.api(away).ready()
    assert ask(api) == 202

    kafka_proxy.cut()
    began = time.monotonic()
    while time.monotonic() < began + seconds:
        assert code_of(api, "/healthz") == 200
        assert ask(api) == 503

    kafka_proxy.mend()
    eventually_here(lambda: ask(api) == 202, within_seconds=30, waiting_for="an accepted email")
    assert code_of(api, "/readyz") == 200
