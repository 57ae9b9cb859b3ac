"""How the parts of a worker begin and end: what fails ends the process, and a stop writes the last things last."""

import asyncio
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock, Mock

import pytest
from pydantic import SecretStr
from structlog.testing import capture_logs

from mailstream.clock import SystemClock
from mailstream.settings import Settings
from streams import wiring as wiring_module
from streams.faust_guards.app import GuardedApp
from streams.rendering import Rendering
from streams.statuses.table import StatusTable
from streams.wiring import Wiring
from tests.support.builders import PARTITIONS
from tests.support.eventually import eventually
from tests.support.memory_kafka import MemoryKafka
from tests.support.memory_log import MemoryLog


class Brokers(MemoryKafka):
    """Empty topics. It notes in which order its clients are closed."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings, MemoryLog(SystemClock(), partitions=PARTITIONS))
        self.happened: list[str] = []

    def producer(self, **more: Any) -> Any:
        return self._noted("last records", super().producer(**more))

    def tail(self, on_batch: Any, *, name: str, **more: Any) -> Any:
        return self._noted(f"{name} closed", super().tail(on_batch, name=name, **more))

    def offsets(self, group: str) -> Any:
        return self._noted("checkpoints closed", super().offsets(group))

    def _noted(self, what: str, client: Any) -> Any:
        close = client.close

        async def close_and_note(*how: Any, **more: Any) -> Any:
            self.happened.append(what)
            return await close(*how, **more)

        client.close = close_and_note
        return client


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(
        _env_file=None,
        data_dir=str(tmp_path),
        partitions=PARTITIONS,
        sendgrid_api_key=SecretStr("SG.x"),
        sender="a@b.c",
    )


@pytest.fixture
def app(settings: Settings) -> GuardedApp:
    made = GuardedApp(settings, "test")
    made.is_draining = False
    return made


def wired(app: GuardedApp, brokers: Brokers) -> Wiring:
    settings = brokers.settings
    made = Wiring(
        app, brokers, clock=SystemClock(), rendering=Rendering(settings), rules=None, request_retention=1e6,
        table=StatusTable(app, name="status", partitions=PARTITIONS),
    )  # fmt: skip
    app.add_dependency(made)
    return made


async def test_what_goes_on_by_itself_ends_the_process_when_it_fails(
    app: GuardedApp, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wiring_module.topics_watch, "LOOK_SECONDS", 0.01)
    brokers = Brokers(settings)
    brokers.require_topics = Mock(side_effect=ZeroDivisionError("a bug"))  # type: ignore[method-assign]
    parts = wired(app, brokers)
    with capture_logs() as lines:
        await parts.start()
        await eventually(lambda: app.crashed, within_seconds=5, waiting_for="the end of the worker")

    assert app.has_failed
    assert parts.clearance.why_not() == "draining", "nothing is called any more"
    assert [line["error"] for line in lines if line["event"] == "the worker ends"] == ["a bug"]
    await parts.stop()


async def test_a_stop_starts_nothing_more_then_writes_the_last_checkpoints_then_the_last_records(
    app: GuardedApp, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    brokers = Brokers(settings)
    parts = wired(app, brokers)
    note = brokers.happened.append
    stop, write = parts.dispatch.stop, parts.assignment.write_checkpoints
    monkeypatch.setattr(type(parts.dispatch), "stop", lambda _: (note("no more starts"), stop()))
    monkeypatch.setattr(type(parts.assignment), "write_checkpoints", lambda _: (note("last checkpoints"), write())[1])

    async def work() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            note("work ended")

    await parts.start()
    parts.accept._spawn(work())
    await asyncio.sleep(0)
    await parts.stop()

    assert brokers.happened == [
        "no more starts", "work ended", "last checkpoints", "ownership closed", "checkpoints closed",
        "suppressions closed", "last records",
    ]  # fmt: skip


async def test_a_stop_after_a_start_that_failed_closes_what_was_opened(app: GuardedApp, settings: Settings) -> None:
    brokers = Brokers(settings)
    parts = wired(app, brokers)
    parts.suppressions.load = AsyncMock(side_effect=ZeroDivisionError("a bug"))  # type: ignore[method-assign]

    with pytest.raises(ZeroDivisionError):
        await parts.start()
    await parts.stop()

    assert brokers.happened[-1] == "last records"
