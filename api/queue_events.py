"""The queue as a stream: a picture of it at most once a second, as the next turn moves with every look."""

import asyncio
from collections.abc import Callable

from api.answers import queue
from api.event_stream import event
from api.queue_view import QueueView

SECONDS = 1.0


class QueueEvents:
    """Sends the queue again when it has changed."""

    def __init__(self, view: QueueView) -> None:
        self._view = view
        self._sent: bytes | None = None
        self._is_due = True

    def take(self) -> bytes:
        """The queue as it is, unless it is as it was, or was told within this second."""
        if not self._is_due:
            return b""
        self._is_due = False
        now = queue(self._view.state())
        seen = now.model_dump_json(exclude={"lanes": {"__all__": {"oldest_age_seconds"}}}).encode()
        if seen == self._sent:
            return b""
        self._sent = seen
        return event("queue", now.model_dump_json().encode())

    def watch(self, wake: Callable[[], None]) -> Callable[[], None]:
        """Wake once a second."""
        loop = asyncio.get_running_loop()

        def tick() -> None:
            self._is_due = True
            wake()
            self._timer = loop.call_later(SECONDS, tick)

        self._timer = loop.call_later(SECONDS, tick)
        return lambda: self._timer.cancel()
