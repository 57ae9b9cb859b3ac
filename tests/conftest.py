"""What every test can ask for. Fixtures only open and close things; builders are in ``tests/support``."""

import os
from collections.abc import Generator, Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

import pytest

from mailstream.domain.errors import NoKafka
from mailstream.settings import PREFIX, Settings
from tests.support import broker
from tests.support.broker import Kafka
from tests.support.processes import Programs, programs_in
from tests.support.proxy import Proxy
from tests.support.system import some_settings, topics_of

PROGRAMS = pytest.StashKey[Programs]()
#: Lines of each program's log that a failed test shows.
LOG_LINES = 60


def pytest_report_header() -> str:
    """Say which broker the tests use."""
    return f"kafka: {broker.expected()}"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest (it has a time limit of its own), each beside a short one: xdist deals by twos."""
    limits = {item: marker.args[0] for item in items if (marker := item.get_closest_marker("timeout"))}
    short = [item for item in items if item not in limits]
    mixed = []
    for item in sorted(limits, key=lambda item: -limits[item]):
        mixed += [item, *short[:1]]
        del short[:1]
    items[:] = mixed + short


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the logs of the programs of a test that failed."""
    report = yield
    if report.failed and (programs := item.stash.get(PROGRAMS, None)):
        for program in programs.started:
            report.sections.append((f"log of {program.name}", program.last_lines(LOG_LINES)))
    return report


@pytest.fixture(autouse=True)
def _no_settings_of_the_developer(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith(PREFIX):
            monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kafka]:
    """A real broker for the whole session."""
    with ExitStack() as stack:
        yield _opened(stack, broker.shared_kafka(tmp_path_factory.mktemp("broker") / "kafka"))


@pytest.fixture
def own_kafka(tmp_path: Path) -> Iterator[Kafka]:
    """A broker of this test alone: kill it, pause it, start it again."""
    with ExitStack() as stack:
        yield _opened(stack, broker.own_kafka(tmp_path / "kafka"))


@pytest.fixture
def settings(kafka: Kafka) -> Iterator[Settings]:
    """A system of this test's own on the shared broker: its topics are there, and go when it ends."""
    mine = some_settings(kafka.bootstrap)
    with topics_of(mine):
        yield mine


@pytest.fixture
def programs(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Programs]:
    """Starts real processes; their logs are shown when the test fails."""
    with programs_in(tmp_path) as started:
        request.node.stash[PROGRAMS] = started
        yield started


@pytest.fixture(scope="session")
def proxied_kafka(kafka: Kafka, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kafka]:
    """A broker with a listener for a proxy: the shared one, unless that is not ours."""
    with ExitStack() as stack:
        if kafka.proxied is None:
            kafka = _opened(stack, broker.own_kafka(tmp_path_factory.mktemp("proxied") / "kafka"))
        yield kafka


@pytest.fixture
def kafka_proxy(proxied_kafka: Kafka) -> Iterator[Proxy]:
    """A proxy before ``proxied_kafka``. Clients that use its port are never told of another way."""
    assert proxied_kafka.proxied is not None
    with Proxy(proxied_kafka.proxied.advertised, proxied_kafka.proxied.port) as proxy:
        yield proxy


def _opened(stack: ExitStack, opening: AbstractContextManager[Kafka]) -> Kafka:
    """Without Kafka: skip on a developer's machine, and say what to start; fail in CI."""
    try:
        return stack.enter_context(opening)
    except NoKafka as error:
        if os.environ.get("CI"):
            pytest.fail(str(error))
        pytest.skip(str(error))
