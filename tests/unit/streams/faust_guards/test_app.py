"""What the app does at a revoke, at the end of a recovery and at its stop, where Faust loses records or waits for ever."""

import asyncio
import os
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import faust
import pytest
from aiokafka.errors import CommitFailedError
from faust.types import TP

from mailstream.settings import Settings
from streams.faust_guards import app as guards
from streams.faust_guards.app import GuardedApp
from streams.faust_guards.settings import REBALANCE_SECONDS
from tests.support.eventually import eventually

HERE = TP("email.requested", 3)
LONGEST_CALL_SECONDS = 18.0


class Group:
    """The consumer as far as commits go."""

    def __init__(self) -> None:
        self.committed: list[dict[TP, int]] = []
        self.fails = False

    def assignment(self) -> set[TP]:
        return {HERE}

    async def _commit(self, offsets: dict[TP, int]) -> bool:
        if self.fails:
            raise CommitFailedError("the group has rebalanced")
        self.committed.append(offsets)
        return True


@pytest.fixture
def app() -> GuardedApp:
    made = GuardedApp(Settings(_env_file=None), "test")
    made.is_draining = False
    return made


def settle(app: GuardedApp, *offsets: int) -> None:
    """Take ten records, and finish these."""
    slots = [app.acks.add(HERE, offset) for offset in range(10)]
    for offset in offsets:
        slot = slots[offset]
        assert slot is not None
        app.acks.done(slot)


async def test_a_commit_never_passes_what_is_in_work(app: GuardedApp) -> None:
    group = Group()
    settle(app, 0, 1, 3, 4)

    await app._commit_heads(group, seconds=1)

    assert group.committed == [{HERE: 2}]


async def test_a_commit_that_fails_ends_nothing_and_is_tried_again(app: GuardedApp) -> None:
    group = Group()
    settle(app, 0, 1)
    group.fails = True
    await app._commit_heads(group, seconds=1)
    assert not app.has_failed

    group.fails = False
    await app._commit_heads(group, seconds=1)
    await app._commit_heads(group, seconds=1)

    assert group.committed == [{HERE: 2}]


async def test_a_revoke_commits_what_is_finished_and_waits_for_work_no_longer_than_its_limit(
    app: GuardedApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guards, "DRAIN_SECONDS", 0.1)
    group = Group()
    settle(app, 0, 1)
    app.on_drain.append(lambda: asyncio.sleep(60))

    await asyncio.wait_for(app._consumer_wait_empty(group, None), 5)

    assert group.committed == [{HERE: 2}]
    assert app.is_draining
    assert app.acks.pending() == 0


async def test_nothing_is_delivered_between_the_end_of_a_recovery_and_the_seek(app: GuardedApp) -> None:
    stopped: list[str] = []
    app._consumer = SimpleNamespace(stop_flow=lambda: stopped.append("consumer"))
    app.flow_control.resume()

    await app.on_rebalance_complete.send()

    assert stopped == ["consumer"]
    assert not app.flow_control.is_active()


async def test_a_stop_that_takes_too_long_ends_the_process_also_when_the_loop_is_blocked(
    app: GuardedApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    codes: list[int] = []
    monkeypatch.setattr(guards, "STOP_SECONDS", 0.1)
    monkeypatch.setattr(os, "_exit", codes.append)

    async def wait_for_a_broker(_: Any) -> None:
        time.sleep(0.5)

    monkeypatch.setattr(faust.App, "on_stop", wait_for_a_broker)
    app.in_worker = True

    await app.on_stop()

    assert codes == [1]


def test_the_limits_leave_room_for_each_other() -> None:
    assert LONGEST_CALL_SECONDS < guards.DRAIN_SECONDS < guards.STOP_SECONDS < REBALANCE_SECONDS


def test_the_table_is_not_served_to_the_network_though_the_command_of_faust_asks_for_it(app: GuardedApp) -> None:
    app.conf.web_enabled = True

    assert list(app.boot_strategy.web_server()) == []


async def test_no_folder_is_made(app: GuardedApp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    await app.on_first_start()

    assert list(tmp_path.iterdir()) == []


async def test_heads_are_committed_while_the_app_runs(app: GuardedApp, monkeypatch: pytest.MonkeyPatch) -> None:
    group = Group()
    app._consumer = group
    settle(app, 0)
    [commits] = [task for task in app._get_tasks() if "_commit_regularly" in task.fun.__qualname__]
    running = asyncio.create_task(commits.fun(app))

    await eventually(lambda: group.committed, within_seconds=5, waiting_for="a commit")

    app._stopped.set()
    await running
