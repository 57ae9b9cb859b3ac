"""The consumers of the transport `guarded://`, and that Faust finds it."""

import tomllib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from faust import transport
from faust.types import TP
from mode.utils.imports import symbol_by_name

from mailstream.settings import Settings
from streams.faust_guards.app import GuardedApp
from streams.faust_guards.settings import SCHEME
from streams.faust_guards.transport import ConsumerThread, Transport

PROJECT = Path(__file__).parents[4]


def test_faust_finds_the_transport_by_its_name() -> None:
    assert transport.by_url(f"{SCHEME}://127.0.0.1:9092") is Transport
    app = GuardedApp(Settings(_env_file=None, kafka_bootstrap="a:9092, b:9092"), "test")
    assert isinstance(app.transport, Transport)
    assert [f"{url.host}:{url.port}" for url in app.transport.url] == ["a:9092", "b:9092"]


def test_so_does_any_other_app_once_the_package_is_installed() -> None:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]

    assert symbol_by_name(project["entry-points"]["faust.transports"][SCHEME]) is Transport


@pytest.fixture
def thread() -> ConsumerThread:
    app = GuardedApp(Settings(_env_file=None), "test")
    made: ConsumerThread = app.consumer._thread
    return made


async def test_only_records_of_transactions_that_were_committed_are_read_and_no_fetch_waits_long(
    thread: ConsumerThread,
) -> None:
    consumer = thread._create_worker_consumer(thread.transport)

    assert consumer._isolation_level == "read_committed"
    assert consumer._fetch_max_wait_ms <= 100
    consumer._closed = True  # it never started


async def test_where_nothing_was_committed_reading_begins_with_the_first_record(
    thread: ConsumerThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, unread, empty = (TP("email.requested", number) for number in range(3))
    begun: list[TP] = []

    async def seek_to_committed() -> dict[TP, int | None]:
        return {read: 7, unread: None, empty: 0}

    async def seek_to_beginning(*partitions: TP) -> None:
        begun.extend(partitions)

    async def call(fun: Any, *args: Any) -> Any:
        return await fun(*args)

    thread._consumer = SimpleNamespace(seek_to_committed=seek_to_committed, seek_to_beginning=seek_to_beginning)
    monkeypatch.setattr(thread, "call_thread", call)

    assert await thread.seek_to_committed() == {read: 7, unread: None, empty: 0}
    assert begun == [unread, empty]


async def test_a_failed_commit_is_told_to_the_caller_and_crashes_no_thread(
    thread: ConsumerThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = TP("email.requested", 3)

    async def commit(_: object) -> None:
        raise ConnectionError

    thread._consumer = SimpleNamespace(commit=commit, assignment=lambda: {here})

    with pytest.raises(ConnectionError):
        await thread._commit({here: 7})

    assert not thread.crashed


async def test_a_stop_leaves_the_connections_to_the_thread_that_they_belong_to(thread: ConsumerThread) -> None:
    thread._consumer = SimpleNamespace()  # whatever is touched of it is an AttributeError

    thread.close()
