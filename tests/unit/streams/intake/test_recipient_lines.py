"""What needs time holds up only what stands behind it for the same recipient."""

import asyncio
from collections.abc import Callable

import pytest

from streams.intake.recipient_lines import RecipientLines, Step

ADA, BOB = 1, 2


class Bench:
    """Lines whose steps write down their names; a slow one waits until it is let go."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.gates: dict[str, asyncio.Event] = {}
        self.tasks: list[asyncio.Task[None]] = []
        self.lines = RecipientLines(lambda work: self.tasks.append(asyncio.ensure_future(work)))

    def put(self, recipient: int | None, name: str, *, is_slow: bool = False) -> None:
        self.lines.put(recipient, self._slow(name) if is_slow else lambda: self.done.append(name))

    def _slow(self, name: str) -> Step:
        gate = self.gates[name] = asyncio.Event()

        async def work() -> Callable[[], None]:
            await gate.wait()
            return lambda: self.done.append(name)

        return work

    async def let_go(self, name: str) -> None:
        self.gates[name].set()
        for _ in range(3):
            await asyncio.sleep(0)


@pytest.fixture
async def bench() -> Bench:
    return Bench()


async def test_what_needs_no_time_is_done_at_once(bench: Bench) -> None:
    bench.put(ADA, "a")
    bench.put(None, "b")

    assert bench.done == ["a", "b"]


async def test_only_the_same_recipient_waits_and_in_order(bench: Bench) -> None:
    bench.put(ADA, "slow", is_slow=True)
    for name in ("second", "third"):
        bench.put(ADA, name)
    bench.put(BOB, "bob")
    bench.put(None, "about nobody")
    assert bench.done == ["bob", "about nobody"]

    await bench.let_go("slow")

    assert bench.done[2:] == ["slow", "second", "third"]
    bench.put(ADA, "later")
    assert bench.done[-1] == "later"


async def test_a_second_slow_one_holds_up_what_is_behind_it(bench: Bench) -> None:
    for name, is_slow in (("1", True), ("2", False), ("3", True), ("4", False)):
        bench.put(ADA, name, is_slow=is_slow)
    await bench.let_go("1")
    bench.put(ADA, "5")
    assert bench.done == ["1", "2"]

    await bench.let_go("3")

    assert bench.done == ["1", "2", "3", "4", "5"]


async def test_what_was_dropped_is_not_finished_and_holds_up_nothing(bench: Bench) -> None:
    bench.put(ADA, "old", is_slow=True)
    bench.put(ADA, "old, behind it")
    bench.lines.drop()

    bench.put(ADA, "new", is_slow=True)
    await bench.let_go("old")
    assert bench.done == []
    await bench.let_go("new")

    assert bench.done == ["new"]
