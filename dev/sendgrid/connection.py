"""The HTTP connection under the app: when a request's first byte came, and ends that no ASGI app can make."""

import asyncio
import socket
import struct
import time
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

#: Where the app finds these two in the scope of a request.
CONNECTION, ARRIVED_NS = "mailstream.connection", "mailstream.arrived_ns"


class Connection(HttpToolsProtocol):
    """uvicorn's connection, which also stamps requests and can be cut or written to as it stands."""

    def on_message_begin(self) -> None:
        """Called by the parser at the first byte of a request."""
        arrived_ns = time.monotonic_ns()
        super().on_message_begin()
        scope: Any = self.scope
        scope[CONNECTION] = self
        scope[ARRIVED_NS] = arrived_ns

    def close_now(self) -> None:
        """Say farewell without an answer."""
        self.transport.close()

    def reset(self) -> None:
        """End the connection with a TCP reset."""
        sock = self.transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()

    async def drip(self, data: bytes, bytes_per_second: float) -> None:
        """Write slowly until all is out or the client has gone, then close."""
        for n in range(len(data)):
            if self.transport.is_closing():
                return
            self.transport.write(data[n : n + 1])
            await asyncio.sleep(1 / bytes_per_second)
        self.transport.close()
