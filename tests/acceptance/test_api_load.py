"""Many callers at once, greedy ones and deaf ones: memory stays flat, refusals are quick and honest."""

import asyncio
import contextlib
import resource
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import psutil
import pytest

from api import keys
from api.keys import Key, Scope, hash_of
from mailstream.domain import topics
from mailstream.domain.status import Fact
from mailstream.settings import Settings
from tests.benchmarks.load import Job, run
from tests.support.api import Worker, a_status
from tests.support.mail_system import KEY, MailSystem
from tests.support.processes import Program, Programs
from tests.support.whole_topic import whole_topic

CONNECTIONS, LISTENERS = 10_000, 500
HEALTH = b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"
MIB = 2**20


def an_api(programs: Programs, settings: Settings) -> Program:
    return programs.api(settings).ready()


def rss_mib(program: Program) -> float:
    return float(psutil.Process(program.pid).memory_info().rss) / MIB


async def health_seconds(api: Program, count: int) -> list[float]:
    """How long /healthz takes on connections of their own, in order."""
    found = []
    for _ in range(count):
        begun = time.perf_counter()
        reader, writer = await asyncio.open_connection("127.0.0.1", api.port)
        writer.write(HEALTH)
        assert (await reader.readuntil(b"}")).startswith(b"HTTP/1.1 200 ")
        found.append(time.perf_counter() - begun)
        writer.close()
        await writer.wait_closed()
    return sorted(found)


@contextlib.asynccontextmanager
async def idle_connections(api: Program, count: int) -> AsyncIterator[list[socket.socket]]:
    """Connections that have asked once and are kept open."""
    loop, opened = asyncio.get_running_loop(), []
    try:
        for begin in range(0, count, 100):
            some = [socket.socket() for _ in range(100)]
            opened += some
            for each in some:
                each.setblocking(False)
            await asyncio.gather(*(loop.sock_connect(each, ("127.0.0.1", api.port)) for each in some))
            await asyncio.gather(*(loop.sock_sendall(each, HEALTH) for each in some))
            answers = await asyncio.gather(*(loop.sock_recv(each, 4096) for each in some))
            assert all(answer.startswith(b"HTTP/1.1 200 ") for answer in answers), begin
        yield opened
    finally:
        for each in opened:
            each.close()


@pytest.mark.long
@pytest.mark.timeout(200)
async def test_ten_thousand_connections_cost_little_memory_and_keep_nobody_from_an_answer(
    programs: Programs, settings: Settings
) -> None:
    before, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < CONNECTIONS + 1000:
        pytest.skip(f"this machine gives a process {hard} files; raise its limit (ulimit -Hn)")
    resource.setrlimit(resource.RLIMIT_NOFILE, (CONNECTIONS + 1000, hard))
    try:
        api = an_api(programs, settings)
        empty, rss = rss_mib(api), []
        for _ in range(2):
            async with idle_connections(api, CONNECTIONS):
                await asyncio.sleep(6)  # longer than servers use to keep a connection that rests
                open_ = len(psutil.Process(api.pid).net_connections())
                seconds = await health_seconds(api, 100)
                rss.append(rss_mib(api))
            await asyncio.sleep(1)
        print(
            f"{open_} open, healthz p50 {seconds[50] * 1000:.1f} ms, max {seconds[-1] * 1000:.1f} ms, RSS {empty:.0f} → {rss}"
        )

        assert open_ >= CONNECTIONS
        assert seconds[98] <= 0.1
        assert rss[1] - empty <= 200
        assert rss[1] - rss[0] <= 20, "the second time costs nothing more"
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (before, hard))


@pytest.mark.long
async def test_ten_times_the_rate_of_a_key_is_refused_quickly_and_every_202_is_in_kafka(
    programs: Programs, settings: Settings, tmp_path: Path
) -> None:
    secret, file = keys.new_secret(), tmp_path / "keys.yaml"
    shop = Key(name="shop", sha256=hash_of(secret), tenant="shop", scopes=frozenset({Scope.SEND}), rate="100/second")
    keys.add_to_file(file, shop)
    api = an_api(programs, settings.model_copy(update={"api_keys_file": str(file)}))
    authorized = {"Authorization": f"Bearer {secret}"}
    body = '{"to": "userNUMBER@example.com", "subject": "Hello", "text": "Hello there"}'

    begun = time.monotonic()
    found = await run(Job("127.0.0.1", api.port, "POST", ["/v1/emails"], body, authorized, 8, 8000))
    took = time.monotonic() - begun
    async with httpx.AsyncClient(base_url=api.url, headers=authorized) as http:
        more = [await http.post("/v1/emails", content=body) for _ in range(150)]
    accepted = found["statuses"]["202"]
    refused = next(answer for answer in more if answer.status_code == 429)  # the window is full at the beginning
    print(f"{8000 / took:.0f} a second, {found['statuses']}, p99 {found['p99'] * 1000:.1f} ms")

    assert set(found["statuses"]) == {"202", "429"}
    assert 8000 / took >= 500, "the machine is too slow to ask often enough"
    assert accepted <= 100 * (took + 2)
    assert found["p99"] < 0.05
    assert {"ratelimit-limit", "ratelimit-remaining", "ratelimit-reset", "retry-after"} <= set(refused.headers)
    written = sum(1 for _ in whole_topic(settings, topics.REQUESTED))
    assert written == accepted + sum(answer.status_code == 202 for answer in more)


@pytest.mark.long
async def test_five_hundred_listeners_that_never_read_cost_little_and_the_others_hear_at_once(
    programs: Programs, settings: Settings
) -> None:
    system = MailSystem(programs, settings)
    system.api = api = an_api(programs, system.settings)
    id_ = system.ask()
    get = f"GET /v1/emails/{id_}/events HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer dev\r\n\r\n".encode()
    loop, worker, deaf = asyncio.get_running_loop(), Worker(settings), []
    for _ in range(LISTENERS):
        each = socket.socket()
        each.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        each.setblocking(False)
        await loop.sock_connect(each, ("127.0.0.1", api.port))
        await loop.sock_sendall(each, get)
        deaf.append(each)
    await asyncio.sleep(1)
    before, facts, late = rss_mib(api), list(a_status(id_).timeline), []

    async with (
        httpx.AsyncClient(base_url=api.url, headers=KEY, timeout=20) as http,
        http.stream("GET", f"/v1/emails/{id_}/events") as answer,
    ):
        lines = answer.aiter_lines()
        for number in range(40):
            facts.append(Fact(at=facts[0].at, what=f"fact-{number}-" + "x" * 2000))
            begun = time.perf_counter()
            await worker.publish(a_status(id_, timeline=tuple(facts), control=number))
            async with asyncio.timeout(10):
                async for line in lines:
                    if f"fact-{number}-" in line:
                        break
            late.append(time.perf_counter() - begun)
    grown = rss_mib(api) - before
    print(f"RSS + {grown:.0f} MiB, heard after p50 {sorted(late)[20] * 1000:.0f} ms, max {max(late) * 1000:.0f} ms")

    assert grown < 50
    assert max(late) < 1.0
    for each in deaf:
        each.close()
    await worker.close()
