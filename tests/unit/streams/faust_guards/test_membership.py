"""What a worker makes of aiokafka's part in its group: how fresh it is, and that it has ended."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import AsyncMock

import pytest
from aiokafka.client import AIOKafkaClient
from aiokafka.consumer.group_coordinator import CoordinatorGroupRebalance, GroupCoordinator
from aiokafka.consumer.subscription_state import SubscriptionState
from aiokafka.errors import GroupAuthorizationFailedError

from mailstream.clock import boot_time
from mailstream.domain.errors import NotCaughtUp
from mailstream.settings import Settings
from streams.faust_guards import membership
from streams.faust_guards.app import GuardedApp
from tests.support.eventually import eventually

GROUP = "email-worker"
REBALANCE_IN_PROGRESS, UNKNOWN_MEMBER = 27, 25


class Group:
    """aiokafka's own coordinator; the broker's answers are the test's, and time stands still until one comes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        self.heard: list[float] = []
        self.code = 0
        self.answer_takes = 0.0  #: seconds until the answer is handled: on its way, or in a process that is paused
        client = AIOKafkaClient(bootstrap_servers="127.0.0.1:1")
        monkeypatch.setattr(client, "send", self._answer)
        monkeypatch.setattr(membership, "boot_time", lambda: self.now)
        subscription = SubscriptionState()
        subscription.register_fetch_waiters(set())
        self.coordinator = GroupCoordinator(client, subscription, group_id=GROUP)
        self.coordinator.coordinator_id, self.coordinator.member_id, self.coordinator.generation = 1, "member-1", 3
        membership.note(self.coordinator, self.heard.append)

    async def _answer(self, *_: Any, **__: Any) -> Any:
        self.now += self.answer_takes
        return SimpleNamespace(error_code=self.code, member_assignment=b"")

    async def beat(self) -> bool:
        """One heartbeat, as aiokafka makes it: what it makes of the answer."""
        return bool(await self.coordinator._do_heartbeat())

    async def sync(self) -> object:
        """The second half of a join, as aiokafka makes it."""
        subscription: Any = SimpleNamespace(topics=[])
        join = CoordinatorGroupRebalance(self.coordinator, GROUP, 1, subscription, [], 6000, 100)
        return await join._on_join_follower()


@pytest.fixture
async def group(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Group]:
    made = Group(monkeypatch)
    yield made
    made.coordinator._coordination_task.cancel()
    await asyncio.wait([made.coordinator._coordination_task])


async def test_a_heartbeat_proves_membership_at_the_time_before_it_was_sent(group: Group) -> None:
    group.answer_takes = 5.0

    assert await group.beat()

    assert group.heard == [1000.0]


async def test_so_does_a_join_however_late_its_answer_is_handled(group: Group) -> None:
    group.answer_takes = 50.0  # the process is paused, and its partitions have gone to another by the time it wakes up

    assert await group.sync() is not None

    assert group.heard == [1000.0]


async def test_a_heartbeat_that_is_answered_rebalance_in_progress_proves_nothing(group: Group) -> None:
    group.code = REBALANCE_IN_PROGRESS

    assert await group.beat(), "aiokafka itself takes it for a good one, and goes on"

    assert group.heard == []


@pytest.mark.parametrize("code", [REBALANCE_IN_PROGRESS, UNKNOWN_MEMBER])
async def test_a_join_that_is_refused_proves_nothing(group: Group, code: int) -> None:
    group.code = code

    assert await group.sync() is None

    assert group.heard == []


async def test_an_assignment_alone_makes_no_worker_fresh(tmp_path: Path) -> None:
    app = GuardedApp(Settings(_env_file=None, data_dir=str(tmp_path)), "test")
    app.heard_at = boot_time() - 50

    await app._on_partitions_assigned(set())

    assert app.membership_age() >= 50


@pytest.mark.parametrize(("seconds", "leaves"), [(1000.0, True), (None, False)], ids=["stock", "ours"])
async def test_a_worker_that_takes_nothing_for_a_day_stays_in_its_group(
    group: Group, monkeypatch: pytest.MonkeyPatch, seconds: float | None, leaves: bool
) -> None:
    conf = GuardedApp(Settings(_env_file=None), "test").conf
    group.coordinator._max_poll_interval = seconds or conf.broker_max_poll_interval
    group.coordinator._heartbeat_interval_ms = 10
    monkeypatch.setattr(SubscriptionState, "fetcher_idle_time", 86_400.0)
    left: list[str] = []

    async def leave() -> None:
        left.append("left")

    monkeypatch.setattr(group.coordinator, "_maybe_leave_group", leave)
    monkeypatch.setattr(group.coordinator, "ensure_coordinator_known", AsyncMock())
    beating = asyncio.create_task(group.coordinator._heartbeat_routine())

    await eventually(lambda: len(group.heard) > 2, within_seconds=5, waiting_for="heartbeats")
    beating.cancel()
    await asyncio.wait([beating])

    assert bool(left) is leaves


# -- the end of it ----------------------------------------------------------------------------------------


def a_consumer(coordinator: Any) -> Any:
    fetcher = SimpleNamespace(_fetch_task=asyncio.ensure_future(asyncio.sleep(60)))
    return SimpleNamespace(_coordinator=coordinator, _fetcher=fetcher, _group_id=GROUP, _closed=False)


@pytest.fixture
def watched(group: Group) -> tuple[Any, list[Exception]]:
    consumer, failures = a_consumer(group.coordinator), list[Exception]()
    membership.watch(consumer, failures.append)
    return consumer, failures


async def test_an_error_that_aiokafka_keeps_for_itself_is_told(watched: tuple[Any, list[Exception]]) -> None:
    consumer, failures = watched

    pushed = asyncio.ensure_future(consumer._coordinator._push_error_to_user(GroupAuthorizationFailedError(GROUP)))
    await eventually(lambda: failures, waiting_for="a failure")

    assert not pushed.done(), "it waits for a call that Faust never makes"
    (failure,) = failures
    assert isinstance(failure, NotCaughtUp)
    assert "GroupAuthorizationFailedError" in str(failure)
    assert GROUP in str(failure)
    pushed.cancel()


@pytest.mark.parametrize("which", ["coordination", "reading"])
async def test_a_task_that_ends_is_told(watched: tuple[Any, list[Exception]], which: str) -> None:
    consumer, failures = watched
    task = consumer._coordinator._coordination_task if which == "coordination" else consumer._fetcher._fetch_task

    task.cancel()
    await eventually(lambda: failures, waiting_for="a failure")

    assert len(failures) == 1


async def test_a_consumer_that_was_stopped_has_not_failed(watched: tuple[Any, list[Exception]]) -> None:
    consumer, failures = watched

    consumer._closed = True
    consumer._coordinator._coordination_task.cancel()
    consumer._fetcher._fetch_task.cancel()
    await asyncio.wait([consumer._coordinator._coordination_task, consumer._fetcher._fetch_task])

    assert failures == []


async def test_a_crash_of_any_part_of_faust_starts_nothing_new(tmp_path: Path) -> None:
    app = GuardedApp(Settings(_env_file=None, data_dir=str(tmp_path)), "test")
    app.is_draining = False

    app._crash(RuntimeError("of a part of Faust"))

    assert app.is_draining
    await app._on_partitions_assigned(set())
    assert app.is_draining, "also when partitions come while it ends"
