"""Callers that are slow, greedy or gone cost the others nothing."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import httpx
import pytest

from api import middleware, protocol, sse
from mailstream.domain.status import Fact, Status
from mailstream.settings import Settings
from tests.support.api import Api, Worker, a_server, a_status
from tests.support.eventually import eventually

POST = b"POST /v1/emails HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer dev\r\nContent-Length: 1000\r\n\r\n"


@contextlib.asynccontextmanager
async def a_connection(api: Api) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A socket to the API, for bytes that no client sends."""
    url = httpx.URL(str(api.http.base_url))
    reader, writer = await asyncio.open_connection(url.host, url.port)
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def answer_to(api: Api, *parts: bytes) -> bytes:
    """Send these bytes, then no more; what comes back until the connection is closed."""
    async with a_connection(api) as (reader, writer):
        for part in parts:
            writer.write(part)
            await writer.drain()
        async with asyncio.timeout(10):
            return await reader.read()


async def write_for_ever(writer: asyncio.StreamWriter) -> None:
    while True:
        writer.write(b"x" * 65_536)
        await writer.drain()


async def test_a_body_that_does_not_come_is_a_408(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(middleware, "BODY_SECONDS", 0.2)
    async with a_server(settings) as api:
        answer = await answer_to(api, POST, b'{"to": "a')

        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b'"code":"too_slow"' in answer


async def test_a_head_that_does_not_come_is_a_408(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 0.2)
    async with a_server(settings) as api:
        assert (await answer_to(api)).startswith(b"HTTP/1.1 408 ")
        assert (await answer_to(api, b"GET /healthz HTTP/1.1\r\nHost:")).startswith(b"HTTP/1.1 408 ")


async def test_a_connection_that_is_kept_open_may_rest(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 0.2)
    async with a_server(settings) as api, a_connection(api) as (reader, writer):
        for _ in range(2):
            writer.write(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
            assert (await reader.readuntil(b"}")).startswith(b"HTTP/1.1 200 ")
            await asyncio.sleep(0.5)


async def test_a_head_that_is_too_large_is_a_431(settings: Settings) -> None:
    async with a_server(settings) as api:
        answer = await answer_to(api, b"GET /healthz HTTP/1.1\r\nX: " + b"a" * 20_000 + b"\r\n\r\n")

        assert answer.startswith(b"HTTP/1.1 431 ")


async def test_a_body_that_grows_beyond_the_limit_is_a_413(settings: Settings) -> None:
    async with a_server(settings) as api:

        async def five_mebibytes() -> AsyncIterator[bytes]:
            for _ in range(80):
                yield b"x" * 65_536

        answer = await api.http.post("/v1/emails", content=five_mebibytes())

        assert answer.status_code == 413
        assert "1048576" in answer.json()["detail"]


async def test_a_body_without_end_is_refused_and_cut_off(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "LINGER_SECONDS", 0.2)
    async with a_server(settings) as api, a_connection(api) as (reader, writer):
        writer.write(POST.replace(b"1000", b"1073741824") + b"x" * 65_536)

        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 413 ")
        with pytest.raises(ConnectionError):
            await asyncio.wait_for(write_for_ever(writer), 10)


async def test_too_many_large_bodies_at_once_are_a_503(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(middleware, "BODIES_BYTES", 1500)
    async with a_server(settings) as api:
        async with a_connection(api) as (_, writer):
            writer.write(POST + b"x" * 900)
            await writer.drain()
            await eventually(lambda: api.edge.used == 900, waiting_for="the first body")

            async with a_connection(api) as (reader, second):
                second.write(POST + b"x" * 900)
                answer = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)

            assert answer.startswith(b"HTTP/1.1 503 ")
            assert b"retry-after: 1" in answer
        await eventually(lambda: api.edge.used == 0, waiting_for="room again")
        assert (await api.ask()).status_code == 202


async def test_callers_that_wait_for_ever_do_not_keep_others_from_an_answer(settings: Settings) -> None:
    async with a_server(settings) as api, contextlib.AsyncExitStack() as idle:
        for _ in range(300):
            _, writer = await idle.enter_async_context(a_connection(api))
            writer.write(POST + b'{"to":')

        async with asyncio.timeout(5):
            assert (await api.http.get("/healthz")).status_code == 200
            assert (await api.ask()).status_code == 202


async def test_a_listener_that_never_reads_is_cut_off_and_another_hears_all(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sse, "STALL_SECONDS", 0.3)
    async with a_server(settings) as api:
        worker, id_ = Worker(settings), (await api.ask()).json()["id"]
        status = a_status(id_)
        get = f"GET /v1/emails/{id_}/events HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer dev\r\n\r\n".encode()
        async with a_connection(api) as (_, deaf):
            deaf.write(get)
            await eventually(lambda: api.parts.streams.count() == 1, waiting_for="the stream")
            facts = list(status.timeline)
            for number in range(60):  # 40 entries of 60 kB each time: more than any socket buffers
                facts.append(Fact(at=status.created_at, what=f"{number}" + "x" * 15_000))
                await worker.publish(
                    a_status(id_, timeline=tuple(facts[-40:]), timeline_dropped=max(0, len(facts) - 40), control=number)
                )
            for number in range(60, 400):
                await worker.publish(
                    a_status(id_, timeline=tuple(facts[-40:]), timeline_dropped=40 * number, control=number)
                )
                if api.parts.streams.count() == 0:
                    break
            await eventually(lambda: api.parts.streams.count() == 0, waiting_for="the end of the deaf one")
        assert (await api.see(id_)).status_code == 200
        assert status.status is Status.QUEUED
        await worker.close()
