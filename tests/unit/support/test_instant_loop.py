"""Time passes only when nothing is left to do, and a test that would never end fails."""

import asyncio
import time

import pytest

from tests.support import instant_loop
from tests.support.builders import NOW
from tests.support.instant_loop import InstantClock, InstantLoop


def run(work: object) -> object:
    with asyncio.Runner(loop_factory=InstantLoop) as runner:
        return runner.run(work)  # type: ignore[arg-type]


def test_an_hour_passes_in_no_time_and_in_order() -> None:
    woken: list[tuple[str, float]] = []

    async def sleeper(name: str, seconds: float) -> None:
        clock = InstantClock()
        await clock.sleep(seconds)
        woken.append((name, clock.now() - NOW.timestamp()))

    async def both() -> None:
        await asyncio.gather(sleeper("late", 3600), sleeper("soon", 60))

    began = time.monotonic()
    run(both())

    assert time.monotonic() - began < 5
    assert [name for name, _ in woken] == ["soon", "late"]
    assert [at for _, at in woken] == pytest.approx([60, 3600], abs=0.01)


def test_what_is_handed_to_a_thread_takes_no_time() -> None:
    async def asked() -> tuple[int, float]:
        clock = InstantClock()
        began = clock.monotonic()
        return await asyncio.to_thread(lambda: 7), clock.monotonic() - began

    answer, seconds = run(asked())  # type: ignore[misc]
    assert answer == 7
    assert seconds < 0.01


def test_an_error_of_a_thread_is_its_callers() -> None:
    async def asked() -> None:
        await asyncio.to_thread(lambda: 1 / 0)

    with pytest.raises(ZeroDivisionError):
        run(asked())


def test_who_waits_for_what_never_comes_is_told() -> None:
    async def never() -> None:
        await asyncio.get_running_loop().create_future()

    with pytest.raises(AssertionError, match="never comes"):
        run(never())


def test_who_never_comes_to_rest_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instant_loop, "MOST_TURNS", 1000)

    async def restless() -> None:
        while True:
            await asyncio.sleep(0)

    with pytest.raises(AssertionError, match="come to rest"):
        run(restless())


def test_a_wall_clock_is_set_and_the_other_goes_on() -> None:
    async def stepped() -> tuple[float, float]:
        clock = InstantClock()
        wall, monotonic = clock.now(), clock.monotonic()
        clock.step(-3600)
        return clock.now() - wall, clock.monotonic() - monotonic

    assert run(stepped()) == pytest.approx((-3600, 0), abs=0.01)
