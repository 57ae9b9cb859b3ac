"""What is written in one turn of the loop goes out at once: the server writes head and body of an answer separately.

Two calls of the system for each answer, and a client that is woken by half of it, cost a twentieth of an accept.
"""

import asyncio
from typing import Any, cast


class JoinedWrites(asyncio.Transport):
    """A transport that hands on to another one; what is written waits for the end of this turn."""

    def __init__(self, transport: asyncio.BaseTransport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport = cast(asyncio.Transport, transport)  # uvloop's own is none by its class
        self._loop = loop
        self._parts: list[bytes] = []
        self.abort = transport.abort  # type: ignore[method-assign]
        self.is_closing = transport.is_closing  # type: ignore[method-assign]
        self.pause_reading = transport.pause_reading  # type: ignore[method-assign]
        self.resume_reading = transport.resume_reading  # type: ignore[method-assign]

    def write(self, data: Any) -> None:
        """Send this with whatever else is written until the loop comes to it."""
        if not self._parts:
            self._loop.call_soon(self._flush)
        self._parts.append(data)

    def close(self) -> None:
        """Close when all has been sent."""
        self._flush()
        self._transport.close()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """What the other one knows."""
        return self._transport.get_extra_info(name, default)

    def _flush(self) -> None:
        parts, self._parts = self._parts, []
        if parts:
            self._transport.write(parts[0] if len(parts) == 1 else b"".join(parts))
