"""A client that costs little: keep-alive connections, one request at a time on each, raw HTTP/1.1.

Run as a process of its own, so that its work is not counted as the server's: reads one JSON job from stdin, prints one.
"""

import asyncio
import json
import sys
import time
from collections import Counter
from dataclasses import asdict, dataclass
from itertools import count
from typing import Any


@dataclass
class Job:
    """What to ask: ``paths`` are taken in turn by all connections."""

    host: str
    port: int
    method: str
    paths: list[str]
    body: str | None
    headers: dict[str, str]
    connections: int
    requests: int


class _Connection(asyncio.Protocol):
    """Sends the next request as soon as an answer is whole."""

    def __init__(self, load: "_Load") -> None:
        self._load = load
        self._buffer = b""
        self._began = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._next()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        head = self._buffer[:end].lower()
        at = head.find(b"content-length: ")
        length = int(head[at + 16 :].split(b"\r\n", 1)[0])
        if len(self._buffer) < end + 4 + length:
            return
        self._load.seconds.append(time.perf_counter() - self._began)
        self._load.statuses[self._buffer[9:12].decode()] += 1
        self._buffer = b""
        self._next()

    def _next(self) -> None:
        if (request := self._load.take()) is None:
            self._transport.close()
            return
        self._began = time.perf_counter()
        self._transport.write(request)

    def connection_lost(self, exc: Exception | None) -> None:
        self._load.ended(exc)


class _Load:
    def __init__(self, job: Job) -> None:
        self._job = job
        self._left = job.requests
        self._open = job.connections
        self._serial = count()
        self.seconds: list[float] = []
        self.statuses: Counter[str] = Counter()
        self.done = asyncio.get_running_loop().create_future()

    def take(self) -> bytes | None:
        if self._left == 0:
            return None
        self._left -= 1
        number = next(self._serial)
        path = self._job.paths[number % len(self._job.paths)]
        body = (self._job.body or "").replace("NUMBER", str(number)).encode()
        lines = [f"{self._job.method} {path} HTTP/1.1", f"Host: {self._job.host}", f"Content-Length: {len(body)}"]
        lines += [f"{name}: {value}".replace("NUMBER", str(number)) for name, value in self._job.headers.items()]
        return "\r\n".join([*lines, "", ""]).encode() + body

    def ended(self, error: Exception | None) -> None:
        self._open -= 1
        if self._open == 0 and not self.done.done():
            self.done.set_result(error)


async def run(job: Job) -> dict[str, Any]:
    """Ask all of it; returns times in seconds and counts."""
    load, loop = _Load(job), asyncio.get_running_loop()
    began = time.perf_counter()
    for _ in range(job.connections):
        await loop.create_connection(lambda: _Connection(load), job.host, job.port)
    await load.done
    took = time.perf_counter() - began
    seconds = sorted(load.seconds)
    return {
        "seconds": took,
        "answers": len(seconds),
        "statuses": dict(load.statuses),
        "p50": seconds[len(seconds) // 2],
        "p99": seconds[int(len(seconds) * 0.99)],
        "max": seconds[-1],
    }


def job_text(job: Job) -> str:
    """The job as the process reads it."""
    return json.dumps(asdict(job))


if __name__ == "__main__":
    print(json.dumps(asyncio.run(run(Job(**json.load(sys.stdin))))))
