"""A seed decides what users do, however long anything takes."""

import asyncio
import contextlib
import random
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support import traffic
from tests.support.edge import STEP_SECONDS, Edge
from tests.support.run_log import RunLog
from tests.support.system import some_settings


class Notebook:
    """Stands for each of the callers: notes what was asked, and answers after some time."""

    def __init__(self, seconds: float) -> None:
        self.asked: dict[str, str] = {}
        self._seconds = seconds

    def __getattr__(self, name: str) -> Any:
        async def note(*arguments: Any, **members: Any) -> Any:
            to = members.get("to") or next((each for each in arguments if isinstance(each, str)), "")
            self.asked.setdefault(to, name)
            await asyncio.sleep(self._seconds)
            return [] if name == "ask_many" else None

        return note


@pytest.fixture(autouse=True)
def _hurried(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(traffic, "ACT_SECONDS", 0.001)
    return


async def _begun(monkeypatch: pytest.MonkeyPatch, seed: int, seconds: float) -> list[tuple[str, str]]:
    """Each mailbox and what was asked first about it, in the order in which that began."""
    book = Notebook(seconds)
    for name in ("ApiCaller", "KafkaCaller", "Shop"):
        monkeypatch.setattr(traffic, name, lambda *_: book)
    users = traffic.Traffic(some_settings("nowhere"), RunLog(), {}, random.Random(seed))
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(0.2):
            await users.go_on()
    for task in users._under_way:
        task.cancel()
    return [*book.asked.items()]


async def test_the_same_seed_does_the_same_whatever_answers_take(monkeypatch: pytest.MonkeyPatch) -> None:
    once, again = await _begun(monkeypatch, 1, 60.0), await _begun(monkeypatch, 1, 30.0)

    first = min(len(once), len(again))
    assert first > len(traffic.ACTS)
    assert once[:first] == again[:first]
    assert once[:first] != (await _begun(monkeypatch, 2, 60.0))[:first]


def test_an_edge_follows_who_wins() -> None:
    edge = Edge(random.Random(1))
    for code in (200, 200, 200, 409, None, 202):
        edge.learn(code)
    draws = [edge.draw() for _ in range(100)]
    assert min(draws) < 2 * STEP_SECONDS < max(draws)
