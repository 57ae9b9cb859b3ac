"""A TCP proxy that breaks connections as networks do: cut, slow, or with every answer lost.

It runs on a thread of its own, so that tests may block. In front of Kafka give it a ``Proxied`` listener of the node.
"""

import asyncio
import contextlib
import threading
from collections.abc import Callable, Coroutine
from enum import Enum
from typing import Any, Self

HOST = "127.0.0.1"
CHUNK_BYTES = 65_536
SETTLING_TURNS = 10  #: of the loop, until a socket that was opened or aborted has come to be, or is gone


class Way(Enum):
    """A direction through the proxy."""

    REQUESTS = "from client to server"
    ANSWERS = "from server to client"


class Proxy:
    """Listens on ``port`` and passes on to ``target`` on loopback, until told to misbehave.

    What is changed counts at once for open connections and for new ones.
    """

    def __init__(self, port: int, target: int) -> None:
        self.port, self.target = port, target
        self.passed = dict.fromkeys(Way, 0)  #: bytes that went through
        self.lost = dict.fromkeys(Way, 0)  #: bytes that were swallowed
        self._is_cut = False
        self._delays = dict.fromkeys(Way, 0.0)
        self._dropping: set[Way] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._torn: set[asyncio.StreamWriter] = set()  #: of connections that lost bytes: useless after ``mend``
        self._serving: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=f"proxy-{port}", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._run(self._listen)
        return self

    def __exit__(self, *_: object) -> None:
        self._run(self._close)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def cut(self) -> None:
        """Reset every connection, and each new one at once: the server is alive and cannot be reached."""
        self._is_cut = True
        self._run(self._reset_all)

    def delay(self, seconds: float, *ways: Way) -> None:
        """Hold each chunk back that long, both ways when none is named."""
        for way in ways or Way:
            self._delays[way] = seconds

    def drop(self, way: Way = Way.ANSWERS) -> None:
        """Swallow everything of one direction; connections stay open. Requests arrive, and nobody hears of it."""
        self._dropping.add(way)

    def mend(self) -> None:
        """Behave again. Connections that lost bytes are reset: their stream makes no sense any more."""
        self._is_cut = False
        self._delays = dict.fromkeys(Way, 0.0)
        self._dropping.clear()
        self._run(self._reset_torn)

    def connections(self) -> int:
        """How many clients are connected."""
        return len(self._writers) // 2

    def _run(self, step: Callable[[], Coroutine[Any, Any, None]]) -> None:
        asyncio.run_coroutine_threadsafe(step(), self._loop).result(10)

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._accept, HOST, self.port)

    async def _close(self) -> None:
        assert self._server is not None
        self._is_cut = True
        for (
            listener
        ) in self._server.sockets:  # a server that closes forgets whom it has just accepted: let them in first
            self._loop.remove_reader(listener.fileno())
        for _ in range(SETTLING_TURNS):
            await asyncio.sleep(0)
        self._server.close()
        for task in self._serving:
            task.cancel()
        await self._reset_all()
        for _ in range(SETTLING_TURNS):
            await asyncio.sleep(0)

    async def _reset_all(self) -> None:
        for writer in self._writers:
            writer.transport.abort()

    async def _reset_torn(self) -> None:
        for writer in self._torn:
            writer.transport.abort()
        self._torn.clear()

    def _accept(self, client_in: asyncio.StreamReader, client_out: asyncio.StreamWriter) -> None:
        if self._is_cut:
            client_out.transport.abort()
            return
        self._writers.add(client_out)
        task = self._loop.create_task(self._serve(client_in, client_out))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)

    async def _serve(self, client_in: asyncio.StreamReader, client_out: asyncio.StreamWriter) -> None:
        both = {client_out}
        try:
            server_in, server_out = await asyncio.open_connection(HOST, self.target)
            both.add(server_out)
            self._writers.add(server_out)
            await asyncio.gather(
                self._pump(client_in, server_out, Way.REQUESTS, both),
                self._pump(server_in, client_out, Way.ANSWERS, both),
            )
        except (OSError, asyncio.CancelledError):
            pass  # nobody is behind it, or the proxy closes
        finally:
            self._writers -= both
            self._torn -= both
            for writer in both:
                writer.transport.abort()

    async def _pump(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, way: Way, both: set[asyncio.StreamWriter]
    ) -> None:
        with contextlib.suppress(OSError):
            while chunk := await source.read(CHUNK_BYTES):
                if self._delays[way]:
                    await asyncio.sleep(self._delays[way])
                if way in self._dropping:
                    self.lost[way] += len(chunk)
                    self._torn |= both
                    continue
                self.passed[way] += len(chunk)
                sink.write(chunk)
                await sink.drain()
            sink.write_eof()
