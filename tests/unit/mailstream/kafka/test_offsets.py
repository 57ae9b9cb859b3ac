"""Questions to the brokers about the log: they end when their caller is told to."""

import asyncio
from concurrent.futures import Future
from typing import Any
from unittest.mock import Mock

import pytest

from mailstream.kafka import offsets
from mailstream.kafka.offsets import LogEnds
from tests.support.system import some_settings


@pytest.mark.parametrize("turns", range(8))
async def test_a_stop_that_comes_together_with_an_answer_is_not_overlooked(
    monkeypatch: pytest.MonkeyPatch, turns: int
) -> None:
    """Found by an API that never stopped: its upkeep asked on, and the stop waited for it."""
    questions: list[Future[Any]] = []

    def list_offsets(asked: dict[Any, Any], **_: Any) -> dict[Any, Future[Any]]:
        questions.append(Future())
        return dict.fromkeys(asked, questions[-1])

    monkeypatch.setattr(offsets, "admin", Mock(return_value=Mock(list_offsets=list_offsets)))
    log_ends = LogEnds(some_settings("nobody:1", partitions=1))

    async def ask_for_ever() -> None:
        while True:
            await log_ends.last("email.status")

    asking = asyncio.create_task(ask_for_ever())
    await asyncio.sleep(0.01)
    questions[-1].set_result(Mock(offset=7))
    for _ in range(turns):
        await asyncio.sleep(0)
    asking.cancel()

    done, _ = await asyncio.wait({asking}, timeout=0.5)

    assert done, "the cancellation was swallowed"
