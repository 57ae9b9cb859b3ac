"""Work that goes on for as long as the process does."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any


def begun(work: Coroutine[Any, Any, None], failed: Callable[[Exception], None]) -> "asyncio.Task[None]":
    """Begin it. ``failed`` is told on the loop when it ends with an error: a process must not go on without it."""

    def ended(task: "asyncio.Task[None]") -> None:
        if not task.cancelled() and isinstance(error := task.exception(), Exception):
            failed(error)

    task = asyncio.create_task(work)
    task.add_done_callback(ended)
    return task
